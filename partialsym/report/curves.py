"""Curves over the angle from −180° to 180°, as the page shows them: mean and range over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from partialsym.report.collect import Method

SHOWN = 6  # curves at most: the true class, the strongest others, and all other classes together


def circle(angles: Sequence[float]) -> list[tuple[float, int]]:
    """(angle, its index in `angles`) from −180° to 180°. The rotation by 180° is at both ends."""
    around = sorted(((a - 360 if a > 180 else a), i) for i, a in enumerate(angles))
    return [(-180.0, i) for a, i in around if a == 180] + around


def strongest(methods: Sequence[Method]) -> dict[int, list[int]]:
    """True class → the classes whose curves are shown: itself, then those with the highest probability.

    The highest probability is the maximum over all runs and angles.

    Args:
        methods: methods with the same classes.
    """
    peaks: dict[int, dict[int, float]] = {}
    classes = 0
    for method in methods:
        for _, behaviour in method.measured:
            classes, found = len(behaviour["classes"]), behaviour["responses"]
            for kind in ("mean", "mirrored"):
                for label, curves in zip(found["classes"], found[kind], strict=True):
                    of = peaks.setdefault(label, {})
                    for k, curve in enumerate(curves):
                        of[k] = max(of.get(k, 0.0), *curve)
    most = SHOWN if classes <= SHOWN else SHOWN - 1
    return {
        label: sorted(of, key=lambda k, label=label, of=of: (k != label, -of[k]))[:most]  # type: ignore[misc]
        for label, of in sorted(peaks.items())
    }


def curves(behaviour: Mapping[str, Any], label: int, shown: Sequence[int], mirrored: bool) -> list[list[float]]:
    """Mean probabilities by angle for images of a true class: one curve per class of `shown`, then one for all other
    classes together."""
    found = behaviour["responses"]
    own = found["mirrored" if mirrored else "mean"][found["classes"].index(label)]
    made = [[round(p, 4) for p in own[k]] for k in shown]
    if len(shown) < len(own):
        rest = [max(0.0, 1 - sum(at)) for at in zip(*(own[k] for k in shown), strict=True)]
        made.append([round(p, 4) for p in rest])
    return made


def named(behaviour: Mapping[str, Any], shown: Sequence[int]) -> list[str]:
    """The names of the curves of `curves`."""
    names = [str(behaviour["classes"][k]) for k in shown]
    return names + (["other classes together"] if len(shown) < len(behaviour["classes"]) else [])


def layers(behaviour: Mapping[str, Any]) -> dict[str, dict[bool, list[dict[str, Any]]]]:
    """Layer → mirrored → the rows of its errors, by ascending angle."""
    found: dict[str, dict[bool, list[dict[str, Any]]]] = {}
    for row in sorted(behaviour["errors"], key=lambda row: row["angle"]):
        found.setdefault(row["layer"], {}).setdefault(row["mirrored"], []).append(row)
    order = dict.fromkeys(row["layer"] for row in behaviour["errors"])
    return {layer: found[layer] for layer in order}


def by_test_images(methods: Sequence[Method]) -> list[list[Method]]:
    """The methods whose behaviour is known, grouped by test images."""
    groups: list[list[Method]] = []
    for method in (m for m in methods if m.measured):
        key = _images(method)
        group = next((g for g in groups if _images(g[0]) == key), None)
        if group is None:
            groups.append([method])
        else:
            group.append(method)
    return groups


def _images(method: Method) -> tuple[Any, ...]:
    _, behaviour = method.measured[0]
    pictures = [(e["label"], e["png"]) for e in behaviour["examples"]]
    return method.data, behaviour["classes"], behaviour["responses"]["images"], pictures
