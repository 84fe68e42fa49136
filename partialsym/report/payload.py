"""The data that the page's scripts plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from partialsym.report.collect import Method
from partialsym.report.curves import by_test_images, circle, curves, layers, named, strongest


def payload(methods: Sequence[Method]) -> dict[str, Any]:
    """The content of the page's JSON; empty if no behaviour is known.

    It contains `angles` and `turns` in degrees, the test sets as `images`, and `methods` with their seeds; each method
    has the number of its test set.
    """
    groups = by_test_images(methods)
    if not groups:
        return {}
    _, first = groups[0][0].measured[0]
    shown = [strongest(group) for group in groups]
    return {
        "angles": [a for a, _ in circle(first["responses"]["angles"])],
        "turns": sorted({row["angle"] for row in first["errors"]}),
        "images": [_images(group[0], of) for group, of in zip(groups, shown, strict=True)],
        "methods": [
            {
                "title": method.title,
                "images": i,
                "seeds": [_seed(seed.number, behaviour, shown[i]) for seed, behaviour in method.measured],
            }
            for i, group in enumerate(groups)
            for method in group
        ],
    }


def _images(method: Method, shown: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    _, behaviour = method.measured[0]
    found = behaviour["responses"]
    pictures = {e["label"]: f"data:image/png;base64,{e['png']}" for e in behaviour["examples"]}
    return {
        "turned": behaviour["images"]["turned"],
        "compared": behaviour["images"]["compared"],
        "classes": [
            {
                "label": label,
                "name": str(behaviour["classes"][label]),
                "count": count,
                "shown": named(behaviour, shown[label]),
                "picture": pictures.get(label),
            }
            for label, count in zip(found["classes"], found["images"], strict=True)
        ],
    }


def _seed(number: int, behaviour: Mapping[str, Any], shown: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    """The measurements of one seed as pairs of lists over the angle: for the original and for the mirrored images."""
    at = [i for _, i in circle(behaviour["responses"]["angles"])]
    unchanged = behaviour["unchanged"]
    return {
        "seed": number,
        "responses": {
            label: [
                [[curve[i] for i in at] for curve in curves(behaviour, label, of, mirrored)]
                for mirrored in (False, True)
            ]
            for label, of in shown.items()
        },
        "unchanged": [[round(unchanged[key][i], 4) for i in at] for key in ("share", "mirrored")],
        "errors": {
            layer: {
                part: [[_rounded(row[part]) for row in rows[mirrored]] for mirrored in (False, True)]
                for part in ("total", "interpolation", "control")
            }
            for layer, rows in layers(behaviour).items()
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
