"""Models built from the layers."""

from partialsym.models.gcnn13 import GCNN13
from partialsym.models.gresnet import GResNet, ResidualBlock

NETWORKS = {"ResNet": GResNet, "CNN13": GCNN13}  # as a config names them
MODELS = {network.__name__: network for network in NETWORKS.values()}  # as a saved model names them

__all__ = ["GCNN13", "MODELS", "NETWORKS", "GResNet", "ResidualBlock"]
