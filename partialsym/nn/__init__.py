"""Layers: the group convolution, normalisation, pooling, and what processes share."""
