"""The range of 16-bit grey that a model was trained on: kept with it, and taken wherever it is used."""

import json
import logging
import shutil

import pytest
import torch
from made_folder import refused
from made_sixteen import sixteen

from partialsym.ask.question import Question
from partialsym.cli.main import main
from partialsym.config import ConfigError, Experiment
from partialsym.data.reading import read_images
from partialsym.measure import logits
from partialsym.runs.run import Run
from partialsym.training.fit import load_data

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("sixteen")
    root = sixteen(place / "images", top=900, low=100)
    network = ["--model.group", "T2", "--model.width", "2", "--model.kernel_size", "3", "--model.hidden", "2"]
    brief = ["--training.epochs", "1", "--training.batch_size", "8", "--progress", "false"]
    where = ["--data", "folder", "--data.root", str(root), "--data.size", "12", "16"]
    assert main(["fit", "--out", str(place), "--name", "x", *network, *brief, *where]) == 0
    return root, Run(place / "x" / "seed0")


def test_prediction_and_evaluation_take_the_range_of_the_model(trained, tmp_path, capsys, caplog):
    root, run = trained
    model, data = run.model(), load_data(run.config().data)
    assert model.range == data.range
    assert data.size == (12, 16)
    assert json.loads((run.folder / "model" / "model.json").read_text())["range"] == list(data.range)
    files = sorted(root.glob("*/*.png"))
    images = read_images(files, model.size, 1, model.fit, model.range)
    tests = [int(((images - image) == 0).all((1, 2, 3)).nonzero()[0]) for image in data.test.images]  # exactly there
    shares = logits(model.model, data.test.images, model.preprocess).softmax(1)
    assert main(["predict", str(run.folder), *(str(files[i]) for i in tests), "--format", "json"]) == 0
    for row, share in zip(json.loads(capsys.readouterr().out), shares, strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(share.tolist(), abs=1e-6)
    assert not torch.equal(read_images(files, model.size, 1), images)  # a model without a range, of before
    other = sixteen(tmp_path / "images", top=40_000)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        main(["evaluate", str(run.folder), "--data.root", str(other)])
    assert f"{data.range[0]} becomes 0 and {data.range[1]} becomes 1, as given" in caplog.text
    assert "are beyond" in caplog.text


def test_a_record_without_a_range_is_of_all_16_bits_and_a_wrong_one_is_refused(trained, tmp_path):
    run = Run(shutil.copytree(trained[1].folder, tmp_path / "run"))
    path = run.folder / "model" / "model.json"
    record = json.loads(path.read_text())
    for held, expected in ((None, (0, 65535)), ([0, 9], (0, 9))):
        path.write_text(json.dumps(record | {"range": held}))
        assert run.model().range == expected
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "range"}))
    assert run.model().range == (0, 65535)
    for wrong in ([9, 0], [0], "ab", 5):
        path.write_text(json.dumps(record | {"range": wrong}))
        with refused("model.json is incomplete"):
            run.model()


def test_an_exported_file_is_told_the_range(trained, tmp_path, monkeypatch):
    told = {}

    def export(model, path, **about):
        told.update(about)
        path.touch()
        return 0.0

    monkeypatch.setattr("partialsym.cli.export.export", export)
    assert main(["export", str(trained[1].folder), "--out", str(tmp_path / "model.pt2")]) == 0
    assert told["range"] == trained[1].model().range


def test_another_range_is_another_run_and_another_question(trained, tmp_path):
    run = trained[1]
    config = run.config()
    tree = config.to_dict()
    tree["data"]["range"] = [0, 4095]
    other = Experiment.from_dict(tree)
    assert other.data.range == (0, 4095)
    with pytest.raises(ConfigError, match=r"data.range = None, but this run has \[0, 4095\]"):
        run.check(other, resume=True)
    asked = [Question.of(c.data, "Mirror", tmp_path / "ask", load_data(c.data)) for c in (config, other)]
    assert asked[0].digest != asked[1].digest
    assert asked[1].about()["data.range"] == [0, 4095]


def test_both_numbers_may_stand_apart_on_the_command_line(capsys):
    where = ["fit", "--name", "x", "--data", "folder", "--data.root", "x"]
    for pair in (["0", "4095"], ["[0,4095]"]):
        with pytest.raises(SystemExit):
            main([*where, "--data.range", *pair, "--print_config"])
        assert "range:\n  - 0\n  - 4095\n" in capsys.readouterr().out
    for wrong in (["9", "3"], ["-1", "3"], ["7"], ["a", "b"]):
        assert main([*where, "--data.range", *wrong]) == 1
        error = capsys.readouterr().err
        assert "range" in error
        assert error.count("\n") == 1
