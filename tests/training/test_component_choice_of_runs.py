"""Which components the networks of whole runs keep in eval mode, and where that is said."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from partialsym.cli.main import main
from partialsym.config import DataConfig, Experiment
from partialsym.data import load
from partialsym.measure import accuracy as right, logits
from partialsym.runs.run import Run
from partialsym.runs.schema import describe_choice
from partialsym.training import evaluation


@pytest.mark.long
def test_a_network_that_solved_mirrored_sixes_answers_so(tmp_path, capsys):
    """Trained briefly, every P(m) is above ½: with all of them the network is blind to mirroring, and guesses."""
    settings = {"model.group": "Mirror", "model.width": 4, "model.kernel_size": 5, "model.hidden": 8}
    settings |= {"training.epochs": 2, "training.repeats": 7, "training.batch_size": 32, "training.lr": 5e-3}
    settings |= {"training.density_lr": 1e-2, "training.precision": 32, "data.name": "digits-6-M", "name": "sixes"}
    options = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    assert main(["fit", *options, "--out", str(tmp_path)]) == 0
    run = Run(tmp_path / "sixes" / "seed0")
    result, trained = run.result(), run.model()
    p = [value for subset in result["subsets"] for key, value in subset.items() if key == "P(m)"]
    assert min(p) > 0.5
    assert result["components"]["by_probability"] == 0.5
    assert result["accuracy"]["test"] > 0.95
    ((name, kept),) = result["components"]["changed"].items()
    assert not kept
    assert (
        f"eval mode omits {name}. Accuracy on validation images: 50.0 % with all components of P > ½"
        in capsys.readouterr().out
    )

    data = load("digits-6-M")
    answers = logits(trained.model, data.test.images, trained.preprocess)
    assert right(answers, data.test.labels) == result["accuracy"]["test"]  # as `predict` and frozen files have it
    assert describe_choice(result).startswith(
        f"omits {name}. Accuracy on validation images: 50.0 % with all components of P > ½"
    )


def test_images_of_all_classes_choose(monkeypatch):
    """A folder's images come in the order of their classes."""
    seen = []
    monkeypatch.setattr(evaluation, "choose_components", lambda *args, **rest: seen.append(list(args[2])))
    monkeypatch.setattr(evaluation, "CHOOSING", 20)
    data = load("digits-6-M")
    validation = data.validation[data.validation.labels.argsort(stable=True)]
    config = Experiment("x", data=DataConfig("digits-6-M"))
    evaluation.choose(config, nn.Linear(1, 1), replace(data, validation=validation))
    labels = torch.cat([labels for _, labels in seen[0]])
    assert len(labels) == 20
    assert 5 < int(labels.sum()) < 15
