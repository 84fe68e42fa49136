"""Figures of results: learned subsets, responses to rotated images, training curves, comparisons of table rows."""

from partialsym.figures.canvas import save
from partialsym.figures.circles import of_layers, responses, subsets
from partialsym.figures.comparisons import of_table, sizes
from partialsym.figures.curves import panels, training
from partialsym.figures.depths import depths

__all__ = ["depths", "of_layers", "of_table", "panels", "responses", "save", "sizes", "subsets", "training"]
