"""Layers: group convolutions, normalisation, pooling, resampling, and synchronisation between processes."""
