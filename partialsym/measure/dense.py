"""How far an answer for every pixel goes along with a moved image: f(g·x) against g·f(x)."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from partialsym.data import Preprocessing
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.measure.equivariance_error import STILL, TURNS
from partialsym.measure.predictions import predicted
from partialsym.measure.probe import Norms, batches, prepared
from partialsym.measure.transforms import Motion, centred_square, control_error, inscribed


def dense_errors(
    model: nn.Module,
    images: Images,
    preprocess: Preprocessing,
    angles: Sequence[float] = TURNS,
    mirrored: bool = False,
) -> list[dict[str, Any]]:
    """The difference between f(g·x) and g·f(x) of a network that answers pixel by pixel.

    Both are compared where the image is, g⁻¹·f(g·x) with f(x), on the pixels of the inscribed disc. Of images that are
    not square, the centred square is measured, because a quarter turn would exchange their sides. Images are moved by
    `rotate`, on black outside the disc, and maps are moved back bilinearly: both are exact on multiples of 90°.

    Args:
        model: images [N, C, H, W] → logits [N, classes, H, W], such as those of a GUNet.
        images: [N, C, H, W], uint8 or in [0, 1], not normalised.
        preprocess: normalises them, such as `partialsym.data.Preprocessing(mean, std)`.
        angles: φ in degrees, counter-clockwise.
        mirrored: measure g = R(φ)·m, mirrored left-right and then turned, too.
    Returns:
        For every g a row {"angle", "mirrored", "error", "agreement", "control"}. `error` is
        ‖g⁻¹·f(g·x) − f(x)‖ / ‖f(x)‖ over images, classes and pixels. `agreement` is the share of pixels that are given
        the same class; of a single logit, on the same side of 0. `control` is what turning a band-limited image there
        and back loses by itself.
    Raises:
        ValueError: no images or angles, or a model whose answers are no maps of the size of the images.
    """
    if not len(images) or not len(angles):
        raise InputError(f"{len(images)} images and {len(angles)} angles: must be at least one of each.")
    motions = dict.fromkeys(Motion(float(a), flip) for flip in (False, True)[: 1 + mirrored] for a in angles)
    norms, same, pixels = Norms(), defaultdict[Motion, float](float), 0.0
    with batches(model, images) as xs:
        for x in map(centred_square, xs):
            before = _maps(model(prepared(x, STILL, preprocess)), x)
            norms.add(STILL, before)
            disc = inscribed(before)
            pixels += len(x) * float(disc.sum())
            for motion in motions:
                after = motion.undo(_maps(model(prepared(x, motion, preprocess)), x), "border")
                norms.add((motion, "error"), after - before)
                same[motion] += float(((predicted(after) == predicted(before)) * disc).sum())
    side = min(images.shape[-2:])
    return [
        {
            "angle": g.degrees,
            "mirrored": g.mirrored,
            "error": norms.ratio((g, "error"), STILL),
            "agreement": same[g] / pixels,
            "control": control_error(side, side, g),
        }
        for g in motions
    ]


def _maps(answers: object, x: Tensor) -> Tensor:
    if not isinstance(answers, Tensor) or answers.ndim != 4 or answers.shape[-2:] != x.shape[-2:]:
        shape = tuple(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
        size = "×".join(map(str, x.shape[-2:]))
        raise InputError(f"the model's answer is {shape}: must be [batch, classes, height, width] of {size} pixels.")
    return answers
