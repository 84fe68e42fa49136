"""Partial group equivariance: convolutional networks that learn which symmetries to keep, layer by layer."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Activation": "nn.activation",
    "AdaptivePool": "nn.resampling",
    "Augerino": "models",
    "BatchNorm": "nn.norm",
    "Bernoulli": "densities",
    "BlurPool": "nn.resampling",
    "Cyclic": "groups",
    "Density": "densities",
    "Dihedral": "groups",
    "DiracAlgebra": "densities",
    "Dropout": "nn.activation",
    "E2": "groups",
    "Elements": "signal",
    "Fourier": "kernels",
    "GCNN13": "models",
    "GResNet": "models",
    "Gabor": "kernels",
    "GlobalPool": "nn.pool",
    "Group": "groups",
    "GroupConv": "nn.conv",
    "GroupPool": "nn.pool",
    "HaarAlgebra": "densities",
    "InstanceNorm": "nn.norm",
    "Kernel": "kernels",
    "LinearPool": "nn.pool",
    "MAGNet": "kernels",
    "MLP": "kernels",
    "Mirror": "groups",
    "ReLU": "nn.activation",
    "SE2": "groups",
    "SIREN": "kernels",
    "SeparableGroupConv": "nn.separable",
    "Signal": "signal",
    "SpatialPool": "nn.pool",
    "T2": "groups",
    "Uniform": "densities",
    "Upsample": "nn.resampling",
    "cat": "signal",
    "choose_components": "component_choice",
    "class_responses": "measure",
    "dirac": "densities",
    "equivariance_errors": "measure",
    "exact_symmetries": "models",
    "to_conv2d": "export.conversion",
    "group": "groups",
    "haar": "densities",
    "learned": "densities",
    "lie_derivative": "measure",
    "load_model": "models.saving",
    "measured_range": "measure",
    "monte_carlo": "inference",
    "predictions_unchanged": "measure",
    "preserved_ranges": "measure",
    "project": "nn.pool",
    "range_of": "measure",
    "recalibrate": "inference",
    "save_model": "models.saving",
    "set_proportional": "densities",
    "set_temperature": "densities",
    "share_statistics": "nn.sync",
    "subset_spread": "measure",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'partialsym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_EXPORTS, "__version__"]
