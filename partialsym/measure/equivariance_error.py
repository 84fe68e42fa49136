"""How far a model and each of its layers are from equivariance, and what it is due to."""

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
    """Relative L2 error between f(g·x) and g·f(x), of every GroupConv's output and of the model's, with its causes.

    f̄(x; E) is a layer's output, in a network whose layers have their deterministic elements E = {h_i}, as a function
    on the plane: its weighted mean over E. With transported elements gE = {g·h_i} in every layer
    f̄(g·x; gE) = g·f̄(x; E) but for the pixel grid, for every g in O(2), in the layer's group or not: the kernel sees
    h⁻¹(y − x) and h⁻¹h̃ alone. So the difference is a sum of two functions, each given by its norm:

        g⁻¹f̄(g·x; E) − f̄(x; E)  =  [g⁻¹f̄(g·x; gE) − f̄(x; E)]  +  g⁻¹[f̄(g·x; E) − f̄(g·x; gE)]
                 total           =         interpolation         +           elements

    `interpolation` is bilinear turning, the square frame, and kernels read at turned taps; on multiples of 90° of
    square images it is 0. Elsewhere both parts can be larger than `total` and cancel, where kernels vary from tap to
    tap: gE reads them where the network never did. `elements` is what it matters that a layer has E and not gE: because
    g moves elements out of what the layer keeps (partiality, what it has learned; a plain network keeps e alone), and
    because E is finite (Monte Carlo). With `refine` = k > 1 it is split further: E′ has k times as many rotations in
    every layer, `partiality` is the norm of g⁻¹[f̄(g·x; E′) − f̄(g·x; gE′)] and `monte_carlo` that of the difference to
    it. In a finite group E′ = E, and all is partiality. In a network that keeps its whole group there is no partiality,
    and the larger k is, the less is taken for it.

    The norms of parts do not add up. Their shares do, ⟨part, total⟩ / ‖total‖²: `interpolation_share` +
    `elements_share` = 1, and `partiality_share` + `monte_carlo_share` = `elements_share`. A share is negative where its
    part points against the total. Where `total` is only rounding the shares mean nothing.

    Norms are over the images, channels and pixels in the inscribed disc, divided by ‖f̄(x; E)‖; by the triangle
    inequality `total` is between |interpolation − elements| and their sum. Images are moved by `rotate`, on black
    outside the disc; feature maps are moved back bilinearly.

    Args:
        model: images [N, C, H, W] → logits [N, classes], which must not change at all; or maps or a Signal, which
            are turned back as those of layers are.
        images: [N, C, H, W], uint8 or in [0, 1].
        angles: φ in degrees, counter-clockwise.
        mirrored: measure g = R(φ)·m, mirrored left-right and then turned, too.
        refine: k ≥ 1. The cost is 2 passes an angle for k = 1, and 2·(1 + k²) above.
    Returns:
        For every g, for every layer in the order of the calls and then for "output", a row {"layer", "angle",
        "mirrored", "total", "interpolation", "elements", "partiality", "monte_carlo", the four shares and "control"}.
        `control` is what
        turning a band-limited image there and back loses at the layer's size (at the images', where there are no
        maps). None where it is unknown: the causes in a model without GroupConv or with convolutions of torch, and
        those of an Augerino's output (its layers are those of the network inside, on the images as they come);
        partiality and monte_carlo at k = 1.
    Raises:
        ValueError: no images or angles, refine below 1; with refine > 1 a model with linear pooling, whose number of
            elements is fixed.
    """
    if not len(images) or not len(angles):
        raise InputError(f"{len(images)} images and {len(angles)} angles: must be at least one of each.")
    if refine < 1:
        raise InputError(f"refine is {refine}: must be at least 1, which refines nothing.")
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
