"""The equivariance error of a model and each of its layers, split by cause."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from partialsym.data import Preprocessing
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.measure.probe import OUTPUT, Maps, Norms, Probe, batches, prepared
from partialsym.measure.transforms import Motion, control_error

TURNS = tuple(range(0, 181, 15))
TOTAL, PARTS = "total", ("interpolation", "elements", "partiality", "monte_carlo")
STILL = Motion(0.0)


def equivariance_errors(
    model: nn.Module,
    images: Images,
    preprocess: Preprocessing,
    angles: Sequence[float] = TURNS,
    mirrored: bool = False,
    refine: int = 1,
) -> list[dict[str, Any]]:
    """Relative L2 error between f(g·x) and g·f(x), for the output of every GroupConv and of the model, by cause.

    Let every layer use its deterministic elements E = {h_i}, and let f̄(x; E) be the weighted mean over E of a layer's
    output, a function on the plane. With transported elements gE = {g·h_i} in every layer, f̄(g·x; gE) = g·f̄(x; E)
    except for effects of the pixel grid. This holds for every g in O(2), in the layer's group or not, because the
    kernel depends only on h⁻¹(y − x) and h⁻¹h̃. The error is therefore a sum of two functions, whose norms are returned:

        g⁻¹f̄(g·x; E) − f̄(x; E)  =  [g⁻¹f̄(g·x; gE) − f̄(x; E)]  +  g⁻¹[f̄(g·x; E) − f̄(g·x; gE)]
                 total           =         interpolation         +           elements

    `interpolation` is caused by bilinear rotation, the square frame, and kernels evaluated at rotated taps. For square
    images and multiples of 90° it is 0. For other angles, both parts can be larger than `total` and cancel each other
    if kernels vary much from tap to tap, because gE evaluates them at points that the network never uses. `elements` is
    the effect of using E instead of gE. It has two causes: g moves elements out of the subset that the layer retains
    (partiality: what the layer has learned; an ordinary network retains only e), and E is finite (Monte Carlo). With
    `refine` = k > 1 these are separated: E′ has k times as many rotations in every layer, `partiality` is the norm of
    g⁻¹[f̄(g·x; E′) − f̄(g·x; gE′)], and `monte_carlo` is the norm of the rest of `elements`. For a finite group E′ = E,
    and everything is partiality. A network that retains its whole group has no partiality; the larger k is, the smaller
    is the Monte-Carlo error that is reported as partiality.

    The norms of the parts do not add up to `total`. Their shares ⟨part, total⟩ / ‖total‖² do: `interpolation_share` +
    `elements_share` = 1, and `partiality_share` + `monte_carlo_share` = `elements_share`. A share is negative if its
    part points against the total. If `total` is only rounding, the shares are meaningless.

    Norms are taken over the images, the channels and the pixels in the inscribed disc, and divided by ‖f̄(x; E)‖. By the
    triangle inequality, `total` is between |interpolation − elements| and their sum. Images are transformed by `rotate`
    and are black outside the disc; feature maps are transformed back bilinearly.

    Args:
        model: images [N, C, H, W] → logits [N, classes], which should be invariant, or maps or a Signal, which are
            transformed back in the same way as those of layers.
        images: [N, C, H, W], uint8 or in [0, 1].
        angles: φ in degrees, counter-clockwise.
        mirrored: also measure g = R(φ)·m, a left-right reflection followed by a rotation.
        refine: k ≥ 1. The cost is 2 passes per angle for k = 1, and 2·(1 + k²) for larger k.
    Returns:
        For every g, for every layer in the order of the calls and then for "output", a row {"layer", "angle",
        "mirrored", "total", "interpolation", "elements", "partiality", "monte_carlo", the four shares and "control"}.
        `control` is the relative error of rotating a band-limited image by g and back, at the size of the layer's maps,
        or of the images if there are no maps. Unknown values are None: the causes in a model without GroupConv or with
        convolutions of torch; those of the output of an Augerino (its layers are those of the wrapped network, on
        untransformed images); partiality and monte_carlo for k = 1.
    Raises:
        ValueError: there are no images or angles; refine is below 1; refine > 1 for a model with linear pooling, whose
            number of elements is fixed.
    """
    if not len(images) or not len(angles):
        raise InputError(f"{len(images)} images and {len(angles)} angles: must be at least one of each.")
    if refine < 1:
        raise InputError(f"refine is {refine}: must be at least 1 (no refinement).")
    motions = dict.fromkeys(Motion(float(a), flip) for flip in (False, True)[: 1 + mirrored] for a in angles)
    probe, norms = Probe(model), Norms()
    sizes: dict[str, tuple[int, int]] = {}
    with batches(model, images) as xs:
        for x in xs:
            still = prepared(x, STILL, preprocess)
            base, elements = probe.own(still)
            denser = probe.own(still, refine)[1] if refine > 1 else []
            for layer, values in base.items():
                norms.add(layer, values)
                height, width = (values if values.ndim == 4 else x).shape[-2:]
                sizes[layer] = (height, width)
            for motion in motions:
                moved = prepared(x, motion, preprocess)
                own, carried = probe.returned(moved, motion, elements)
                fine = probe.returned(moved, motion, denser, refine) if refine > 1 else ({}, {})
                for layer, before in base.items():
                    total = own[layer] - before
                    norms.add((layer, motion, TOTAL), total)
                    for part, error in _parts(layer, before, own, carried, *fine):
                        norms.add_part((layer, motion, part), error, total)
    return [
        {"layer": layer, "angle": g.degrees, "mirrored": g.mirrored}
        | {part: norms.ratio((layer, g, part), layer) for part in (TOTAL, *PARTS)}
        | {f"{part}_share": norms.share((layer, g, part), (layer, g, TOTAL)) for part in PARTS}
        | {"control": control_error(*sizes[layer], g)}
        for g in motions
        for layer in sorted(sizes, key=OUTPUT.__eq__)
    ]


def _parts(
    layer: str, before: Tensor, own: Maps, carried: Maps, denser: Maps, denser_carried: Maps
) -> Iterator[tuple[str, Tensor]]:
    if layer not in carried:
        return
    elements = own[layer] - carried[layer]
    yield "interpolation", carried[layer] - before
    yield "elements", elements
    if layer in denser_carried:
        partiality = denser[layer] - denser_carried[layer]
        yield "partiality", partiality
        yield "monte_carlo", elements - partiality
