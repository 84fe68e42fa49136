"""Figures show the numbers they were given."""

import subprocess
import sys

import numpy as np
import pytest
from fake_results import ANGLES, LAYERS, history, result
from helpers import few
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Wedge
from torch import nn

import partialsym as ps
from partialsym.figures import depths, of_layers, panels, responses, subsets, training
from partialsym.figures.canvas import BLUE, ORANGE, save
from partialsym.groups import group


def patches(axes, kind, color):
    return [p for p in axes.patches if isinstance(p, kind) and p.get_facecolor()[:3] == to_rgb(color)]


@pytest.mark.parametrize("thetas", [[60.0], [30.0, 60.0, 120.0]], ids=["one", "three"])
def test_sector_has_the_learned_angles(thetas):
    figure = subsets({"se2": [result("SE2", theta=theta) for theta in thetas]})
    mean = np.mean(thetas)
    assert len(figure.axes) == len(LAYERS)
    for axes in figure.axes:
        (wedge,) = patches(axes, Wedge, BLUE)
        assert (wedge.theta1, wedge.theta2) == (90 - mean, 90 + mean)
        ends = [line.get_xydata()[-1] for line in axes.lines if line.get_label() == "seed"]
        drawn = sorted(np.degrees(np.arctan2(-x, y)) for x, y in ends)
        np.testing.assert_allclose(drawn, sorted(s * t for t in thetas for s in (-1, 1)))
        assert f"±{mean:.0f}°" in [text.get_text() for text in axes.texts]


def test_whole_circle_is_whole_and_has_no_edge():
    axes = subsets({"se2": [result("SE2", theta=180.0)]}).axes[0]
    (wedge,) = patches(axes, Wedge, BLUE)
    assert wedge.theta2 - wedge.theta1 == 360
    assert not [line for line in axes.lines if line.get_label() == "seed"]


class Own(nn.Module):
    """A network of one's own, whose last layer retains ±60°."""

    def __init__(self):
        super().__init__()
        self.first = ps.GroupConv(1, 2, codomain=ps.haar(ps.E2(), 4), kernel_size=3)
        self.second = ps.GroupConv(2, 2, codomain=ps.learned(ps.E2(), 4, theta=1 / 3), kernel_size=3)


def test_the_subsets_of_a_network_are_drawn_as_those_of_its_result():
    learned = ps.learned_subsets(Own())
    for draw in (subsets, depths):
        figures = [draw({"mine": [one]}) for one in (learned, {"subsets": learned})]
        assert [axes.get_gid() for axes in figures[0].axes] == [axes.get_gid() for axes in figures[1].axes]
        assert picture(figures[0]) == picture(figures[1])
    (first, second) = subsets({"mine": [learned]}).axes
    assert (first.get_gid(), second.get_gid()) == ("mine first", "mine second")
    (wedge,) = patches(second, Wedge, BLUE)
    assert (wedge.theta1, wedge.theta2) == pytest.approx((30, 150))
    assert list(of_layers([learned, learned])) == ["first", "second"]


def test_what_has_no_subsets_is_named():
    plain = ps.learned_subsets(nn.Conv2d(1, 1, 3))
    for seeds in ([plain], [{"accuracy": {}}], ps.learned_subsets(Own())):  # the last one in no list
        with pytest.raises(ValueError, match="a seed of 'mine' has no subsets: every name needs a list"):
            subsets({"mine": seeds})


def test_a_response_is_drawn_as_that_of_its_result():
    curve = result("SE2", response=True)["response"]
    assert picture(responses({"one": [curve]})) == picture(responses({"one": [{"response": curve}]}))


def picture(figure):
    figure.canvas.draw()
    return bytes(figure.canvas.buffer_rgba())


def test_ring_is_as_thick_as_p():
    def ring(p):
        axes = subsets({"e2": [result("E2", p=p)]}).axes[0]
        (wedge,) = patches(axes, Wedge, ORANGE)
        assert (wedge.theta1, wedge.theta2) == (30, 150)
        return wedge.width

    assert ring(0.25) == pytest.approx(ring(1.0) / 4)
    assert ring(0.0) == 0


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", few(["Mirror", "C4", "C12", "D1", "D3", "D4"], "Mirror", "C4", "D3"))
def test_marks_are_filled_by_p(name, seeds):
    axes = subsets({name: [result(name, p=0.25)] * seeds}).axes[0]
    blue, orange = patches(axes, Circle, BLUE), patches(axes, Circle, ORANGE)
    names = group(name).component_names
    assert len(orange) == sum(n.endswith("m") for n in names)
    assert len(blue) + len(orange) == len(names)
    areas = sorted(mark.radius**2 for mark in blue + orange)
    np.testing.assert_allclose(areas[:-1], areas[-1] / 4)


