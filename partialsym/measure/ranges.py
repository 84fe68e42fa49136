"""The range of rotations within which a model's accuracy or predictions do not change."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from partialsym.data import Preprocessing, Split
from partialsym.errors import InputError
from partialsym.measure.predictions import accuracy
from partialsym.measure.responses import turned_logits


def range_of(angles: Sequence[float], accuracies: Sequence[float], tolerance: float = 0.01) -> float:
    """The largest a such that |acc(φ) − acc(0°)| ≤ tolerance at every given φ with |φ| ≤ a, in degrees.

    The first violation on either side ends the range. Accuracies at larger angles do not count.

    Args:
        angles: φ in degrees, in any order, modulo 360° (345 means −15); 0 must be among them.
        accuracies: in [0, 1], one per angle.
        tolerance: 0.01 is one percentage point. A change of exactly the tolerance is allowed.
    Returns:
        One of the given |φ|. It is 0 if the next angle violates the tolerance, and the largest |φ| (180 for a whole
        circle) if none does.
    Raises:
        ValueError: the lengths differ, 0° is missing, or an argument is out of range.

    >>> range_of([0, 10, -10, 20, -20], [0.95, 0.95, 0.945, 0.95, 0.70])
    10.0
    """
    if len(angles) != len(accuracies):
        raise InputError(f"{len(angles)} angles but {len(accuracies)} accuracies: must be one an angle.")
    if tolerance < 0:
        raise InputError(f"tolerance is {tolerance}: must be at least 0.")
    if wrong := [a for a in accuracies if not 0 <= a <= 1]:
        raise InputError(f"accuracies hold {wrong[0]}: must be in [0, 1].")
    at: dict[float, list[float]] = defaultdict(list)
    for angle, value in zip(angles, accuracies, strict=True):
        at[abs((angle + 180) % 360 - 180)].append(value)
    if 0 not in at:
        raise InputError(f"angles are {list(angles)}: 0 must be among them.")
    upright, largest = at[0][0], 0.0
    for distance in sorted(at):
        if any(abs(value - upright) > tolerance + 1e-9 for value in at[distance]):  # 0.95 − 0.94 is above 0.01
            break
        largest = float(distance)
    return largest


def measured_range(
    model: nn.Module, split: Split, preprocess: Preprocessing, step: float = 5, tolerance: float = 0.01
) -> float:
    """The measured range: the largest multiple a of `step` such that the accuracy at every |φ| ≤ a is within tolerance.

    See `range_of`. Images are rotated on black, in both directions, by increasing angles. The measurement stops at the
    first violation.

    Args:
        split: labelled images.
        step: degrees; a divisor of 180.
        tolerance: 0.01 is one percentage point.
    Returns:
        Degrees in [0, 180]: 0 if the first step violates the tolerance, 180 if none does.
    Raises:
        ValueError: step does not divide 180, or tolerance is negative.
    """
    if step <= 0 or 180 % step:
        raise InputError(f"step is {step}: must be a positive divisor of 180 (degrees).")
    angles: list[float] = []
    accuracies: list[float] = []
    for k in range(round(180 / step) + 1):
        a = k * step
        both = [a] if a in (0, 180) else [a, -a]
        angles += both
        accuracies += [
            accuracy(scores, split.labels) for scores in turned_logits(model, split.images, preprocess, both)
        ]
        if (found := range_of(angles, accuracies, tolerance)) < a:
            return found
    return 180.0


def half_changed(
    angles: Sequence[float], unchanged: Sequence[float], share: float = 0.5
) -> tuple[float | None, float | None]:
    """From which turn on, counter-clockwise and clockwise, at most `share` of the answers are as they were upright.

    The smallest turn in each direction at which the share that is unchanged comes down to `share`, linear between the
    angles. At larger turns it may rise again, as where an image looks alike after half a turn.

    Args:
        angles: degrees, counter-clockwise, any from 0 on; 0 must be among them, and 360° − a is a turn by a clockwise.
        unchanged: at each angle the share of images whose answer is the one upright: see `predictions_unchanged`.
        share: in [0, 1).
    Returns:
        Degrees in (0, 180] in both directions; None where the share stays above `share` up to half a turn.
    Raises:
        ValueError: angles and shares do not pair up, or angle 0 is missing.

    >>> half_changed([0, 90, 180, 270], [1.0, 0.6, 0.4, 0.0])
    (135.0, 45.0)
    >>> half_changed([0, 90, 180, 270], [1.0, 0.9, 0.8, 0.9])
    (None, None)
    """
    if len(angles) != len(unchanged):
        raise InputError(f"{len(angles)} angles and {len(unchanged)} shares: must be as many.")
    by = {angle % 360: value for angle, value in zip(angles, unchanged, strict=True)}
    if 0 not in by:
        raise InputError(f"angles are {list(angles)}: 0 must be among them.")
    left, right = ({(sign * angle) % 360: value for angle, value in by.items()} for sign in (1, -1))
    return _crossing(left, share), _crossing(right, share)


def _crossing(by: Mapping[float, float], share: float) -> float | None:
    """The least angle up to 180° at which the linear interpolation is at `share` or below."""
    order = sorted(angle for angle in by if angle <= 180)
    for before, after in pairwise(order):
        if by[after] <= share:
            above = by[before] - share
            return before + (after - before) * above / (by[before] - by[after]) if above > 0 else float(before)
    return None


def preserved_ranges(predictions: Tensor, angles: Sequence[float]) -> Tensor:
    """The preserved range of every image: half the arc of rotations around 0° in which its prediction is constant.

        a(x) = ½·|{φ : argmax f(R(ψ)·x) = argmax f(x) for every ψ from 0 to φ}|,    in [0, 180] degrees

    If the classes are sectors of orientation, the arc of an image is its sector, wherever in the sector the image lies.
    For an accurate f, a(x) is then half the width of the sector, the range that the labels allow. If the labels do not
    depend on the orientation, a(x) only describes f.

    Args:
        predictions: [angles, N], the predicted class at every angle.
        angles: degrees, a full circle in equal steps from 0, ascending. A change counts halfway between two angles.
    Returns:
        [N] float64, degrees. The discretisation error is less than one step.
    Raises:
        ValueError: angles are not such a circle, or their number differs from the number of rows.

    >>> preserved_ranges(torch.tensor([[7], [7], [1], [7]]), [0, 90, 180, 270])
    tensor([135.], dtype=torch.float64)
    """
    steps = len(angles)
    circle = [360 * k / steps for k in range(steps)]
    if steps < 2 or any(abs(a - b) > 1e-6 for a, b in zip(angles, circle, strict=True)):
        raise InputError(f"angles are {list(angles)}: must be a whole circle in equal steps from 0.")
    if len(predictions) != steps:
        raise InputError(f"{len(predictions)} rows of predictions but {steps} angles: must be one an angle.")
    same = (predictions == predictions[0]).long().cpu()  # where there is float64
    ahead = same.cumprod(0).sum(0)  # steps from 0 on, itself included
    behind = same[1:].flip(0).cumprod(0).sum(0)
    whole = ahead == steps
    return torch.where(whole, 180.0, (ahead + behind).double() * 180 / steps)
