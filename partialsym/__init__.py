"""Partial group equivariance: convolutional networks that learn which symmetries to keep, layer by layer."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Augerino": "models",
    "BatchNorm": "norm",
    "Bernoulli": "densities",
    "Cyclic": "groups",
    "Density": "densities",
    "Dihedral": "groups",
    "DiracAlgebra": "densities",
    "E2": "groups",
    "Elements": "signal",
    "Fourier": "kernels",
    "GCNN13": "models",
    "GResNet": "models",
    "Gabor": "kernels",
    "GlobalPool": "pool",
    "Group": "groups",
    "GroupConv": "conv",
    "GroupPool": "pool",
    "HaarAlgebra": "densities",
    "InstanceNorm": "norm",
    "Kernel": "kernels",
    "LinearPool": "pool",
    "MAGNet": "kernels",
    "MLP": "kernels",
    "Mirror": "groups",
    "SE2": "groups",
    "SIREN": "kernels",
    "Signal": "signal",
    "SpatialPool": "pool",
    "T2": "groups",
    "Uniform": "densities",
    "choose_components": "component_choice",
    "class_responses": "measure",
    "dirac": "densities",
    "equivariance_errors": "measure",
    "exact_symmetries": "models",
    "freeze": "freezing",
    "group": "groups",
    "haar": "densities",
    "learned": "densities",
    "lie_derivative": "measure",
    "load_model": "store",
    "measured_range": "measure",
    "monte_carlo": "inference",
    "predictions_unchanged": "measure",
    "preserved_ranges": "measure",
    "range_of": "measure",
    "recalibrate": "inference",
    "save_model": "store",
    "set_proportional": "densities",
    "set_temperature": "densities",
    "share_statistics": "sharing",
    "subset_spread": "measure",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'partialsym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_EXPORTS, "__version__"]
