"""Continuous convolution kernels: SIREN, MLP, Fourier, Gabor, MAGNet, Grid."""

from partialsym.kernels.base import Kernel
from partialsym.kernels.grid import Grid
from partialsym.kernels.mfn import Fourier, Gabor, MAGNet
from partialsym.kernels.mlp import MLP
from partialsym.kernels.siren import SIREN

__all__ = ["MLP", "SIREN", "Fourier", "Gabor", "Grid", "Kernel", "MAGNet"]
