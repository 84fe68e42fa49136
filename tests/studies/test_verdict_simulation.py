"""The simulated trainings have the truth they are said to have, and the committed ones meet what is required."""

import numpy as np
import pytest

from partialsym.ask.schedule import STRICT
from partialsym.runs.schema import read_json
from studies.verdict_simulation import (
    FEWEST,
    IMAGES,
    MAIN,
    MOST,
    PROCESSES,
    RESULT,
    SEEDS,
    SPREADS,
    STOPPING,
    cell,
    folded,
    until_closed,
)

EVERY = {"main": MAIN, **PROCESSES}


def balanced(right, labels):
    return np.mean([right[:, labels == k].mean(1) for k in np.unique(labels)], axis=0)


@pytest.mark.parametrize("name", EVERY)
def test_accuracies_and_their_spread_are_those_named(name):
    process = EVERY[name]
    first, second, labels, _ = process.draw(np.random.default_rng(0), 0.01, 0.02 / 3, 2000, 400)
    for right, mean in ((first, process.accuracy + 0.01), (second, process.accuracy)):
        assert balanced(right, labels).mean() == pytest.approx(mean, abs=4 * error(right, labels))
    spreads = [np.std(balanced(right, labels)) for right in (first, second)]
    noise = [
        np.sqrt(right[:, labels == k].var(0).mean() / (labels == k).sum()) for right in (first, second) for k in (0,)
    ]
    assert max(spreads) < 0.02 + max(noise)
    assert min(spreads) > 0.003


def error(right, labels):
    """Standard error of a mean over runs, between images."""
    shares = [right[:, labels == k].mean(0) for k in np.unique(labels)]
    return np.sqrt(sum(s.var() / len(s) for s in shares)) / len(shares)


def test_a_cell_repeats_to_the_digit():
    (held,) = [
        c for c in read_json(RESULT)["cells"] if (c["seeds"], c["images"], c["spread"], c["gain"]) == (3, 200, 0.5, 0)
    ]
    again = cell(MAIN, 3, 200, 0.5, 0.0, 200)
    assert again == cell(MAIN, 3, 200, 0.5, 0.0, 200)
    for share in ("coverage", "helps", "costs"):
        assert again[share] == pytest.approx(held[share], abs=0.05)
    assert again["half_width"] == pytest.approx(held["half_width"], rel=0.05)


def test_the_committed_simulation_meets_what_is_required():
    cells = {(c["seeds"], c["images"], c["spread"], c["gain"]): c for c in read_json(RESULT)["cells"]}
    assert {key[:3] for key in cells} == {(s, n, spread) for s in SEEDS for n in IMAGES for spread in SPREADS}
    for key, found in cells.items():
        assert found["trials"] >= 2000
        assert 0.93 <= found["coverage"] <= 0.98, key
        if key[3] == 0:
            assert max(found["helps"], found["costs"]) <= 0.035, key
    assert min(cells[3, 500, spread, 5.0]["helps"] for spread in SPREADS) >= 0.75
    assert min(cells[5, 2000, spread, 3.0]["helps"] for spread in SPREADS) >= 0.9


def test_stopping_at_a_stricter_level_repeats_in_small():
    """Of 100 trials: what is committed, within four standard errors; runs are added only while it is open."""
    strict, early = (until_closed(MAIN, 200, 0.5, 3.0, level, 100) for level in (STRICT, 0.95))
    held = {(c["images"], c["spread"], c["gain"], c["level"]): c for c in read_json(STOPPING)["open"]}
    for found in (strict, early):
        committed = held[200, 0.5, 3.0, found["level"]]
        for share in ("coverage", "helps"):
            assert found[share] == pytest.approx(committed[share], abs=0.2)
        assert FEWEST <= found["seeds"] <= MOST
    assert early["seeds"] < strict["seeds"]
    assert until_closed(MAIN, 200, 0.5, 30.0, STRICT, 5)["seeds"] == FEWEST


def test_stopping_keeps_the_stated_coverage():
    found = read_json(STOPPING)["open"]
    strict, early = ([c for c in found if c["level"] == level] for level in (STRICT, 0.95))
    for c in strict:
        assert c["trials"] >= 500
        assert 0.93 <= c["coverage"] <= 0.985, c
        if c["gain"] == 0:
            assert max(c["helps"], c["costs"]) <= 0.045, c  # 3.5 % and what 500 trials may add
    equal = [c["helps"] + c["costs"] for c in early if c["gain"] == 0]
    assert max(equal) > 0.07, "to stop at the first 95 % interval would do as well: the stricter level is for nothing"


def test_folds_keep_the_stated_coverage():
    for c in read_json(STOPPING)["folds"]:
        assert 0.92 <= c["coverage"] <= 0.985, c
        assert c["half_width"] < 1.5 * c["needed_half_width"]
        if c["gain"] == 0 and c["unequal"] == 1:
            assert max(c["helps"], c["costs"]) <= 0.045, c  # 3.5 % and what 500 trials may add
    (held,) = [c for c in read_json(STOPPING)["folds"] if (c["seeds"], c["images"], c["gain"]) == (3, 300, 0)]
    again = folded(3, 300, held["spread"], 1.0, 0.0, 100)
    assert again["half_width"] == pytest.approx(held["half_width"], rel=0.1)
