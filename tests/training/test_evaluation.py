"""What the evaluation of a network costs, in images that pass through it."""

import re
from dataclasses import replace

import pytest
import torch
from training import TINY, run

from partialsym.config import DataConfig
from partialsym.data import Preprocessing
from partialsym.measure import logits
from partialsym.runs.run import LoadedModel
from partialsym.training.behaviour import images_measured, measured
from partialsym.training.evaluation import evaluation, images_evaluated
from partialsym.training.fit import build_model, load_data
from partialsym.training.progress import log_images

PAIRS = replace(TINY, data=DataConfig("digits-6-180"))
OWN = replace(TINY, data=DataConfig(source="folder", root="mine-180"))  # a name like that of pairs


@pytest.mark.parametrize("config", [PAIRS, OWN])
def test_no_more_images_are_evaluated_than_are_said_to_be(config):
    data = load_data(PAIRS.data)
    data = replace(data, test=data.test[:20])
    model, seen = build_model(config.model, data.channels, len(data.classes)), []
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    evaluation(config, model, data, draws=2)
    said = images_evaluated(config.data, data, draws=2)
    recalibration = 2 * config.training.recalibration_images
    assert 0.5 * said < sum(seen) - len(data.validation) - recalibration <= said


@pytest.fixture
def counts(caplog, monkeypatch):
    """The numbers of images in the log, and the most there will be, once a line is due after every batch."""
    caplog.set_level("INFO", "partialsym.training.progress")
    monkeypatch.setattr("partialsym.training.progress.EVERY", 0)

    def read():
        found = re.findall(r": ([\d,]+) of at most ([\d,]+) images", caplog.text)
        return [tuple(int(number.replace(",", "")) for number in one) for one in found]

    return read


def test_a_training_says_how_far_its_evaluation_is(tmp_path, counts):
    few = replace(PAIRS.data, train_images=64, test_images=20)
    run(tmp_path, replace(PAIRS, data=few, training=replace(PAIRS.training, epochs=1)))
    images, most = zip(*counts(), strict=True)
    assert list(images) == sorted({*images})
    assert len({*most}) == 1
    assert 0.5 * most[0] < images[-1] <= most[0]


def test_a_report_says_how_far_it_has_measured(counts):
    data, trained = load_data(PAIRS.data), build_model(PAIRS.model, 1, 2).eval()
    loaded = LoadedModel(trained, Preprocessing(data.mean, data.std), data.classes, data.size)
    with log_images(trained, "measuring", images_measured(12)):
        measured(loaded, data.test[:12])
    images, most = zip(*counts(), strict=True)
    assert images[-1] == most[-1] == images_measured(12)
    trained(torch.zeros(1, 1, 28, 28))
    assert len(counts()) == len(images)  # the hook is removed


def test_a_short_evaluation_says_nothing(counts, monkeypatch):
    monkeypatch.setattr("partialsym.training.progress.EVERY", float("inf"))
    model = torch.nn.Flatten()
    with log_images(model, "evaluation", 4):
        model(torch.zeros(4, 1, 2, 2))
    assert counts() == []


def test_images_under_drawn_elements_are_of_all_classes_though_folders_list_them_class_by_class(monkeypatch):
    data = load_data(PAIRS.data)
    data = replace(data, test=data.test[data.test.labels.argsort(stable=True)])
    model, seen = build_model(PAIRS.model, data.channels, len(data.classes)), []
    monkeypatch.setattr("partialsym.training.evaluation.SAMPLED", 6)
    monkeypatch.setattr(
        "partialsym.training.evaluation.sampled_accuracies", lambda model, split, *_: seen.append(split.labels) or [0.5]
    )
    found = evaluation(OWN, model, data, draws=1)
    assert seen[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert found["images"]["test_sampled"] == 6
    answers = logits(model, data.test.images, Preprocessing(data.mean, data.std)).argmax(1) == data.test.labels
    same = torch.cat([answers[:3], answers[data.test.labels == 1][:3]])
    assert found["accuracy"]["test_unsampled"] == float(same.double().mean())


def test_own_images_have_no_pairs_whatever_their_name():
    data = load_data(PAIRS.data)
    assert images_evaluated(OWN.data, data) < 0.3 * images_evaluated(PAIRS.data, data)