def test_marks_stand_counter_clockwise_from_the_top():
    axes = subsets({"c4": [result("C4")]}).axes[0]
    x, y = np.array([mark.center for mark in patches(axes, Circle, BLUE)]).T
    np.testing.assert_allclose(np.degrees(np.arctan2(-x, y)) % 360, [0, 90, 180, 270], atol=1e-9)


def test_groups_without_numbers_and_groups_together():
    assert "identity alone" in [text.get_text() for text in subsets({"t2": [result("T2")]}).axes[0].texts]
    figure = subsets({name: [result(name)] for name in ("T2", "SE2", "E2", "D4")})
    assert len(figure.axes) == 4 * len(LAYERS)


@pytest.mark.parametrize("rows", [1, 24])
def test_rows_fill_the_figure(rows):
    figure = subsets({f"row {i}": [result("SE2")] for i in range(rows)})
    below = min(axes.get_position().y0 for axes in figure.axes) * figure.get_figheight()
    assert 0.3 < below < 0.6  # inches: room for a line of explanation


def test_seeds_of_different_models_are_refused():
    with pytest.raises(ValueError, match="different groups"):
        subsets({"mixed": [result("SE2"), result("E2")]})
    with pytest.raises(ValueError, match="nothing to draw"):
        subsets({})


def test_response_is_closed_and_shows_the_mean_and_range():
    seeds = [result(response=True), result(response=True)]
    seeds[1]["response"] = seeds[1]["response"] | {"share": [1.0] * len(ANGLES)}
    axes = responses({"a": seeds, "none": [result()]}).axes
    assert len(axes) == 1
    (share,) = [line for line in axes[0].lines if line.get_label() == "share"]
    np.testing.assert_allclose(share.get_xdata(), np.deg2rad([*ANGLES, 360]))
    expected = [(a / 360 + 1) / 2 for a in ANGLES]
    np.testing.assert_allclose(share.get_ydata(), [*expected, expected[0]])
    with pytest.raises(ValueError, match="No result has a response"):
        responses({"none": [result()]})


def test_training_curves_of_seeds_of_different_length():
    figure = training({"a": [history(2), history(3)], "b": [history(1)]})
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "train"]
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.5], [2, 0.5], [3, 0.5]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(LAYERS)
    assert [axes.get_ylabel() for axes in figure.axes[2:4]] == ["kept turns, ±θ in degrees", "P(element is in)"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save_is_atomic(tmp_path, monkeypatch, suffix):
    figure = subsets({"$a_{$": [result()]})
    path = save(figure, tmp_path / "new" / f"a.{suffix}")
    before = path.read_bytes()
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(figure, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_save_refuses_other_suffixes(tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        save(subsets({"a": [result()]}), tmp_path / "a.jpg")


def test_the_input_comes_first_also_where_only_a_later_row_has_it():
    plain, before = result("SE2"), result("SE2")
    before["subsets"] = [{"layer": "input", "group": "SE2", "theta_deg": 90.0}, *before["subsets"]]
    figure = subsets({"partial": [plain], "augerino": [before]})
    left = {axes.get_gid(): axes.get_position().x0 for axes in figure.axes}
    assert left["augerino input"] < left["partial lifting"] == left["augerino lifting"]


def test_a_dial_of_a_layer_is_the_one_among_all():
    seeds = [result("SE2", theta=theta) for theta in (30.0, 60.0)]
    seeds[0]["subsets"].append({"layer": "input", "group": "SE2", "theta_deg": 90.0})
    seeds[1]["subsets"].append({"layer": "input", "group": "SE2", "theta_deg": 90.0})
    figures = of_layers(seeds)
    assert list(figures) == ["input", *LAYERS]
    (wedge,) = patches(figures[LAYERS[0]].axes[0], Wedge, BLUE)
    assert (wedge.theta1, wedge.theta2) == (45, 135)


def test_panels_are_of_what_changes():
    figures = panels([history(3), history(2)])
    assert list(figures) == ["loss", "accuracy", "kept turns, ±θ in degrees", "P(element is in)"]
    (line,) = [line for line in figures["accuracy"].axes[0].lines if line.get_label() == "validation"]
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.7], [2, 0.7], [3, 0.7]])
    fixed = [{key: 180.0 if "theta" in key else value for key, value in row.items()} for row in history(3)]
    assert list(panels([fixed])) == ["loss", "accuracy", "P(element is in)"]


def test_no_pyplot():
    code = "import sys, partialsym.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
