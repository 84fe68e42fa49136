"""Models built from the layers."""

from partialsym.models.gresnet import GResNet, ResidualBlock

MODELS = {"GResNet": GResNet}

__all__ = ["MODELS", "GResNet", "ResidualBlock"]
