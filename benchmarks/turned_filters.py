"""What a filter of pixels loses where it is turned: `python -m benchmarks.turned_filters` writes docs/lifting.md.

To a wave exp(iω·x) a filter answers ŵ(ω) = Σ_t w_t exp(iω·t), and turned by g it should answer ŵ(g⁻¹ω). The error is
relative, in the mean square over waves up to a frequency and over filters.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.tables import ROOT, fill
from partialsym.groups import SE2
from partialsym.kernels import Grid

DOCUMENT = ROOT.parent / "docs" / "lifting.md"
SIZES = (3, 5, 7)
BANDS = {"π/4": math.pi / 4, "π/2": math.pi / 2, "π": math.pi}  # of waves, radians a pixel
ROWS = {"random, window as it is": (False, 0), "random, window 2 pixels wider": (False, 1)}
ROWS |= {"smooth, window as it is": (True, 0), "smooth, window 2 pixels wider": (True, 1)}


def taps(size: int) -> Tensor:
    """Pixels [size², 2] (x right, y up) from the centre, in the order of a filter."""
    line = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.stack(torch.meshgrid(line, -line, indexing="xy"), -1).flatten(0, 1)


def filters(size: int, smooth: bool, count: int = 64) -> Tensor:
    """[count, 1, size, size]: white noise, or derivatives of a Gaussian as wide as a quarter, along any angle."""
    generator = torch.Generator().manual_seed(0)
    if not smooth:
        return torch.randn(count, 1, size, size, generator=generator, dtype=torch.float64)
    at, sigma = taps(size), size / 4
    angle = 2 * math.pi * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    along = at[:, 0] * angle.cos() + at[:, 1] * angle.sin()
    return (along * torch.exp(-at.square().sum(1) / (2 * sigma**2))).view(count, 1, size, size)


@torch.no_grad()
def turn_error(size: int, band: float, *, degrees: float = 45.0, smooth: bool = False, margin: int = 0) -> float:
    """Of filters of that many pixels a side, with that many rings of zeros round them."""
    weight = F.pad(filters(size, smooth), [margin] * 4)
    window = size + 2 * margin
    kernel = Grid(2, len(weight), 1, kernel_size=window).double()
    kernel.set_filter(weight)
    g, at = SE2().exp(torch.tensor([math.radians(degrees)], dtype=torch.float64)), taps(window)
    turned = kernel(SE2().act(g.mT, at) * (2 / window)).squeeze(2)  # [taps, filters]
    line = torch.linspace(-band, band, 41, dtype=torch.float64)
    waves = torch.cartesian_prod(line, line)
    waves = waves[waves.norm(dim=1) <= band]
    expected = torch.exp(1j * (SE2().act(g.mT, waves) @ at.T)) @ weight.flatten(1).T.to(torch.complex128)
    found = torch.exp(1j * (waves @ at.T)) @ turned.to(torch.complex128)
    return float((found - expected).norm() / expected.norm())


def table() -> str:
    """A line a kind of filter, a column a size and band."""
    heads = [f"{size}×{size}, to {name}" for size in SIZES for name in BANDS]
    lines = ["| filter | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for name, (smooth, margin) in ROWS.items():
        cells = [turn_error(size, band, smooth=smooth, margin=margin) for size in SIZES for band in BANDS.values()]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    fill(DOCUMENT, "turned", table())


if __name__ == "__main__":
    main()
