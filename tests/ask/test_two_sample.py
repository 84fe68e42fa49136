"""Can a network tell an image from its copy? By images whose symmetries are known exactly."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from helpers import few
from scipy.stats import binomtest, chi2
from torch.nn import functional as F

from partialsym.ask import two_sample
from partialsym.ask.two_sample import (
    MIRRORED,
    TRANSFORMATIONS,
    TURNED,
    Transformation,
    chance,
    clopper_pearson,
    pairs,
    visibility,
)

SIDE = 8
ALL = TRANSFORMATIONS["E2"]


def wedges(count, seed=0, *, spread=180.0, side=SIDE):
    """uint8 images [count, 1, side, side] of an arm from the centre, its angle uniform within ±spread degrees, and a
    bright dot to its left, by which it differs from its mirror image."""
    generator = torch.Generator().manual_seed(seed)
    angle = math.radians(spread) * (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
    y, x = torch.meshgrid(*2 * [torch.arange(side) - (side - 1) / 2], indexing="ij")

    def blob(radius, by):
        at = radius * torch.cos(angle + by), -radius * torch.sin(angle + by)
        return torch.exp(-((x - at[0][:, None, None]) ** 2 + (y - at[1][:, None, None]) ** 2) / 1.5)

    drawn = blob(0.3 * side, 0.0) + blob(0.15 * side, 0.0) + 0.7 * blob(0.35 * side, 1.0)
    noise = 0.05 * torch.rand(count, side, side, generator=generator)
    return (255 * (drawn + noise).clamp(0, 1)).round().to(torch.uint8)[:, None]


def noise(count, seed=0, side=SIDE):
    return torch.randint(
        0, 256, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("transformation", ALL, ids=lambda one: one.name)
@pytest.mark.parametrize("side", [7, 8])
def test_pairs_change_places_with_an_orbit_of_quarter_turns(transformation, side, monkeypatch):
    """What makes ½ exact: over an image, its quarter turns (its mirror image) and both sides of the coin, the pairs are
    the same as their swapped ones. Interpolation and corners included, with nothing rounded away."""
    image = torch.rand(1, 2, side, side, dtype=torch.float64)
    orbit = [image, image.flip(-1)] if transformation.degrees == 0 else [image.rot90(k, (2, 3)) for k in range(4)]
    forward, backward = [], []
    for x, coin in product(orbit, (0.0, 0.99)):
        monkeypatch.setattr(torch, "rand", lambda n, coin=coin, **_: torch.full((n,), coin))
        first, second = pairs(x, transformation)
        forward.append(torch.cat([first, second], 1).flatten())
        backward.append(torch.cat([second, first], 1).flatten())
    distances = torch.cdist(torch.stack(forward), torch.stack(backward), p=float("inf"))
    assert distances.min(0).values.max() < 1e-12
    assert distances.min(1).values.max() < 1e-12
    assert (torch.stack(forward) - torch.stack(backward)).abs().max() > 0.1


def test_without_the_coin_a_score_that_rises_around_the_circle_is_right_in_three_of_four(monkeypatch):
    """The control of the test above: a quarter turn to the left alone is no fair comparison."""
    image = torch.zeros(1, 1, 8, 8)
    image[..., 1, 4] = 1.0  # above the centre
    orbit = torch.cat([image.rot90(k, (2, 3)) for k in range(4)])
    y, x = torch.meshgrid(*2 * [torch.arange(8) - 3.5], indexing="ij")
    clockwise = torch.atan2(y, x)  # y points down

    def told(coin):
        monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), coin))
        first, second = pairs(orbit, Transformation("turned", 90))
        score = [(a * clockwise).sum((1, 2, 3)) for a in (first, second)]
        return int((score[0] > score[1]).sum())

    assert sorted([told(0.0), told(0.99)]) == [1, 3]


@pytest.mark.parametrize("degrees", [45.0, 22.5, 7.0])
def test_small_turns_are_by_what_they_say(degrees):
    """The second of a pair is the first turned on, in the direction of the coin."""
    image = F.interpolate(torch.rand(1, 1, 5, 5, dtype=torch.float64), size=(65, 65), mode="bicubic")
    first, second = pairs(image, Transformation("turned", degrees))
    disc = two_sample.rotate(torch.ones_like(image), 45) > 0.999
    disc &= disc.flip(-1) & two_sample.rotate(torch.ones_like(image), 20).ge(0.999)
    errors = [
        float((two_sample.rotate(first, by) - second)[disc].abs().mean())
        for by in (degrees, -degrees, 0.0, degrees + 5, degrees - 5)
    ]
    assert min(errors[:2]) < 0.5 * min(errors[2:])


@pytest.mark.parametrize("told", [0, 1, 37, 60])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_intervals_and_chances_are_scipys(told, level):
    found = clopper_pearson(told, 60, level)
    expected = binomtest(told, 60).proportion_ci(level, "exact")
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert chance(told, 60) == pytest.approx(binomtest(told, 60, alternative="greater").pvalue, abs=1e-12)


def small(images, transformations, **options):
    return visibility(images, transformations, **{"steps": 40, **options})


@pytest.mark.long
def test_images_in_all_orientations_hide_their_turns_and_show_their_handedness():
    found = {v.name: v for v in small(wedges(300), (*TURNED[1:], MIRRORED), steps=60)}
    assert [found[t.name].answer for t in TURNED[1:]].count("visible") == 0
    assert found["mirrored"].answer == "visible"
    assert all(v.pairs == 180 for v in found.values())


@pytest.mark.long
def test_upright_images_show_all_their_turns():
    found = {v.degrees: v for v in small(wedges(200, spread=10), TURNED)}
    assert {d: v.answer for d, v in found.items()} == dict.fromkeys((180, 90, 45, 22.5), "visible")
    assert found[90].share.mean > 0.95
    assert found[180].told == round(found[180].share.mean * found[180].pairs)


@pytest.mark.long
def test_the_wider_images_are_spread_the_larger_a_turn_must_be_to_be_seen():
    """Within ±80° a turn of 180° leaves no orientation in common, one of 22.5° most of them."""
    wide = {v.degrees: v.share.mean for v in small(wedges(300, spread=80), (TURNED[0], TURNED[3]))}
    assert wide[180] > 0.9 > 0.8 > wide[22.5]


def test_what_turning_does_to_pixels_is_not_what_is_seen():
    """Noise that is alike after quarter turns: a network could see the pattern that interpolation leaves in it, were
    the two of a pair not treated alike. The control compares a turn of 22.5° with none."""
    for found in small(noise(240), TURNED[2:]):
        assert found.share.low < 0.5 < found.share.high


def test_the_pattern_of_interpolation_would_be_seen(monkeypatch):
    monkeypatch.setattr(two_sample, "pairs", lambda x, _: (x, two_sample.rotate(x, 22.5)))
    assert small(noise(100), TURNED[3:])[0].share.mean > 0.95


@pytest.mark.parametrize("trials", few([24, 200], 24))
def test_the_number_told_is_binomial_where_nothing_is_to_be_seen(trials):
    """Its mean and its variance, over data sets: also where blocks that were judged are learned afterwards."""
    found = [visibility(noise(50, seed=k, side=4), (ALL[k % 5],), steps=8, seed=k)[0] for k in range(trials)]
    told, count = np.array([v.told for v in found]), found[0].pairs
    assert count == 30
    squares = float(((told - count / 2) ** 2).sum() / (count / 4))
    assert chi2.ppf(0.005, trials) < squares < chi2.ppf(0.995, trials)
    assert abs(told.sum() - trials * count / 2) < 2.6 * math.sqrt(trials * count / 4)
    assert sum(v.answer == "visible" for v in found) <= 2 + 0.04 * trials


def test_the_same_seed_answers_alike_and_another_one_draws_anew():
    images = noise(80)
    one, again, other = (visibility(images, (MIRRORED,), steps=5, seed=seed)[0] for seed in (0, 0, 1))
    assert one == again
    assert one != other
    state = torch.get_rng_state()
    visibility(images, (MIRRORED,), steps=2)
    assert torch.equal(state, torch.get_rng_state())


def test_what_belongs_together_counts_once():
    """Copies of one image: alone each would be a pair, and be seen again after it had been learned."""
    images, groups = wedges(30, spread=180).repeat(10, 1, 1, 1), torch.arange(30).repeat(10)
    found = small(images, (TURNED[0],), groups=groups)[0]
    assert (found.pairs, found.answer) == (18, "not enough images")
    copied = torch.cat([images[:30], images[:30].rot90(2, (2, 3))])
    both = visibility(copied, (TURNED[0],), groups=torch.arange(30).repeat(2), steps=3)[0]
    assert both.pairs == 18  # an image and its turned copy: one pair is told and the other is not, and a coin decides
    assert 0 < both.told < 18


def test_several_transformations_are_judged_more_strictly():
    alone, among = (small(wedges(50, spread=30), t, steps=10)[0] for t in ((TURNED[0],), (TURNED[0], *[MIRRORED] * 9)))
    assert (alone.told, alone.pairs) == (among.told, among.pairs)
    assert among.share == clopper_pearson(alone.told, alone.pairs, 0.995)
    assert alone.share == clopper_pearson(alone.told, alone.pairs, 0.95)


def test_few_images_do_not_show_that_nothing_is_visible():
    least = two_sample.needed(0.95)
    assert clopper_pearson(least // 2, least).high < two_sample.HARDLY
    assert clopper_pearson(least // 2 - 1, least - 2).high > two_sample.HARDLY
    few_images = visibility(noise(40), (MIRRORED,), steps=3)[0]
    assert few_images.answer == "not enough images"


def test_images_of_any_shape_are_taken():
    wide = torch.rand(20, 3, 6, 40)
    assert visibility(wide, ALL, steps=1)[0].pairs == 12
    assert visibility(torch.rand(12, 1, 70, 64), (TURNED[1],), steps=1)[0].pairs == 7
    with pytest.raises(ValueError, match="9 images, or groups of images: must be at least 10"):
        visibility(torch.rand(9, 1, 8, 8), (MIRRORED,))
    with pytest.raises(ValueError, match="3 groups for 20 images"):
        visibility(wide, (MIRRORED,), groups=torch.arange(3))
    with pytest.raises(ValueError, match="degrees is 120"):
        visibility(wide, (Transformation("turned", 120),))


def test_time_that_is_up_ends_the_learning_not_the_judging(monkeypatch):
    now = iter(range(10**6))
    monkeypatch.setattr(two_sample.time, "monotonic", lambda: float(next(now)))
    found = visibility(wedges(20), (MIRRORED,), steps=10**6, seconds=40)[0]
    assert found.pairs == 12
