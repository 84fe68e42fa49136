"""Training from the weights of a saved network: what it starts from, where it goes on, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from commands import refused
from made_folder import flat
from torch import nn
from training import TINY, run, same, weights

import partialsym as ps
from partialsym.cli.main import main
from partialsym.config import ConfigError, Experiment, ModelConfig, lifted_settings
from partialsym.models.saving import StoreError
from partialsym.runs.run import Run
from partialsym.training import fit
from partialsym.training.fit import build_model
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
NORMALISED = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}


def plain(num_classes=2, *last):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, num_classes),
        *last,
    ).eval()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The working directory, with two classes of images, and a lifted network of two classes."""
    monkeypatch.chdir(tmp_path)
    flat(tmp_path / "images", a=10, b=10)
    network = ps.lift(plain(), "C4", example=torch.randn(2, 3, 9, 9))
    ps.save_model(network, tmp_path / "lifted", **NORMALISED)
    return tmp_path


COMMAND = ["fit", "--name", "tuned", "--data", "folder", "--data.root", "images", "--data.size", "9"]
COMMAND += ["--training.epochs", "1", "--training.batch_size", "4"]


@pytest.fixture
def starts(monkeypatch):
    """What networks and data a training starts from: (weights, train modes, mean of the data)."""
    seen, inner = [], fit._fit

    def start(config, run, model, data, *rest):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        seen.append((state, {module.training for module in model.modules()}, data.mean))
        return inner(config, run, model, data, *rest)

    monkeypatch.setattr(fit, "_fit", start)
    return seen


def test_a_lifted_network_is_trained_from_its_weights_and_its_run_is_like_every_other(folders, starts, capsys):
    assert main([*COMMAND, "--pretrained", "lifted"]) == 0
    held, _ = ps.load_model("lifted")
    (state, modes, mean) = starts[0]
    assert same(state, held.state_dict())
    assert modes == {True}
    assert mean == (0.4, 0.5, 0.6)

    run = Run(folders / "runs" / "tuned" / "seed0")
    assert not same(weights(run), state)
    model = run.config().model
    assert (model.network, model.group, model.samples, model.partial) == ("Lifted", "C4", 4, True)
    assert model.pretrained == "lifted"
    assert run.model().preprocess.mean == (0.4, 0.5, 0.6)
    assert len(run.result()["pretrained"]["sha256"]) == 64

    shutil.rmtree("lifted")  # nothing that is done with a run needs it
    capsys.readouterr()
    assert main(["evaluate", "runs/tuned/seed0"]) == 0
    test = run.result()["accuracy"]["test"]
    assert f"{100 * test:.2f} %" in capsys.readouterr().out
    assert main(["check", "runs/tuned/seed0"]) == 0
    assert main(["report", "runs/tuned/seed0", "--out", "page.html"]) == 0
    assert run.result()["pretrained"]["sha256"] in (folders / "page.html").read_text(encoding="utf-8")
    assert main(["export", "runs/tuned/seed0", "--out", "tuned.pt2"]) == 0
    assert main(["predict", "runs/tuned/seed0", "images/a/000.png"]) == 0
    loaded, record = ps.load_model("runs/tuned/seed0")
    assert (type(loaded).__name__, record["classes"]) == ("Lifted", ["a", "b"])


@pytest.mark.long
def test_a_run_goes_on_where_the_pretrained_model_is_not(folders, monkeypatch, capsys):
    assert main([*COMMAND, "--pretrained=lifted", "--out", "whole"]) == 0

    def stop(self, batch, index):
        raise KeyboardInterrupt("stopped")

    with monkeypatch.context() as stopped:
        stopped.setattr(ClassifierModule, "training_step", stop)
        assert main([*COMMAND, "--pretrained", "lifted"]) != 0  # before its first checkpoint
    again = [*COMMAND, "--pretrained", "lifted", "--resume"]
    shutil.move("lifted", "aside")
    capsys.readouterr()
    assert "lifted does not exist: model.pretrained must be a folder" in refused(capsys, *again)
    ps.save_model(ps.lift(plain(), "C4", example=torch.randn(2, 3, 9, 9), margin=1), "lifted")
    assert "has started from another model than lifted is now: cannot resume" in refused(capsys, *again)
    shutil.rmtree("lifted")
    assert main(["fit", "--config", "runs/tuned/seed0/config.yaml", "--resume"]) == 0
    resumed, whole = (Run(folders / out / "tuned" / "seed0") for out in ("runs", "whole"))
    assert same(weights(resumed), weights(whole))
    assert resumed.result()["pretrained"] == whole.result()["pretrained"]


