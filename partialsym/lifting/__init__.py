"""Converts a trained convolutional network of torch to a network on a group with the same weights."""

from partialsym.lifting.conversion import lift
from partialsym.lifting.network import Lifted
from partialsym.lifting.report import Change, LiftReport

__all__ = ["Change", "LiftReport", "Lifted", "lift"]
