"""Pictures of plain numbers: learned subsets, responses to turned images, training curves."""

from partialsym.figures.canvas import save
from partialsym.figures.circles import responses, subsets
from partialsym.figures.curves import training

__all__ = ["responses", "save", "subsets", "training"]
