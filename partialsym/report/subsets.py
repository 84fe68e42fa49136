"""What the layers keep and how they came to it: pictures that need no script."""

import warnings
from collections.abc import Sequence
from html import escape
from typing import Any

from partialsym.figures import of_layers, panels, responses
from partialsym.figures.dials import WHOLE, Cell, explain, gather
from partialsym.report.collect import Method
from partialsym.report.inline_images import image
from partialsym.report.markup import Row, details, name_of, paragraph, section, spread, table
from partialsym.report.summary import undecided_layers
from partialsym.report.verdicts import Judged

KEPT = "The part of the symmetry group that each layer learned to keep, from the first layer to the last."
NOT_INVARIANCE = (
    "It is what a layer keeps, not the angles to which the output is invariant: layers together can be less, or more, "
    "symmetric than each of them. How far predictions stay is measured above."
)
TRAINING = "Loss, accuracy and what the layers keep after every epoch: the mean over seeds, with the range they span."
DEGREES = {"theta_deg": ("±θ, degrees", 1), "centre_deg": ("centre, degrees", 1)}
ANSWERS = (
    "How often the model calls an original an original, while it is turned through a circle; a copy is an original "
    "turned by 180°. A model equivariant to the whole circle answers alike on opposite sides."
)


def subsets(judged: Judged) -> str:
    """A dial a layer, for every method that has a group to keep a part of."""
    parts: list[str] = []
    others: dict[str, list[str]] = {}
    notes: dict[str, None] = {}
    for method in judged.methods:
        cells = list(gather(method.title, [result["subsets"] for result in method.results]).values())
        if said := _all_alike(cells):
            others.setdefault(said, []).append(name_of(method.title))
            continue
        notes |= dict.fromkeys(explain(cells))
        dials = "\n".join(
            f"<figure>{image(figure, _spoken(layer, method.results))}<figcaption>{escape(layer)}</figcaption></figure>"
            for layer, figure in of_layers(method.results).items()
        )
        parts.append(f'<h3>{name_of(method.title)}</h3>\n<div class="dials">\n{dials}\n</div>')
    if not any(result["subsets"] for method in judged.methods for result in method.results):
        return ""
    return section(
        "subsets",
        "What the layers keep",
        paragraph(KEPT),
        paragraph(NOT_INVARIANCE),
        *parts,
        paragraph(" ".join(notes), "soft"),
        *(f"<p><strong>{', '.join(names)}:</strong> {escape(said)}</p>" for said, names in others.items()),
        _numbers(judged.methods),
        undecided_layers(judged),
    )


def _all_alike(cells: Sequence[Cell]) -> str:
    """What there is to say of layers that no picture tells apart: they have no group, or keep all of it."""
    numbers = [(key, value) for cell in cells for key, values in cell.numbers.items() for value in values]
    numbers = [(key, value) for key, value in numbers if key != "centre_deg"]  # the whole circle is so about any
    if not numbers:
        return "translations alone, there is nothing to keep."
    if all(value >= (WHOLE if key == "theta_deg" else 1) for key, value in numbers):
        return "every layer keeps the whole group."
    return ""


def _spoken(layer: str, results: Sequence[dict[str, Any]]) -> str:
    """`block1.conv1 keeps ±60.0°, P(m) 0.25 ± 0.02`; off the identity `±60.0°, about 90.0°`."""
    found = [next(s for s in result["subsets"] if s["layer"] == layer) for result in results]
    degrees = {"theta_deg": "±", "centre_deg": "about "}
    said = [
        f"{degrees[key]}{spread([s[key] for s in found], 1)}°"
        if key in degrees
        else f"{key} {spread([s[key] for s in found])}"
        for key in found[0]
        if key not in ("layer", "group")
    ]
    return f"{layer} keeps {', '.join(said)}" if said else f"{layer} keeps the identity alone"


def _numbers(methods: Sequence[Method]) -> str:
    """Degrees and probabilities, a row a number and a column a layer."""
    layers = list(dict.fromkeys(s["layer"] for m in methods for r in m.results for s in r["subsets"]))
    rows: list[Row] = []
    for method in methods:
        read = [{s["layer"]: s for s in result["subsets"]} for result in method.results]
        for key in dict.fromkeys(k for r in read for s in r.values() for k in s if k not in ("layer", "group")):
            label, digits = DEGREES.get(key, (key, 2))
            found = [[r[layer][key] for r in read if key in r.get(layer, {})] for layer in layers]
            rows.append([method.title, label, *(spread(values, digits) if values else "–" for values in found)])
    if not rows:
        return ""
    caption = "Mean ± standard deviation over seeds; ±180 is the whole circle."
    return details("What the layers keep, as a table", table(["method", "kept", *layers], rows, caption, texts=2))


def training(methods: Sequence[Method]) -> str:
    """A row of panels a method."""
    parts = []
    for method in methods:
        histories = [list(seed.history) for seed in method.seeds]
        if any(histories):
            drawn = "\n".join(image(figure, _trained(method, title)) for title, figure in panels(histories).items())
            parts.append(f'<div><h3>{name_of(method.title)}</h3>\n<div class="panels">\n{drawn}\n</div></div>')
    rows = "\n".join(parts)
    return section("training", "Training", paragraph(TRAINING), f'<div class="rows">{rows}</div>') if parts else ""


def _trained(method: Method, title: str) -> str:
    ends = [seed.history[-1] for seed in method.seeds if seed.history]
    keys = {"loss": "validation_loss", "accuracy": "validation_accuracy"}
    last = [end[keys[title]] for end in ends if keys.get(title) in end] if title in keys else []
    return f"{title} over epochs" + (f"; at the end {spread(last, 3)} on validation images" if last else "")


def old_responses(methods: Sequence[Method]) -> str:
    """Responses that results hold themselves, for methods of which nothing newer can be had."""
    turned = {m.title: m.results for m in methods if not m.measured and any("response" in r for r in m.results)}
    if not turned:
        return ""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter of a name that the font lacks
        drawn = image(responses(turned), f"Answers of {', '.join(turned)} to turned images")
    return section("answers", "Answers to turned images", paragraph(ANSWERS), f'<div class="wide">{drawn}</div>')
