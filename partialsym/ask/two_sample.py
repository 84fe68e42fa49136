"""Can a network tell an image from its turned or mirrored copy? A two-sample test of the images alone."""

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from scipy.special import bdtr, betaincinv
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.seeding import seeded
from partialsym._utils.validation import check
from partialsym.ask.intervals import LEVEL, Interval
from partialsym.data import as_float
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.measure.transforms import rotate

VISIBLE, INVISIBLE, UNSEEN = "visible", "not visible", "not enough images"
HARDLY = 0.6  # share of pairs; a cue that distinguishes fewer is of little use
MOST_IMAGES, SIDE = 4000, 32  # largest number of images, and of pixels per side: larger images are scaled down
FIRST, LATER = 0.4, 3  # share of the images that is only learned, and number of blocks of the others
STEPS, BATCH = 400, 32  # training steps of a test, and pairs per step
START = 0.5  # share of the steps before the first block is judged


class Transformation(NamedTuple):
    """How a copy differs from its image: it is mirrored left-right, or turned by an angle in either direction.

    `degrees` is 0 for mirroring; an angle is 180° or in (0°, 90°].
    """

    name: str
    degrees: float


MIRRORED = Transformation("mirrored", 0)
TURNED = tuple(Transformation(f"turned by {degrees:g}°", degrees) for degrees in (180.0, 90.0, 45.0, 22.5))
TRANSFORMATIONS: Mapping[str, tuple[Transformation, ...]] = {
    "SE2": TURNED,
    "Mirror": (MIRRORED,),
    "E2": (*TURNED, MIRRORED),
}


class Visibility(NamedTuple):
    """The result of the test for one transformation.

    Attributes:
        name: name of the transformation.
        degrees: angle by which copies were turned; 0 if they were mirrored.
        answer: `visible`, `not visible` or `not enough images`.
        pairs: number of judged pairs of an image and its copy.
        told: number of pairs in which the network recognised which is the image and which is the copy.
        share: told / pairs with its exact interval.
    """

    name: str
    degrees: float
    answer: str
    pairs: int
    told: int
    share: Interval


def visibility(
    images: Images,
    transformations: Sequence[Transformation],
    *,
    groups: Tensor | None = None,
    steps: int = STEPS,
    seconds: float = math.inf,
    seed: int = 0,
) -> list[Visibility]:
    """Can a small CNN distinguish an image from its copy? There is one test per transformation.

    The network returns a score for each image. It is trained on pairs of an image and its copy to give the image the
    higher score. Then it judges pairs that it has not seen. If the distribution of the images is invariant to the
    transformation, an image and its copy are exchangeable, and the number of pairs that the network judges right is
    exactly binomial with p = ½. Three measures ensure this:

    - A fair coin decides for each copy whether it is turned to the left or to the right. With turns of 90° to the left
      alone, scores that rise three times around the circle and fall once would be right for three of four pairs.
    - Turns of α < 90° compare an image turned by ±(45° − α/2) with one turned by ±(45° + α/2). On the pixel grid, each
      of these is a quarter turn of the other with the opposite sign. So both lose the same amount by interpolation and
      at the corners. These tests detect nothing in images that are invariant to quarter turns.
    - The images are judged in blocks, and the network learns each block only after judging it. It learns 40 % of the
      images first; the other 60 % are judged, independently of each other. (Judgements of a cross-validation are not.)

    The answer is `visible` if the interval of the share lies above ½, `not visible` if it lies below 60 %, and `not
    enough images` otherwise. Intervals are those of Clopper and Pearson (1934) at the level 1 − 0.05 / transformations,
    so that all of them together hold in 95 % of cases (Bonferroni). The visible cue may be anything in the images: a
    horizon, gravity, light from above, letters, the camera. Another network may see cues that this one does not.

    Args:
        images: [N, C, H, W], uint8 or in [0, 1]. At most 4,000 are used. The central square is cut out of other shapes,
            and images of more than 32 pixels per side are scaled down.
        transformations: what to test; angles are 180° or in (0°, 90°], 0 stands for mirroring.
        groups: number of each image's group (an original and its copies, tiles of a slide), [N]. A group is never
            divided, and counts as one pair; it is judged right if most of its pairs are.
        steps: training steps per transformation, of 32 pairs each, at least 1.
        seconds: time limit per transformation; it may reduce the number of steps.
        seed: seed of everything random.
    Returns:
        One result per transformation.
    Raises:
        ValueError: there are fewer than 10 images, or groups; an argument is out of range.
    """
    check("steps", steps, steps >= 1, "at least 1")
    for transformation in transformations:
        check("degrees", turned := transformation.degrees, turned in (0, 180) or 0 < turned <= 90, "0 to 90, or 180")
    x, unit = prepared(images, groups, seed)
    level = bonferroni(len(transformations))
    return [look_for(x, unit, transformation, level, steps, seconds, seed) for transformation in transformations]


