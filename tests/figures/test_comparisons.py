"""Rows compared: every mark is at the number it was given, and every method is called what its config says."""

from itertools import pairwise

import numpy as np
import pytest
from fake_results import LAYERS, entries
from matplotlib.colors import to_rgb
from rows import inside, line, panel, row, texts

from partialsym.figures import depths, of_table, save, sizes
from partialsym.figures.axes import spread
from partialsym.figures.comparisons import LOOKS

HOSTILE = "$a_{$ <b>&" + "W" * 120
METHODS = {
    "CNN": {"group": "T2", "partial": False},
    "G-CNN": {"group": "SE2", "partial": False},
    "Partial G-CNN": {"group": "SE2", "partial": True},
    "CNN + Augerino": {"group": "T2", "partial": False, "augerino": "SE2"},
}


def test_sizes_shows_means_seeds_and_range_where_they_belong():
    results = {
        "big": row(0.9, 0.95, 0.94, size=1000, shown="rotMNIST-generated"),
        "small": row(0.6, 0.7, size=100, shown="rotMNIST-generated"),
        "plain": row(0.5, size=100, group="T2", shown="rotMNIST-generated"),
        "other": row(0.4, 0.3, size=450, data="CIFAR-10"),
    }
    figure = sizes(results)
    axes = panel(figure, "rotMNIST-generated")
    partial = line(axes, "Partial G-CNN")
    np.testing.assert_allclose(partial.get_xydata(), [[100, 65], [1000, 93]])
    assert (partial.get_color(), partial.get_marker()) == LOOKS["Partial G-CNN"]
    dots = line(axes, "Partial G-CNN seeds").get_xydata()
    np.testing.assert_allclose(dots, [[100, 60], [100, 70], [1000, 90], [1000, 95], [1000, 94]])
    np.testing.assert_allclose(line(axes, "CNN").get_xydata(), [[100, 50]])
    np.testing.assert_allclose(line(panel(figure, "CIFAR-10"), "Partial G-CNN").get_xydata(), [[450, 35]])
    corners = axes.collections[0].get_paths()[0].vertices
    assert {(100, 60), (100, 70), (1000, 90), (1000, 95)} <= {(round(x), round(y)) for x, y in corners}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "1,000"]
    low, high = axes.get_ylim()
    assert 0 < low < 50
    assert 95 < high < 100
    assert axes.get_xscale() == "log"
    notes = " ".join(texts(figure))
    assert "Mean over the seeds, 2 unless said below" in notes
    assert "1 seed: rotMNIST-generated at 100 (CNN)" in notes
    assert "3 seeds: rotMNIST-generated at 1,000 (all)" in notes


def test_an_error_twice_as_large_is_the_same_step_down_wherever_it_is():
    axes = sizes({str(a): row(a, size=i + 9) for i, a in enumerate((0.7, 0.85, 0.92, 0.96))}).axes[0]
    heights = axes.transData.transform([(1, a) for a in (40, 70, 85, 92.5)])[:, 1]
    steps = np.diff(heights)
    np.testing.assert_allclose(steps, steps[0], rtol=0.01)


def test_methods_are_told_from_the_config():
    figure = sizes({name: row(0.5 + i / 10, **model) for i, (name, model) in enumerate(METHODS.items())})
    axes = figure.axes[0]
    for i, name in enumerate(METHODS):
        np.testing.assert_allclose(line(axes, name).get_ydata(), [50 + 10 * i])
        assert name in texts(figure)
    assert len({LOOKS[name][0] for name in METHODS}) == len({LOOKS[name][1] for name in METHODS}) == len(METHODS)
    assert len({to_rgb(line(axes, name).get_color()) for name in METHODS}) == len(METHODS)
    nothing_to_learn = sizes({"a": row(0.5, group="T2", partial=True)})
    assert "CNN" in texts(nothing_to_learn)


def test_what_rows_of_one_method_differ_in_is_said():
    named = texts(sizes({"a": row(0.5, group="SE2"), "b": row(0.6, group="E2"), "c": row(0.7, group="T2")}))
    assert {"Partial G-CNN, SE(2)", "Partial G-CNN, E(2)", "CNN"} <= set(named)
    wide = sizes({"a": row(0.5, width=16), "b": row(0.6, width=32), "c": row(0.7, width=16, size=200)})
    np.testing.assert_allclose(line(wide.axes[0], "Partial G-CNN, width 16").get_xydata(), [[100, 50], [200, 70]])
    assert line(wide.axes[0], "Partial G-CNN, width 32").get_linestyle() == "--"
    around = {"augerino": "SE2", "partial": False}
    turned = sizes({g: row(0.5, group=g, copies=n, **around) for g, n in (("SE2", 1), ("T2", 4))})
    assert {"G-CNN + Augerino, copies 1", "CNN + Augerino, copies 4"} <= set(texts(turned))
    # pools belong to the data set here: no reader needs to be told
    apart = {"a": row(0.5, pools=["block1"]), "b": row(0.6, pools=["block2"], data="CIFAR-10")}
    assert texts(sizes(apart)).count("Partial G-CNN") == 2


