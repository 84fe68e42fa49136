"""Layers on signals: group convolutions, norms, pools, activations and resampling."""