def prepared(images: Images, groups: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normalised images in random order, and the unit of each (its group, or the image itself).

    Returns:
        Images [n, C, side, side], with mean 0 and variance 1 in each channel, and the number of each image's unit, [n].
    """
    chosen, unit = _units(len(images), groups, torch.Generator().manual_seed(seed))
    return _squares(images, chosen), unit


def bonferroni(count: int) -> float:
    """The level of each of `count` intervals that together hold in 95 % of cases (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, count)


def look_for(
    x: Tensor, unit: Tensor, transformation: Transformation, level: float, steps: int, seconds: float, seed: int = 0
) -> Visibility:
    """One test of `visibility`, on the output of `prepared`."""
    x = x.to("cuda" if torch.cuda.is_available() else "cpu")
    with seeded(seed, [x.device]):
        told = _told(x, unit, transformation, steps, seconds)
    pairs, right = len(told), int(told.sum())
    share = clopper_pearson(right, pairs, level)
    answer = VISIBLE if share.low > 0.5 else INVISIBLE if share.high < HARDLY else UNSEEN
    return Visibility(*transformation, answer, pairs, right, share)


def clopper_pearson(told: int, count: int, level: float = LEVEL) -> Interval:
    """The exact interval of a binomial share told / count (Clopper and Pearson 1934)."""
    tail = (1 - level) / 2
    low = float(betaincinv(told, count - told + 1, tail)) if told else 0.0
    high = float(betaincinv(told + 1, count - told, 1 - tail)) if told < count else 1.0
    return Interval(told / count, low, high)


def chance(told: int, count: int) -> float:
    """The probability of at least `told` successes by chance: P(X ≥ told), X ~ Binomial(count, ½)."""
    return 1 - float(bdtr(told - 1, count, 0.5)) if told else 1.0


def needed(level: float = LEVEL) -> int:
    """The number of pairs that is expected to show that nothing is visible, if nothing is."""
    return next(n for n in range(10, 10**5, 2) if clopper_pearson(n // 2, n, level).high < HARDLY)


def _units(count: int, groups: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of the images that are used, sorted by unit in random order, and the number of each image's unit."""
    of = torch.arange(count) if groups is None else groups.unique(return_inverse=True)[1]
    if len(of) != count:
        raise InputError(f"there are {len(of)} groups for {count} images: must be one per image.")
    units = int(of.max()) + 1 if count else 0
    if units < 10:
        raise InputError(f"there are {units} images, or groups of images: must be at least 10.")
    rank = torch.randperm(units, generator=generator)[of]
    chosen = rank.argsort(stable=True)[:MOST_IMAGES]
    return chosen, rank[chosen].unique(return_inverse=True)[1]


def _squares(images: Images, chosen: Tensor) -> Tensor:
    """The central squares, scaled and normalised: [n, C, side, side]."""
    x = as_float(images[chosen].to("cpu"))
    side = min(x.shape[-2:])
    top, left = ((length - side) // 2 for length in x.shape[-2:])
    x = x[..., top : top + side, left : left + side]
    if side > SIDE:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area")
    std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)
    return (x - mean) / std.clamp_min(1e-3)


def pairs(x: Tensor, transformation: Transformation) -> tuple[Tensor, Tensor]:
    """Images and their copies, [n, C, side, side] each; a random draw decides the direction of each turn.

    If the angle is below 90°, both are turned: see `visibility`.
    """
    degrees = transformation.degrees
    if degrees in (0, 180):  # the direction makes no difference
        return x, x.flip(-1) if degrees == 0 else rotate(x, 180)
    left = torch.rand(len(x), device=x.device) < 0.5
    first, second = (0.0, 90.0) if degrees == 90 else (45 - degrees / 2, 45 + degrees / 2)

    def turned(by: float) -> Tensor:
        return torch.where(left[:, None, None, None], rotate(x, by), rotate(x, -by))

    return turned(first), turned(second)


def _told(x: Tensor, unit: Tensor, transformation: Transformation, steps: int, seconds: float) -> Tensor:
    """Whether the network judges the pairs of each unit right, in the order of judging."""
    units = int(unit[-1]) + 1
    first = max(1, round(FIRST * units))
    edges = [first + (units - first) * k // LATER for k in range(LATER + 1)]
    scorer = Scorer(x.shape[1]).to(x.device)
    taken, told = 0.0, []
    shares = [START, *[(1 - START) / (LATER - 1)] * (LATER - 1)]
    for share, known, until in zip(shares, edges[:-1], edges[1:], strict=True):
        taken += share
        learn(scorer, x[unit < known], transformation, max(1, round(share * steps)), share * seconds)
        some = (unit >= known) & (unit < until)
        told.append(_majorities(_scored(scorer, x[some], transformation).cpu(), unit[some] - known))
    return torch.cat(told)


def _majorities(gains: Tensor, unit: Tensor) -> Tensor:
    """Whether most pairs of each unit have a positive gain; a random draw decides a tie."""
    votes = torch.zeros(int(unit.max()) + 1).index_add(0, unit, gains.sign())
    return torch.where(votes == 0, torch.rand(len(votes)) < 0.5, votes > 0)


class Scorer(nn.Module):
    """A plain CNN that scores images: [n, channels, side, side] → [n]. Its linear layer sees positions."""

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.linear = nn.Linear(widths[-1] * 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
            x = F.max_pool2d(x, 2) if min(x.shape[-2:]) >= 8 else x
        x = F.dropout(F.adaptive_avg_pool2d(x, 4).flatten(1), 0.2, self.training)
        result: Tensor = self.linear(x)[:, 0]
        return result


def learn(scorer: Scorer, x: Tensor, transformation: Transformation, steps: int, seconds: float) -> None:
    """Train in place, for `steps` steps or `seconds` seconds.

    The loss is −log σ(score of the image − score of its copy).
    """
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=3e-3, weight_decay=0.05)
    until = time.monotonic() + seconds
    scorer.train()
    for step in range(steps):
        done = max(step / steps, 1 - (until - time.monotonic()) / seconds if seconds < math.inf else 0.0)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 10) * (1 + math.cos(math.pi * done)) / 2
        batch = x[torch.randint(len(x), (min(BATCH, len(x)),))]
        image, copy = pairs(batch, transformation)
        scores = scorer(torch.cat([image, copy]))
        loss = F.softplus(scores[len(image) :] - scores[: len(image)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _scored(scorer: Scorer, x: Tensor, transformation: Transformation) -> Tensor:
    """Score of each image minus the score of its copy: [n]."""
    scorer.eval()
    gains = []
    for batch in x.split(256):
        image, copy = pairs(batch, transformation)
        gains.append(scorer(image) - scorer(copy))
    return torch.cat(gains)
