"""The predictions of a model for rotated and reflected images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partialsym.data import Preprocessing, Split, as_float
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.measure.predictions import BATCH, logits, predicted
from partialsym.measure.transforms import Motion, inscribed

ANGLES = tuple(range(0, 360, 15))


def turned_logits(
    model: nn.Module,
    images: Images,
    preprocess: Preprocessing,
    angles: Sequence[float] = ANGLES,
    mirrored: bool = False,
) -> Tensor:
    """Logits of images rotated by each angle, [angles, N, classes].

    The background is black. Rotations of square images by multiples of 90° are exact.

    Args:
        images: [N, C, H, W], uint8 or in [0, 1].
        angles: degrees, counter-clockwise.
        mirrored: whether the images are reflected left-right before they are rotated.
    Raises:
        ValueError: no angle is given, or the model's answers are no [N, classes].
    """
    if not len(angles):
        raise InputError("angles is empty: must be at least one, in degrees.")
    motions = [Motion(float(a), mirrored) for a in angles]
    batches = (as_float(batch) for batch in images.split(BATCH))
    return torch.cat([torch.stack([_scores(model, g(batch), preprocess) for g in motions]) for batch in batches], 1)


def _scores(model: nn.Module, images: Tensor, preprocess: Preprocessing) -> Tensor:
    found = logits(model, images, preprocess)
    if found.ndim != 2:
        raise InputError(
            f"the model's answer is {tuple(found.shape)}: must be [batch, classes]. Measure answers for every pixel "
            "with `dense_errors` or `predictions_unchanged`."
        )
    return found


def response(
    model: nn.Module, images: Images, preprocess: Preprocessing, angles: Sequence[float] = ANGLES, label: int = 0
) -> dict[str, list[float]]:
    """The response to images, uint8 or in [0, 1], rotated through a full circle (Romero & Lohit 2022, figure 4).

    Returns:
        "angles" in degrees; "share", the fraction of images with P(label) > ½; "mean", the mean of P(label).
    """
    p = turned_logits(model, images, preprocess, angles).softmax(2)[:, :, label].double()
    share = (p > 0.5).double().mean(1)
    return {"angles": [float(a) for a in angles], "share": share.tolist(), "mean": p.mean(1).tolist()}


def predictions_unchanged(
    model: nn.Module,
    images: Images,
    preprocess: Preprocessing,
    angles: Sequence[float] = ANGLES,
    mirrored: bool = False,
) -> dict[str, list[float]]:
    """Fraction of answers that do not change: mean over x of [argmax f(g·x) = argmax f(x)].

    No labels are needed, because it does not matter whether the answers are right.

    Maps of classes are turned back first. The fraction is then that of the pixels with argmax g⁻¹·f(g·x) = argmax f(x)
    in the disc of diameter min(H, W), which stays in the image at every angle. The corners outside it do not count.
    Turning back is exact on multiples of 90° of square maps, else bilinear: at other angles some pixels on the edges
    between classes change by that alone. See `dense_errors`.

    Args:
        model: images → logits [N, classes], or maps of logits [N, classes, H, W]. Of a single logit, the side of 0
            counts.
        images: [N, C, H, W], uint8 or in [0, 1].
        angles: degrees, counter-clockwise.
        mirrored: also measure images that are reflected left-right and then rotated.
    Returns:
        "angles"; "share", the fraction at each angle, in [0, 1]; with `mirrored` also "mirrored", that of reflected
        images.
    Raises:
        ValueError: no angle or no image is given, or the model's answers have another shape.
    """
    if not len(angles) or not len(images):
        raise InputError(f"{len(images)} images and {len(angles)} angles: must be at least one of each.")
    kinds = {"share": False} | ({"mirrored": True} if mirrored else {})
    same = {name: torch.zeros(len(angles), dtype=torch.float64) for name in kinds}
    for batch in images.split(BATCH):
        x = as_float(batch)
        upright = logits(model, x, preprocess)
        if upright.ndim not in (2, 4):
            shape = tuple(upright.shape)
            raise InputError(
                f"the model's answer is {shape}: must be [batch, classes] or [batch, classes, height, width]."
            )
        for name, flip in kinds.items():
            for i, motion in enumerate(Motion(float(a), flip) for a in angles):
                same[name][i] += _alike(logits(model, motion(x), preprocess), upright, motion)
    return {"angles": [float(a) for a in angles]} | {name: (sums / len(images)).tolist() for name, sums in same.items()}


def _alike(moved: Tensor, upright: Tensor, motion: Motion) -> float:
    """The number of images whose answer is the same; of maps, the sum of the shares of their pixels."""
    if upright.ndim == 2:
        return float((predicted(moved) == predicted(upright)).sum())
    same = predicted(motion.undo(moved, "border")) == predicted(upright)
    return float(same[:, inscribed(upright).bool()].double().mean(1).sum())


def unchanged(turned: Tensor, upright: Tensor) -> list[float]:
    """Fraction, per angle, of images whose logits [angles, N, classes] predict the class of upright [N, classes]."""
    return (turned.argmax(2) == upright.argmax(1)).double().mean(1).tolist()


def class_responses(
    model: nn.Module,
    split: Split,
    preprocess: Preprocessing,
    angles: Sequence[float] = ANGLES,
    mirrored: bool = False,
) -> dict[str, Any]:
    """Response curves: the mean probability of each class by angle, for the images of each true class.

    mean[k][c][i] is the mean of softmax(f(g_i·x))_c over the images x with label classes[k].

    Args:
        split: labelled images.
        angles: degrees, counter-clockwise.
        mirrored: also measure images that are reflected left-right and then rotated.
    Returns:
        "angles"; "classes", the labels that occur, ascending; "images", the number of images of each; "mean", lists
        [true class][class][angle]; with `mirrored` also "mirrored", the same for reflected images.
    Raises:
        ValueError: no angle is given.
    """
    classes, counts = split.labels.unique(return_counts=True)
    found = {"angles": [float(a) for a in angles], "classes": classes.tolist(), "images": counts.tolist()}
    kinds = {"mean": False} | ({"mirrored": True} if mirrored else {})
    return found | {
        name: mean_by_class(turned_logits(model, split.images, preprocess, angles, flip), split.labels)
        for name, flip in kinds.items()
    }


def mean_by_class(turned: Tensor, labels: Tensor) -> list[list[list[float]]]:
    """Mean probabilities [true class][class][angle] of logits [angles, N, classes] of images with labels [N]."""
    p = turned.double().softmax(2)
    return [p[:, labels == k].mean(1).T.tolist() for k in labels.unique()]
