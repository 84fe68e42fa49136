"""Networks, full and partial, built from the layers of `partialsym.nn`."""

from partialsym.models.augerino import Augerino, named_densities
from partialsym.models.convnext import GConvNeXt
from partialsym.models.gcnn3 import GCNN3
from partialsym.models.gcnn13 import GCNN13
from partialsym.models.gresnet import GResNet, ResidualBlock
from partialsym.models.presets import create, list_models
from partialsym.models.staged import GStagedResNet
from partialsym.models.symmetries import exact_symmetries, symmetries_of
from partialsym.models.unet import GUNet

__all__ = [
    "GCNN3",
    "GCNN13",
    "Augerino",
    "GConvNeXt",
    "GResNet",
    "GStagedResNet",
    "GUNet",
    "ResidualBlock",
    "create",
    "exact_symmetries",
    "list_models",
    "named_densities",
    "symmetries_of",
]