def test_seeds_of_which_some_are_of_an_older_version_are_one_row():
    new, old = row(0.5, 0.6, shown="rotMNIST-generated")
    old = {key: value for key, value in old.items() if key != "data"}
    old["config"]["model"] = {k: v for k, v in old["config"]["model"].items() if k not in ("augerino", "head")}
    figure = sizes({"a": [new, old]})
    np.testing.assert_allclose(line(panel(figure, "rotMNIST-generated"), "Partial G-CNN").get_xydata(), [[100, 55]])
    assert any(text.startswith("Mean of 2 seeds") for text in texts(figure))
    with pytest.raises(ValueError, match="differ in model or images"):
        sizes({"a": [new, new | {"data": "rotMNIST"}]})


def test_what_cannot_be_compared_is_refused():
    same = {"a": row(0.5, partial=False), "b": row(0.6, partial=False, training={"lr": 0.1})}
    with pytest.raises(ValueError, match="Two rows show G-CNN on 100 images of rotMNIST"):
        sizes(same)
    assert of_table({**same, "c": row(0.6, size=200, partial=False)}) == {}
    with pytest.raises(ValueError, match="The seeds of 'a' differ in model or images"):
        sizes({"a": row(0.5) + row(0.5, size=200)})
    for draw in (sizes, depths):
        for nothing in ({}, {"a": []}):
            with pytest.raises(ValueError, match="nothing to draw"):
                draw(nothing)
    with pytest.raises(ValueError, match="nothing to draw"):
        depths({"a": row(0.5, group="T2", subsets=[{"layer": "last", "group": "T2"}])})


@pytest.mark.parametrize("shares", [(1.0, 1.0, 1.0), (0.0,), (0.1, 0.97), (0.9912, 0.9911), (0.97, 0.99)])
def test_every_axis_has_round_ticks_within_the_limits(shares):
    axes = sizes({"a": row(*shares)}).axes[0]
    low, high = axes.get_ylim()
    ticks = axes.get_yticks()
    assert len(ticks) >= 2
    assert (low <= ticks).all()
    assert (ticks <= high).all()
    assert low < 100 * min(shares)
    assert high > 100 * max(shares)
    assert [float(text.get_text()) for text in axes.get_yticklabels()] == pytest.approx(list(ticks))


@pytest.mark.parametrize("heights", [[], [0.5], [0.1, 0.1, 0.1], [-1.0, 0.0, 0.9, 0.95, 3.0], [2.0] * 5, [0.0, 1.0]])
def test_labels_stand_apart_in_their_order(heights):
    placed = spread(heights, 0.2, 2.0)
    assert all(b - a >= 0.2 - 1e-9 for a, b in pairwise(placed))
    assert all(-1e-9 <= y <= 2 + 1e-9 for y in placed)
    assert heights != [0.0, 1.0] or placed == heights


def test_hostile_names_are_shown_as_they_are_and_stay_within():
    figure = sizes({name: row(0.5, 0.6, shown=name) for name in (HOSTILE, "$\\frac$", " ")} | {"n": row(0.1)})
    inside(figure)
    assert "$\\frac$" in texts(figure)
    assert any(text.startswith("$a_{$ <b>&W") and "…" in text for text in texts(figure))
    deep = depths({n: row(0.5, subsets=entries("E2")) for n in (HOSTILE, "$\\frac$", "", "short")})
    inside(deep)
    assert {"$\\frac$", "short"} <= set(texts(deep))


def test_many_methods_have_labels_that_do_not_touch():
    groups = {"SE2": 4, "E2": 4, "C4": 4, "D4": 8}
    rows = {(g, p): row(0.97, group=g, samples=n, partial=p) for g, n in groups.items() for p in (True, False)}
    inside(sizes({str(key): seeds for key, seeds in rows.items()}))


def test_files_are_the_same_every_time_and_change_with_a_number(tmp_path):
    def files(share, theta, name):
        results = {"a": row(0.5, share, subsets=entries("E2", theta=theta))}
        return [save(draw(results), tmp_path / name / f"{draw.__name__}.png").read_bytes() for draw in (sizes, depths)]

    first, other = files(0.6, 60.0, "a"), files(0.7, 90.0, "c")
    assert first == files(0.6, 60.0, "b")
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_a_table_gets_the_figures_it_has_something_to_show_in():
    full, partial = row(0.5, partial=False, subsets=entries("SE2")), row(0.5, subsets=entries("SE2"))
    assert list(of_table({})) == list(of_table({"none": []})) == []
    assert list(of_table({"full/partial/row": full})) == []  # the config counts, not the name
    assert list(of_table({"a": full, "b": partial})) == ["subsets", "depths"]
    assert list(of_table({"a": full, "b": row(0.6, size=200, partial=False)})) == ["sizes"]
    assert list(of_table({"a": full, "b": row(0.6, size=200, partial=False, data="CIFAR-10")})) == []
    assert list(of_table({"a": full, "b": row(0.6, size=200, group="T2")})) == []
    layers = [{"layer": layer, "group": "T2"} for layer in LAYERS]
    around = row(0.5, group="T2", augerino="SE2", subsets=[entries("SE2")[0] | {"layer": "input"}, *layers])
    assert list(of_table({"a": around})) == ["subsets"]  # one subset has no depth
    curve = {"response": {"angles": [0.0, 180.0], "share": [1.0, 0.0], "mean": [0.9, 0.1]}}
    assert list(of_table({"a": [full[0] | curve]})) == ["responses"]
    old = [partial[0] | {"config": partial[0]["config"] | {"model": {"group": "SE2", "partial": True}}}]
    assert list(of_table({"a": old})) == ["subsets", "depths"]
