"""The predictions of a model for rotated and reflected images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partialsym.data import Preprocessing, Split, as_float
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.measure.predictions import BATCH, logits
from partialsym.measure.transforms import Motion

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
        ValueError: no angle is given.
    """
    if not len(angles):
        raise InputError("angles is empty: must be at least one, in degrees.")
    motions = [Motion(float(a), mirrored) for a in angles]
    batches = (as_float(batch) for batch in images.split(BATCH))
    return torch.cat([torch.stack([logits(model, g(batch), preprocess) for g in motions]) for batch in batches], 1)


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
    """Fraction of images whose prediction does not change: mean over x of [argmax f(g·x) = argmax f(x)].

    No labels are needed, because it does not matter whether the predictions are right.

    Args:
        images: [N, C, H, W], uint8 or in [0, 1].
        angles: degrees, counter-clockwise.
        mirrored: also measure images that are reflected left-right and then rotated.
    Returns:
        "angles"; "share", the fraction at each angle, in [0, 1]; with `mirrored` also "mirrored", that of reflected
        images.
    Raises:
        ValueError: no angle is given.
    """
    upright = logits(model, images, preprocess)
    turned = turned_logits(model, images, preprocess, angles)
    found = {"angles": [float(a) for a in angles], "share": unchanged(turned, upright)}
    if not mirrored:
        return found
    return found | {"mirrored": unchanged(turned_logits(model, images, preprocess, angles, True), upright)}


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
