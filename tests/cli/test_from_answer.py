"""`fit --from`: the config that an answer recommends, and what it refuses."""

import json

import pytest
import yaml
from commands import refused
from training import TINY

from partialsym.cli.from_answer import EPOCHS, PATIENCE, config_from
from partialsym.config import ConfigError, Experiment


@pytest.fixture
def answer(tmp_path):
    """Writes the folder of an answer that recommends a run of these settings."""

    def write(**changed):
        folder = tmp_path / "my answer"
        run = folder / "runs" / "E2-full" / "seed0"
        run.mkdir(parents=True)
        tree = TINY.to_dict() | {"name": "E2-full"}
        tree["data"] |= {"train_images": 300}
        (run / "config.yaml").write_text("# format 2\n" + yaml.safe_dump(tree))
        advice = {"method": "E2-full", "run": "runs/E2-full/seed0", "sentence": "Build it in."}
        content = {"format": 1, "recommendation": advice, "images": {"train": 1000}, **changed}
        (folder / "answer.json").write_text(json.dumps(content))
        return folder

    return write


def test_the_recommended_network_trains_longer_on_all_images(answer):
    tree = config_from(answer())
    config = Experiment.from_dict(tree)
    assert config.name == "my_answer-E2-full"
    assert config.model == TINY.model.complete()
    assert config.data.train_images is None
    training = config.training
    assert (training.epochs, training.patience, training.select) == (EPOCHS, PATIENCE, "best")
    assert (training.class_weights, training.schedule, training.density_lr) == ("balanced", "cosine", 1e-2)
    assert training.repeats * 1000 >= 50 * training.batch_size > (training.repeats - 1) * 1000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 9}, "has format version 9: this version reads 1"),
        ({"recommendation": None, "problem": "These runs cannot be compared"}, "recommends no network: These runs"),
        ({"recommendation": {"method": None, "run": None, "sentence": "Nothing."}}, "recommends no network: Nothing."),
        ({"recommendation": {"run": "../elsewhere"}}, "names the run '../elsewhere': there is no such run"),
        ({"recommendation": {"run": "runs/none"}}, "names the run 'runs/none': there is no such run"),
    ],
)
def test_answers_that_recommend_nothing_are_refused(answer, changed, said, capsys):
    folder = answer(**changed)
    with pytest.raises(ConfigError, match=said.replace("(", "\\(")):
        config_from(folder)
    assert said in refused(capsys, "fit", "--from", folder)


def test_a_folder_without_an_answer_and_a_damaged_one_are_refused(answer, tmp_path, capsys):
    assert "has no answer.json: --from needs the folder" in refused(capsys, "fit", f"--from={tmp_path}")
    assert "--from needs the folder of an answer" in refused(capsys, "fit", "--from")
    folder = answer()
    (folder / "answer.json").write_text("{")
    assert "answer.json is damaged" in refused(capsys, "fit", "--from", folder)
    (folder / "answer.json").write_text("[]")
    assert "has format version None" in refused(capsys, "fit", "--from", folder)


def test_other_keys_change_what_an_answer_recommends(answer, tmp_path, monkeypatch):
    """Whether they come before --from or after it."""
    from partialsym.cli.main import main

    seen = []
    monkeypatch.setattr("partialsym.cli.fit.train", lambda config, *_, **__: seen.append(config))
    monkeypatch.setattr("partialsym.cli.fit._say", lambda run: None)
    assert main(["fit", "--training.epochs", "40", "--from", str(answer()), "--name", "mine"]) == 0
    (config,) = seen
    assert (config.name, config.training.epochs, config.training.patience) == ("mine", 40, PATIENCE)
    assert config.model == TINY.model.complete()
