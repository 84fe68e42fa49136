"""Numbers by angle, and the report's CSV files."""

import csv
import io

import numpy as np
import pytest
from fake_results import LAYERS, history, result
from reports import ANGLES, TURNS, behaved, write_run

from partialsym.report.collect import gather
from partialsym.report.curves import SHOWN, circle, curves, named, strongest
from partialsym.report.payload import payload
from partialsym.report.tables import tables
from partialsym.report.verdicts import judge


@pytest.fixture
def methods(tmp_path):
    runs = [
        write_run(tmp_path, result(name, seed=seed, run=name, theta=60.0 + seed), behaved(shift=seed / 100))
        for name in ("SE2", "T2")
        for seed in range(2)
    ]
    return gather(runs)


def read(methods, name):
    return list(csv.DictReader(io.StringIO(tables(judge(methods))[f"{name}.csv"])))


def test_the_circle_goes_from_half_a_turn_to_half_a_turn():
    assert circle([0.0, 90.0, 180.0, 270.0]) == [(-180.0, 2), (-90.0, 3), (0.0, 0), (90.0, 1), (180.0, 2)]
    assert circle([0.0, 120.0, 240.0]) == [(-120.0, 2), (0.0, 0), (120.0, 1)]


def test_many_classes_are_the_true_one_the_strongest_and_the_rest(tmp_path):
    names = [f"k{i}" for i in range(100)]
    behaviour = behaved(names, of=200)
    behaviour["responses"]["mirrored"][7][3][5] = 0.9
    (method,) = gather([write_run(tmp_path, result(), behaviour)])
    shown = strongest([method])[7]
    assert shown == [7, 3, 99, 98, 97]
    assert named(behaviour, shown) == ["k7", "k3", "k99", "k98", "k97", "other classes together"]
    assert len(named(behaviour, shown)) == SHOWN
    np.testing.assert_allclose(np.sum(curves(behaviour, 7, shown, False), 0), 1, atol=1e-3)


def test_few_classes_are_all_shown(methods):
    assert strongest(methods) == {0: [0, 1], 1: [1, 0]}
    behaviour = methods[0].seeds[0].behaviour
    assert named(behaviour, [1, 0]) == ["dog", "cat"]


def test_what_the_scripts_get_is_what_was_measured(methods):
    found = payload(methods)
    behaviour = methods[0].seeds[1].behaviour
    seed = found["methods"][0]["seeds"][1]
    assert (found["angles"][0], found["angles"][12], found["angles"][-1]) == (-180, 0, 180)
    for label in (0, 1):
        for k, other in enumerate((label, 1 - label)):
            for mirrored, key in enumerate(("mean", "mirrored")):
                own = behaviour["responses"][key][label][other]
                made = seed["responses"][label][mirrored][k]
                np.testing.assert_allclose(made[12:], [*own[:12], own[12]], atol=1e-4)
                np.testing.assert_allclose(made[:12], own[12:], atol=1e-4)
    assert seed["unchanged"][0][12:15] == [1, 0.99, 0.98]
    assert seed["unchanged"][1][11] == pytest.approx(0.5 - 0.23)
    assert found["turns"] == TURNS
    assert list(seed["errors"]) == [*LAYERS, "output"]
    assert seed["errors"]["output"]["total"] == [[4 * a / 1000 for a in TURNS], [8 * a / 1000 for a in TURNS]]
    assert seed["errors"]["last"]["interpolation"] == [[0.125] * 4] * 2


def test_accuracy_has_a_row_a_run_with_its_methods_interval(methods):
    rows = read(methods, "accuracy")
    assert [(row["name"], row["seed"]) for row in rows] == [("SE2", "0"), ("SE2", "1"), ("T2", "0"), ("T2", "1")]
    assert {row["test_accuracy"] for row in rows} == {"0.9"}
    standing = judge(methods).standings["SE2"].accuracy
    assert [float(rows[0][f"method_{key}"]) for key in ("balanced_accuracy", "low", "high")] == list(standing)


def test_subsets_and_training_hold_every_number(methods):
    rows = read(methods, "subsets")
    assert len(rows) == 2 * len(LAYERS)
    assert {(row["seed"], row["value"]) for row in rows if row["quantity"] == "theta_deg"} == {
        ("0", "60.0"),
        ("1", "61.0"),
    }
    rows = read(methods, "training")
    assert len(rows) == 4 * len(history())
    assert float(rows[0]["last.theta_deg"]) == history()[0]["last.theta_deg"]


def test_behaviour_holds_every_number(methods):
    rows = read(methods, "responses")
    assert len(rows) == 4 * 2 * 2 * 2
    found = [r for r in rows if (r["seed"], r["true_class"], r["mirrored"], r["class"]) == ("1", "dog", "1", "cat")]
    behaviour = methods[0].seeds[1].behaviour
    np.testing.assert_allclose(
        [float(found[0][f"{a:g}"]) for a in ANGLES], behaviour["responses"]["mirrored"][1][0], atol=1e-4
    )
    rows = read(methods, "unchanged")
    assert [float(row["median_preserved_range"]) for row in rows[::2]] == [60, 61, 60, 61]
    assert [float(rows[1][f"{a:g}"]) for a in ANGLES] == behaviour["unchanged"]["mirrored"]
    rows = read(methods, "errors")
    assert len(rows) == 4 * 2 * len(TURNS) * (len(LAYERS) + 1)
    chosen = [r for r in rows if (r["layer"], r["mirrored"], r["angle"]) == ("output", "1", "90.0")]
    assert {(float(r["total"]), r["elements"], r["control"]) for r in chosen} == {(0.72, "0.25", "0.0625")}
