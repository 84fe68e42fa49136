"""What the evaluation of a network costs, in images that pass through it."""

from dataclasses import replace

import pytest
from training import TINY

from partialsym.config import DataConfig
from partialsym.training.evaluation import evaluation, images_evaluated
from partialsym.training.fit import build_model, load_data

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


def test_own_images_have_no_pairs_whatever_their_name():
    data = load_data(PAIRS.data)
    assert images_evaluated(OWN.data, data) < 0.3 * images_evaluated(PAIRS.data, data)
