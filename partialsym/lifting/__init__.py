"""Conversion of a trained convolutional network of torch to the same network on a group."""

from partialsym.lifting.conversion import lift
from partialsym.lifting.network import Lifted
from partialsym.lifting.report import Change, LiftReport

__all__ = ["Change", "LiftReport", "Lifted", "lift"]
