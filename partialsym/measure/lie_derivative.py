"""The local equivariance error: the derivative with respect to an infinitesimal rotation."""

import math
from typing import Any

from torch import nn

from partialsym.data import Preprocessing
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.measure.equivariance_error import STILL
from partialsym.measure.probe import OUTPUT, Norms, Probe, batches, prepared
from partialsym.measure.transforms import Motion


def lie_derivative(
    model: nn.Module, images: Images, preprocess: Preprocessing, step: float = 0.5
) -> list[dict[str, Any]]:
    """The Lie derivative under rotation of every GroupConv's output and of the model's (Gruver et al. 2023):

        (L f)(x) = d/dt|₀ g_t⁻¹·f(g_t·x)  ≈  [g_t⁻¹·f(g_t·x) − g_t·f(g_t⁻¹·x)] / 2t,    g_t = R(t),

    which is 0 if f is equivariant to small rotations. It is computed by central differences, in which the blur of
    bilinear rotation cancels, because it is even in t. Functions on the plane, disc and normalisation are those of
    `equivariance_errors`: `total` is ‖L f̄‖ / ‖f̄‖ per radian. `interpolation` is the same quantity with transported
    elements, caused by the pixel grid alone. `elements` is the rest, caused by the elements that the layers use.
    `mean_square` is the paper's local equivariance error E‖L f‖² / dim, the mean over images, channels and pixels of
    the disc; it is not divided by the norm of f.

    The value of a layer is that of the network from the images to that layer. The paper's decomposition by the chain
    rule, into the contribution of each layer to the output, is not computed.

    Args:
        model: as for `equivariance_errors`.
        images: [N, C, H, W], uint8 or in [0, 1].
        step: t in degrees, in (0, 5]. It should move no pixel by more than one pixel, 57°/(size/2). Below 0.01° the
            rounding of float32 becomes visible.
    Returns:
        For every layer in the order of the calls and then for "output", {"layer", "total", "interpolation",
        "elements", "interpolation_share", "elements_share", "mean_square"}. Unknown causes are None. The shares, in the
        direction of the total, add up to 1. The parts themselves can be larger than the total and cancel each other.
    Raises:
        ValueError: there are no images, or step is out of range.
    """
    if not len(images):
        raise InputError("images is empty: must be at least one.")
    if not 0 < step <= 5:
        raise InputError(f"step is {step}: must be in (0, 5] degrees.")
    probe, norms, span = Probe(model), Norms(), 2 * math.radians(step)
    with batches(model, images) as xs:
        for x in xs:
            base, elements = probe.own(prepared(x, STILL, preprocess))
            (own, carried), (own_back, carried_back) = (
                probe.returned(prepared(x, g, preprocess), g, elements) for g in (Motion(step), Motion(-step))
            )
            for layer, values in base.items():
                norms.add(layer, values)
                total = (own[layer] - own_back[layer]) / span
                norms.add((layer, "total"), total)
                if layer in carried:
                    grid = (carried[layer] - carried_back[layer]) / span
                    norms.add_part((layer, "interpolation"), grid, total)
                    norms.add_part((layer, "elements"), total - grid, total)
    return [
        {"layer": layer}
        | {part: norms.ratio((layer, part), layer) for part in ("total", "interpolation", "elements")}
        | {f"{part}_share": norms.share((layer, part), (layer, "total")) for part in ("interpolation", "elements")}
        | {"mean_square": norms.mean_square((layer, "total"))}
        for layer in sorted(base, key=OUTPUT.__eq__)
    ]
