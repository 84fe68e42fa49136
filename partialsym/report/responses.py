"""What the models do as their images turn: the parts of the page that its scripts draw, with their tables."""

import statistics
from collections.abc import Mapping, Sequence

from partialsym.report.collect import Method
from partialsym.report.curves import circle, layers
from partialsym.report.markup import Row, details, fill, spread, table

EVERY = 3  # of the measured angles, in tables: 45°
RESPONSES = {"method": "Method", "seed": "Seed", "label": "True class"}
ERRORS = {"method": "Method", "layer": "Layer"}
PICTURE = '<div class="stage"><img alt=""></div>'
MEANS = "Means over seeds. Angles are counter-clockwise; mirrored: left-right, then turned."


def behaving(methods: Sequence[Method]) -> str:
    """Responses, predictions unchanged, equivariance errors; nothing where no behaviour is known."""
    known = [method for method in methods if method.measured]
    if not known:
        return ""
    return "\n".join(
        (
            fill("responses.html", view=_view(RESPONSES, "image", PICTURE), table=_responses(known)),
            fill("unchanged.html", view=_view({}), ranges=_ranges(known), table=_unchanged(known)),
            fill("errors.html", view=_view(ERRORS), table=_errors(known)),
        )
    )


def _view(choices: Mapping[str, str], turned: str = "images", picture: str = "") -> str:
    """A chart with its controls; `choices` are the labels of selects by name."""
    selects = (f'<label>{label} <select name="{name}"></select></label>' for name, label in choices.items())
    return fill("view.html", choices="\n".join(selects), turned=turned, picture=picture)


def _responses(methods: Sequence[Method]) -> str:
    rows: list[Row] = []
    angles: list[tuple[float, int]] = []
    for method in methods:
        seeds = [seed.behaviour for seed in method.measured if seed.behaviour]
        angles = circle(seeds[0]["responses"]["angles"])[::EVERY]
        for k, label in enumerate(seeds[0]["responses"]["classes"]):
            for key in ("mean", "mirrored"):
                means = [statistics.mean(s["responses"][key][k][label][i] for s in seeds) for _, i in angles]
                name = str(seeds[0]["classes"][label])
                rows.append([method.title, name, _mirrored(key), *(f"{p:.2f}" for p in means)])
    head = ["method", "true class", "images", *(_degrees(a) for a, _ in angles)]
    return details("Mean probability of the true class, as a table", table(head, rows, MEANS, texts=3))


def _unchanged(methods: Sequence[Method]) -> str:
    rows: list[Row] = []
    angles: list[tuple[float, int]] = []
    for method in methods:
        seeds = [seed.behaviour["unchanged"] for seed in method.measured if seed.behaviour]
        angles = circle(seeds[0]["angles"])[::EVERY]
        for key in ("share", "mirrored"):
            means = [100 * statistics.mean(s[key][i] for s in seeds) for _, i in angles]
            rows.append([method.title, _mirrored(key), *(f"{p:.0f}" for p in means)])
    head = ["method", "images", *(_degrees(a) for a, _ in angles)]
    return details("Predictions unchanged in per cent, as a table", table(head, rows, MEANS, texts=2))


def _ranges(methods: Sequence[Method]) -> str:
    """The median preserved range of each method, over its seeds."""
    rows: list[Row] = []
    for method in methods:
        found = [s.behaviour["preserved"]["ranges"] for s in method.measured if s.behaviour]
        medians = [statistics.median(ranges) for ranges in found if ranges]
        rows.append([method.title, _turns(medians), str(len(medians))])
    caption = (
        "Half the arc of turns through which the prediction of an image stays, median over the test images that are "
        "right upright; mean ± standard deviation over seeds."
    )
    return table(["method", "stays up to a turn of", "seeds"], rows, caption)


def _errors(methods: Sequence[Method]) -> str:
    rows: list[Row] = []
    angles: list[float] = []
    for method in methods:
        seeds = [layers(seed.behaviour) for seed in method.measured if seed.behaviour]
        for layer in seeds[0]:
            for mirrored in seeds[0][layer]:
                angles = [row["angle"] for row in seeds[0][layer][mirrored]]
                of = [[row["total"] for row in seed[layer][mirrored]] for seed in seeds]
                kind = "mirrored" if mirrored else "as they are"
                rows.append(
                    [method.title, layer, kind, *(f"{statistics.mean(at):.2f}" for at in zip(*of, strict=True))]
                )
    head = ["method", "layer", "images", *map(_degrees, angles)]
    return details("Equivariance errors, as a table", table(head, rows, MEANS, texts=3))


def _turns(degrees: Sequence[float]) -> str:
    return " ± ".join(f"{part}°" for part in spread(degrees, 0).split(" ± ")) if degrees else "–"


def _mirrored(key: str) -> str:
    return "mirrored" if key == "mirrored" else "as they are"


def _degrees(angle: float) -> str:
    return f"{angle:.0f}°".replace("-", "−")
