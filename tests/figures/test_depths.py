"""Learned subsets against depth: every mark is at the number it was given."""

import numpy as np
import pytest
from fake_results import entries
from rows import inside, line, panel, row

from partialsym.figures import depths
from partialsym.figures.depths import DODGE


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", ["SE2", "E2", "Mirror", "C4", "D4"])
def test_depths_shows_each_layer_at_its_number(name, seeds):
    results = [row(0.5, group="E2", subsets=entries(name, theta=60.0 + 30 * i, p=0.2 + 0.1 * i)) for i in range(seeds)]
    inside(figure := depths({"a": [own[0] for own in results]}))
    axes, right = figure.axes
    theta, p = 60 + 15 * (seeds - 1), 0.2 + 0.05 * (seeds - 1)
    expected = {
        "theta": (axes, theta, [60.0 + 30 * i for i in range(seeds)], name in ("SE2", "E2")),
        "P of turns": (right, p, [0.2 + 0.1 * i for i in range(seeds)], name in ("C4", "D4")),
        "P of mirrorings": (right, p, [0.2 + 0.1 * i for i in range(seeds)], name in ("E2", "Mirror", "D4")),
    }
    there = [kind for kind, (*_, drawn) in expected.items() if drawn]
    for kind, (own, mean, values, drawn) in expected.items():
        if not drawn:
            assert kind not in [line.get_label() for line in [*axes.lines, *right.lines]]
            continue
        shift = 0.0 if len(there) == 1 else DODGE * (1 if kind == "P of mirrorings" else -1)
        np.testing.assert_allclose(line(own, kind).get_xydata(), [[1 + shift, mean], [2 + shift, mean]])
        np.testing.assert_allclose(line(own, f"{kind} fixed").get_xydata(), [[shift, mean]])
        assert line(own, f"{kind} fixed").get_markerfacecolor() == "white"
        dots = [[layer + shift, value] for value in values for layer in (1, 2)]
        np.testing.assert_allclose(line(own, f"{kind} seeds").get_xydata(), dots)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["lifting", "conv1", "last"]
    assert [text.get_text() for text in axes.texts] == ["block1"]


def test_depths_puts_half_the_turns_at_the_height_of_p_one_half():
    axes, right = depths({"a": row(0.5, subsets=entries("E2"))}).axes
    heights = [axes.transData.transform((0, 90))[1], right.transData.transform((0, 0.5))[1]]
    assert heights[0] == pytest.approx(heights[1])


def test_depths_takes_means_over_elements_and_layers_that_differ_between_rows():
    uneven = [{"layer": "last", "group": "D1", "P(m)": 0.3}]
    turned = [{"layer": "last", "group": "C4", "P(90°)": 0.1, "P(180°)": 0.4, "P(270°)": 0.1}]
    augerino = [{"layer": "input", "group": "SE2", "theta_deg": 45.0}, {"layer": "lifting", "group": "T2"}]
    figure = depths({"a": row(0.5, subsets=uneven), "b": row(0.5, subsets=turned), "c": row(0.5, subsets=augerino)})
    rights = [axes for axes in figure.axes if axes.get_gid() is None]
    np.testing.assert_allclose(line(rights[0], "P of mirrorings").get_xydata(), [[0, 0.3]])
    np.testing.assert_allclose(line(rights[1], "P of turns").get_xydata(), [[0, 0.2]])
    np.testing.assert_allclose(line(panel(figure, "c"), "theta").get_xydata(), [[0, 45]])
    assert [tick.get_text() for tick in panel(figure, "c").get_xticklabels()] == ["input"]
    with pytest.raises(ValueError, match="different groups"):
        depths({"mixed": row(0.5, subsets=entries("SE2")) + row(0.5, subsets=entries("E2"))})
