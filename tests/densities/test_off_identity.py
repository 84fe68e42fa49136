"""An interval about another element than the identity, wherever it is read: its centre is said and drawn."""

import numpy as np
import pytest
import torch
from fake_results import entries, history, result
from matplotlib.colors import to_rgb
from matplotlib.patches import Wedge
from rows import inside

import partialsym as ps
from partialsym.cli.output import describe
from partialsym.densities import AllComponents, Density, Uniform
from partialsym.figures import depths, of_layers, panels
from partialsym.figures.canvas import BLUE, ORANGE
from partialsym.figures.dials import Cell
from partialsym.measure import learned_subsets
from partialsym.report.subsets import _all_alike, _spoken


class About(Uniform):
    def centre(self):
        return torch.tensor(0.5)


def off(name="SE2", centre=90.0, theta=45.0, p=1.0):
    """A result whose layers are about `centre`."""
    subsets = [
        {**{k: s[k] for k in ("layer", "group", "theta_deg")}, "centre_deg": centre, **s}
        for s in entries(name, theta, p)
    ]
    return result(name) | {"subsets": subsets}


def dial(*seeds):
    return of_layers(seeds)["last"].axes[0]


@pytest.mark.parametrize(("name", "color"), [("SE2", BLUE), ("E2", BLUE), ("E2", ORANGE)])
def test_a_dial_is_about_the_mean_centre_with_each_seeds_edges(name, color):
    axes = dial(off(name, 80.0, 30.0, 0.5), off(name, 100.0, 60.0, 0.25))
    (wedge,) = [p for p in axes.patches if isinstance(p, Wedge) and p.get_facecolor()[:3] == to_rgb(color)]
    assert (wedge.theta1, wedge.theta2) == (90 + 90 - 45, 90 + 90 + 45)
    ends = [line.get_xydata() for line in axes.lines if line.get_label() == "seed" and len(line.get_xydata()) == 2]
    drawn = sorted(np.degrees(np.arctan2(-x, y)) for _, (x, y) in ends)
    np.testing.assert_allclose(drawn, [40, 50, 110, 160])
    arcs = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 2]
    for arc in arcs:
        np.testing.assert_allclose(np.degrees(np.arctan2(-arc[[0, -1], 0], arc[[0, -1], 1])), [45, 135])
    assert len(arcs) == (2 if name == "E2" else 0)
    assert "±45° about 90°" in [text.get_text() for text in axes.texts]


def test_a_whole_circle_is_whole_about_any_centre():
    axes = dial(off(theta=180.0))
    (wedge,) = [p for p in axes.patches if isinstance(p, Wedge)]
    assert wedge.theta2 - wedge.theta1 == 360
    assert "±180°" in [text.get_text() for text in axes.texts]
    cells = [Cell("SE2", 1, {"theta_deg": [theta], "centre_deg": [-90.0]}) for theta in (180.0, 170.0)]
    assert _all_alike(cells[:1]) == "every layer uses the whole group."
    assert _all_alike(cells) == ""


def test_it_is_said_in_words_and_a_centred_one_as_ever():
    seeds = [off(centre=80.0), off(centre=100.0)]
    assert describe(seeds[0]["subsets"][0]) == "±45° about 80°"
    assert describe(result("E2")["subsets"][0]) == "±60°, P(m) 0.25"
    assert _spoken("last", seeds) == "last uses ±45.0 ± 0.0°, about 90.0 ± 14.1°"
    assert _spoken("last", [result("SE2")]) == "last uses ±60.0°"


def test_curves_and_depths_name_the_centre():
    rows = [row | {"last.centre_deg": 90.0 + row["epoch"]} for row in history(2)]
    assert list(panels([rows])) == [
        "loss",
        "accuracy",
        "kept turns, ±θ in degrees",
        "their centre, in degrees",
        "P(element is in)",
    ]
    for results, expected in (
        (off(), "±θ about a centre (left)"),
        (result("SE2"), "kept turns, ±θ (left)"),
    ):
        inside(figure := depths({"a": [results, results]}))
        assert figure.legends[0].get_texts()[0].get_text() == expected


def test_the_centre_of_a_layer_is_read_from_the_network():
    net = ps.GResNet("SE2", samples=4, width=2, hidden=4, kernel_size=3, num_classes=2)
    net.last.codomain = Density(ps.SE2(), 4, algebra=About(0.25), components=AllComponents(1))
    first, *_, last = learned_subsets(net)
    assert last == {"layer": "last", "group": "SE2", "theta_deg": 45.0, "centre_deg": 90.0}
    assert "centre_deg" not in first
    spread = ps.subset_spread([{"subsets": [last]}, {"subsets": [last | {"centre_deg": 110.0}]}])
    assert spread[0]["centre_deg"]["mean"] == 100.0
