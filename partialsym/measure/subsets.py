"""The learned subset of each layer, for one model and over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from partialsym.errors import InputError
from partialsym.models import named_densities


def learned_subsets(model: nn.Module) -> list[dict[str, Any]]:
    """The learned subset of every layer with a density, in the order of the modules. An Augerino's `input` is first.

    Each entry is {"layer": name, "group": name, "theta_deg": …, "P(c)": …}, with "centre_deg" if the density has a
    centre: see `Density.support`.
    """
    return [
        {"layer": name, "group": density.group.name, **density.support()} for name, density in named_densities(model)
    ]


def subset_spread(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The learned subset of every layer, with its spread over seeds.

    Args:
        results: results of runs that differ only in the seed; "subsets" of each holds the output of `learned_subsets`.
    Returns:
        For every layer {"layer", "group"} and, for `theta_deg` (degrees) and each `P(c)`, {"values": one a result,
        "mean", "std"}: the sample's standard deviation (n − 1), None for a single result.
    Raises:
        ValueError: no results, or their layers differ.

    >>> runs = [{"subsets": [{"layer": "last", "group": "SE2", "theta_deg": t}]} for t in (80.0, 100.0)]
    >>> subset_spread(runs)[0]["theta_deg"]
    {'values': [80.0, 100.0], 'mean': 90.0, 'std': 14.142135623730951}
    """
    if not results:
        raise InputError("results is empty: must hold at least one result.")
    subsets = [result["subsets"] for result in results]
    first, *others = [[(s["layer"], s["group"], *_quantities(s)) for s in one] for one in subsets]
    for i, other in enumerate(others, 1):
        if other != first:
            raise InputError(f"result {i} has the layers {other}, but the first {first}: must be of one model.")
    return [
        {"layer": same[0]["layer"], "group": same[0]["group"]}
        | {key: _spread([float(s[key]) for s in same]) for key in _quantities(same[0])}
        for same in zip(*subsets, strict=True)
    ]


def _quantities(subset: Mapping[str, Any]) -> list[str]:
    return [key for key in subset if key not in ("layer", "group")]


def _spread(values: list[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"values": values, "mean": statistics.fmean(values), "std": std}