def test_a_new_last_layer_for_other_classes_leaves_the_rest(folders, caplog):
    caplog.set_level("INFO")
    held, config = ps.load_model("lifted")[0].state_dict(), ModelConfig(**lifted_settings("lifted"))
    network = build_model(config, 3, 3)
    assert "the last layer is new: it has 3 classes, and that of the pretrained model has 2" in caplog.text
    state = network.state_dict()
    changed = {key for key, value in held.items() if not same({"": value}, {"": state[key]})}
    assert changed == {"layers.6.local.kernel.linear.weight", "layers.6.local.bias"}
    assert network(torch.randn(2, 3, 9, 9)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--model.group", "SE2"],
            "model.group is 'SE2': must be left out, or 'C4' as in the lifted network of lifted",
        ),
        (["--model.network", "CNN3"], "model.network is 'CNN3': must be left out, or 'Lifted'"),
        (["--model.samples", "8"], "model.samples is 8: must be left out, or 4"),
        (["--model.partial", "false"], "model.partial is False: must be left out, or True"),
        (["--model.width", "8"], "model.width is 8: must be left out: Lifted has no such setting"),
        (
            ["--data.channels", "1"],
            "lifted takes images with 3 channels, but those of data have 1: for own images, give",
        ),
        (["--pretrained", "nothing"], "nothing does not exist: model.pretrained must be a folder that ps.save_model"),
        (["--pretrained", "images/a/000.png"], "images/a/000.png is no saved model: model.pretrained must be"),
        (["--pretrained", ""], "model.pretrained must be a folder"),
    ],
)
def test_what_contradicts_the_pretrained_model_is_refused_by_name(folders, capsys, options, said):
    assert said in refused(capsys, *COMMAND, "--pretrained", "lifted", *options)
    assert not (folders / "runs").exists()


def test_damaged_files_are_refused_in_a_line(folders, capsys):
    command = [*COMMAND, "--pretrained", "lifted"]
    record = folders / "lifted" / "model.json"
    content = json.loads(record.read_text())
    (file,) = (folders / "lifted").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    assert "is damaged: its sha256 is" in refused(capsys, *command)
    for damage in ({"settings": 3}, {"settings": content["settings"] | {"group": 5}}, {"model": None}):
        record.write_text(json.dumps(content | damage))
        refused(capsys, *command)
    record.write_text("{")
    assert "model.json is not a model record" in refused(capsys, *command)
    (folders / "run.yaml").write_text("name: x\nmodel: {network: Lifted}\n")
    assert "model.network is 'Lifted': must be left out: model.pretrained" in refused(
        capsys, "fit", "--config", "run.yaml"
    )


def test_an_answer_gives_data_and_training_and_the_group_must_agree(folders, capsys, monkeypatch):
    answer = folders / "answer"
    (answer / "runs" / "m" / "seed0").mkdir(parents=True)
    tree = TINY.to_dict() | {"name": "m"}

    def write(group):
        tree["model"] |= {"group": group}
        (answer / "runs" / "m" / "seed0" / "config.yaml").write_text("# format 2\n" + json.dumps(tree))

    advice = {"run": "runs/m/seed0", "sentence": "Build it in."}
    (answer / "answer.json").write_text(json.dumps({"format": 1, "recommendation": advice, "images": {"train": 9}}))
    command = ["fit", "--from", "answer", "--pretrained", "lifted"]
    write("E2")
    said = "answer recommends a network on E2, and lifted holds one that was lifted to C4: lift it to E2, or leave out"
    assert said in refused(capsys, *command)
    write("C4")
    seen = []
    monkeypatch.setattr("partialsym.cli.fit.train", lambda config, *_, **__: seen.append(config))
    monkeypatch.setattr("partialsym.cli.fit._say", lambda run: None)
    assert main(command) == 0
    (config,) = seen
    assert config.model == ModelConfig(**lifted_settings("lifted"))
    assert (config.data.name, config.training.patience, config.training.density_lr) == ("digits-6-M", 15, 1e-2)


