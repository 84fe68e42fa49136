"""Models built from the layers."""

from partialsym.models.augerino import Augerino, named_densities
from partialsym.models.gcnn13 import GCNN13
from partialsym.models.gresnet import GResNet, ResidualBlock
from partialsym.models.symmetries import exact_symmetries, symmetries_of

NETWORKS = {"ResNet": GResNet, "CNN13": GCNN13}  # as a config names them
MODELS = {model.__name__: model for model in (*NETWORKS.values(), Augerino)}  # as a saved model names them

__all__ = [
    "GCNN13",
    "MODELS",
    "NETWORKS",
    "Augerino",
    "GResNet",
    "ResidualBlock",
    "exact_symmetries",
    "named_densities",
    "symmetries_of",
]
