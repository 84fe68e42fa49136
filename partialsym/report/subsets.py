"""The learned subsets of the layers and their training curves: figures that need no script."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from partialsym.figures import of_layers, panels
from partialsym.figures.dials import WHOLE, Cell, explain, gather, share
from partialsym.report.collect import Method
from partialsym.report.inline_images import Image, image
from partialsym.report.text import Table, spread
from partialsym.report.verdicts import Judged
from partialsym.runs.schema import describe_choice, sampled_accuracy

UNDECIDED = (0.3, 0.7)
DEGREES = {"theta_deg": ("±θ, degrees", 1), "centre_deg": ("centre, degrees", 1)}


class Note(NamedTuple):
    """A note about one run."""

    title: str
    seed: int
    text: str


class Subsets(NamedTuple):
    """The learned subsets of the layers of all methods."""

    dials: list[tuple[str, dict[str, Image]]]  # title → layer → dial, for methods whose layers differ
    explanations: list[str]  # how to read the dials
    alike: dict[str, list[str]]  # a sentence about methods whose layers are all the same → their titles
    table: Table | None  # one row per quantity, one column per layer; None if no layer can learn a subset
    chosen: list[Note]  # elements that validation images chose
    undecided: list[Note]  # layers with a probability near ½


def subsets(judged: Judged) -> Subsets | None:
    """The learned subsets; None if no result has any."""
    if not any(result["subsets"] for method in judged.methods for result in method.results):
        return None
    dials: list[tuple[str, dict[str, Image]]] = []
    alike: dict[str, list[str]] = {}
    explanations: dict[str, None] = {}
    for method in judged.methods:
        cells = list(gather(method.title, [result["subsets"] for result in method.results]).values())
        if said := _all_alike(cells):
            alike.setdefault(said, []).append(method.title)
            continue
        explanations |= dict.fromkeys(explain(cells))
        figures = of_layers(method.results).items()
        dials.append((method.title, {k: image(figure, _spoken(k, method.results)) for k, figure in figures}))
    chosen, halves = _notes(judged.methods, describe_choice), _notes(judged.methods, _describe_undecided)
    return Subsets(dials, list(explanations), alike, _numbers(judged.methods), chosen, halves)


def _all_alike(cells: Sequence[Cell]) -> str:
    """A sentence about layers that all use no group, or all of it, so that their dials look the same; else empty."""
    numbers = [(key, value) for cell in cells for key, values in cell.numbers.items() for value in values]
    numbers = [(key, value) for key, value in numbers if key != "centre_deg"]  # a whole circle has no centre
    if not numbers:
        return "it uses translations only, so its layers have no part of a group to learn."
    if all(value >= (WHOLE if key == "theta_deg" else 1) for key, value in numbers):
        return "every layer uses the whole group."
    return ""


def _spoken(layer: str, results: Sequence[dict[str, Any]]) -> str:
    """`block1.conv1 uses ±60.0°, P(m) 0.25 ± 0.02`, or `±60.0°, about 90.0°` if the centre is not the identity."""
    found = [next(s for s in result["subsets"] if s["layer"] == layer) for result in results]
    degrees = {"theta_deg": "±", "centre_deg": "about "}
    said = [
        f"{degrees[key]}{spread([s[key] for s in found], 1)}°"
        if key in degrees
        else f"{key} {spread([s[key] for s in found])}"
        for key in found[0]
        if key not in ("layer", "group")
    ]
    return f"{layer} uses {', '.join(said)}" if said else f"{layer} uses only the identity"


def _numbers(methods: Sequence[Method]) -> Table | None:
    """Degrees and probabilities, one row per quantity and one column per layer."""
    layers = list(dict.fromkeys(s["layer"] for m in methods for r in m.results for s in r["subsets"]))
    rows: list[list[str]] = []
    for method in methods:
        read = [{s["layer"]: s for s in result["subsets"]} for result in method.results]
        for key in dict.fromkeys(k for r in read for s in r.values() for k in s if k not in ("layer", "group")):
            label, digits = DEGREES.get(key, (key, 2))
            found = [[r[layer][key] for r in read if key in r.get(layer, {})] for layer in layers]
            rows.append([method.title, label, *(spread(values, digits) if values else "–" for values in found)])
    return Table(["method", "quantity", *layers], rows) if rows else None


def _notes(methods: Sequence[Method], describe: Callable[[Mapping[str, Any]], str]) -> list[Note]:
    """The notes that `describe` returns for the results, without empty ones."""
    found = ((m.title, seed.number, describe(seed.result)) for m in methods for seed in m.seeds)
    return [Note(*one) for one in found if one[-1]]


def undecided(result: Mapping[str, Any]) -> list[str]:
    """`block1.conv1 P(m) .43` for each final probability between .3 and .7."""
    low, high = UNDECIDED
    return [
        f"{subset['layer']} {key} {share(p)}"
        for subset in result["subsets"]
        for key, p in subset.items()
        if key.startswith("P(") and low <= p <= high
    ]


def _describe_undecided(result: Mapping[str, Any]) -> str:
    test, sampled = 100 * result["accuracy"]["test"], 100 * sampled_accuracy(result)
    layers = ", ".join(undecided(result))
    return f"{layers}. Deterministic {test:.2f} %, sampled {sampled:.2f} %." if layers else ""


def training(methods: Sequence[Method]) -> list[tuple[str, list[Image]]]:
    """The training curves: (title of a method, its curves over epochs), for methods whose history is known."""
    made: list[tuple[str, list[Image]]] = []
    for method in methods:
        histories = [list(seed.history) for seed in method.seeds]
        if any(histories):
            figures = panels(histories).items()
            made.append((method.title, [image(figure, _trained(method, title)) for title, figure in figures]))
    return made


def _trained(method: Method, title: str) -> str:
    ends = [seed.history[-1] for seed in method.seeds if seed.history]
    keys = {"loss": "validation_loss", "accuracy": "validation_accuracy"}
    last = [end[keys[title]] for end in ends if keys.get(title) in end] if title in keys else []
    return f"{title} over epochs" + (f"; at the end {spread(last, 3)} on validation images" if last else "")
