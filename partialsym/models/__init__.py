"""Models built from the layers."""

from partialsym.models.augerino import Augerino, named_densities
from partialsym.models.gcnn13 import GCNN13
from partialsym.models.gresnet import GResNet, ResidualBlock
from partialsym.models.symmetries import exact_symmetries, symmetries_of

__all__ = [
    "GCNN13",
    "Augerino",
    "GResNet",
    "ResidualBlock",
    "exact_symmetries",
    "named_densities",
    "symmetries_of",
]