@pytest.mark.long
def test_any_network_starts_from_one_with_the_same_settings(tmp_path, starts):
    short = replace(TINY, training=replace(TINY.training, epochs=1))
    ps.save_model(build_model(TINY.model, 1, 2), tmp_path / "first")
    first = ps.load_model(tmp_path / "first")[0].state_dict()
    tuned = replace(short, name="tuned", model=replace(TINY.model, pretrained=str(tmp_path / "first")))
    assert Experiment.from_dict(tuned.to_dict()) == tuned
    run(tmp_path, tuned)
    assert same(starts[0][0], first)
    with pytest.raises(ConfigError, match=r"model.pretrained = 'a model', but this run has None: cannot resume"):
        run(tmp_path, replace(tuned, model=TINY.model), resume=True)
    for changed, said in (
        ({"width": 3}, "model.width is 3: must be 2, as in "),
        ({"group": "SE2"}, "model.group is 'SE2': must be 'E2', as in "),
        (
            {"network": "CNN3", "pools": None, "width": None, "hidden": None, "head": None},
            "the keys of model make a GCNN3: ",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            build_model(replace(tuned.model, **changed), 1, 2)
    network = build_model(tuned.model, 1, 5)
    assert network.classifier.out_features == 5
    kept = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}
    assert same(kept, {key: value for key, value in first.items() if key in kept})


def test_an_augerino_starts_from_another(tmp_path):
    config = replace(TINY.model, group="T2", samples=1, augerino="SE2", copies=2)
    ps.save_model(build_model(config, 1, 2), tmp_path)
    again = build_model(replace(config, pretrained=str(tmp_path)), 1, 2)
    assert same(again.state_dict(), ps.load_model(tmp_path)[0].state_dict())
    with pytest.raises(ConfigError, match=r"model\.copies is 4: must be 2"):
        build_model(replace(config, pretrained=str(tmp_path), copies=4), 1, 2)


def test_the_softmax_of_a_lifted_network_is_left_out_and_answers_per_pixel_are_refused(tmp_path):
    images = torch.randn(2, 3, 9, 9)
    network = ps.lift(plain(2, nn.Softmax(1)), "C4", example=images)
    ps.save_model(network, tmp_path / "softmax")
    config = ModelConfig(**lifted_settings(tmp_path / "softmax"))
    logits = build_model(config, 3, 2).eval()
    with torch.no_grad():
        torch.testing.assert_close(logits(images).softmax(1), network(images))
    maps = nn.Sequential(*plain()[:4], nn.Conv2d(4, 2, 1)).eval()
    ps.save_model(ps.lift(maps, "C4", example=images), tmp_path / "maps")
    with pytest.raises(ConfigError, match="answers pixel by pixel: train it in a loop of your own"):
        build_model(ModelConfig(**lifted_settings(tmp_path / "maps")), 3, 2)


def test_a_model_with_another_normalisation_than_its_channels_is_refused(folders, capsys):
    ps.save_model(ps.load_model("lifted")[0], "one", mean=[0.5], std=[0.2])
    assert "was saved with an invalid mean or std" in refused(capsys, *COMMAND, "--pretrained", "one")


def test_a_record_that_names_weights_elsewhere_is_not_copied(folders):
    from partialsym.models.saving import copy_model

    record = folders / "lifted" / "model.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"weights": "../images/a/000.png"}))
    with pytest.raises(StoreError, match="no such file beside it"):
        copy_model(record, folders / "copy")
    assert not (folders / "copy").exists()
