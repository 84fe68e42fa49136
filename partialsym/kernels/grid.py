"""Grid: a filter on pixels, interpolated by cubic splines."""

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.errors import InputError
from partialsym.kernels.base import Kernel

_POLE = math.sqrt(3) - 2  # of the cubic spline's recursion: η'' changes by this factor from knot to knot


class Grid(Kernel):
    """A filter with taps t on the pixel grid, interpolated by cubic splines (Unser 1999), times functions b_m on H:

        k(x, h) = Σ_{t, m} W_{t, m}·η(x₁ − t₁)·η(x₂ − t₂)·b_m(h).

    The cardinal spline η is 1 at 0 and 0 at all other taps. So k represents any filter of a plain convolution exactly,
    and has two continuous derivatives between the taps. Beyond the outermost taps it decays by a factor of 0.27 per
    tap. Quarter turns and mirrorings map taps to taps and are therefore exact; other elements interpolate the filter
    (docs/lifting.md has the error). b_m are the monomials of the embedded relative element, of degree 0 to `order`.
    There is no bias.

    Args:
        kernel_size: taps per side; the layer's kernel_size.
        order: largest degree, at least 0; at 0 the kernel is constant on H.
        others: as for `Kernel`.
    Raises:
        ValueError: an argument is out of range.

    >>> kernel, weight = Grid(2, 1, 1, kernel_size=3), torch.randn(1, 1, 3, 3)
    >>> kernel.set_filter(weight)
    >>> centre = kernel(torch.zeros(2))
    >>> torch.allclose(centre, weight[:, :, 1, 1])
    True
    """

    def __init__(self, dim: int, out_channels: int, in_channels: int, *, kernel_size: int = 3, order: int = 1) -> None:
        if dim < 2:
            raise InputError(f"dim is {dim}: must be at least 2, for the position.")
        if kernel_size < 1:
            raise InputError(f"kernel_size is {kernel_size}: must be at least 1.")
        if order < 0:
            raise InputError(f"order is {order}: must be at least 0.")
        degrees = range(order + 1)
        powers = [power for degree in degrees for power in combinations_with_replacement(range(2, dim), degree)]
        super().__init__(dim, out_channels, in_channels, hidden=kernel_size**2 * len(powers), bias=False)
        self.kernel_size, self.order, self._powers = kernel_size, order, powers

    @property
    def moments(self) -> int | None:
        """b_0 = 1 and, with `order` 1, the embedded element itself; None if a subclass has features of its own."""
        return len(self._powers) if self.order <= 1 and type(self).features is Grid.features else None

    def on_plane(self, position: Tensor) -> Tensor:
        """η(x₁ − t₁)·η(x₂ − t₂) for the taps t in the order of a plain convolution's weight."""
        pixels = position * (self.kernel_size / 2)  # (x right, y up) from the centre
        taps = torch.arange(self.kernel_size, dtype=position.dtype, device=position.device)
        taps = taps - (self.kernel_size - 1) / 2
        across, down = cardinal_spline(pixels[..., None] - taps).unbind(-2)
        down = down.flip(-1)  # y points up; η is even, and the taps are symmetric
        return (down[..., :, None] * across[..., None, :]).flatten(-2)

    def features(self, z: Tensor) -> Tensor:
        """φ [*n, hidden]: for each b_m, b_0 = 1 first, the taps in the order of a plain convolution's weight."""
        grid = self.on_plane(z[..., :2])
        # indexing by a list would copy it to the device each time
        return torch.cat([math.prod((z[..., i : i + 1] for i in power), start=grid) for power in self._powers], -1)

    @torch.no_grad()
    def set_filter(self, weight: Tensor) -> None:
        """Set the kernel to a plain convolution's weight [out, in, kernel_size, kernel_size], on every element of H.

        Raises:
            ValueError: weight has another shape.
        """
        expected = (self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)
        if weight.shape != expected:
            raise InputError(f"weight has shape {tuple(weight.shape)}: must be {list(expected)}.")
        flat = weight.flatten(2).flatten(0, 1)
        self.linear.weight.copy_(F.pad(flat, (0, self.linear.in_features - flat.shape[1])))


def cardinal_spline(x: Tensor) -> Tensor:
    """η(x), elementwise: the cubic spline with knots at the integers that is 1 at 0 and 0 at all other integers.

    Its second derivatives at the knots are 6 − 6√3 at 0 and (12√3 − 18)·(√3 − 2)^(|n| − 1) elsewhere.
    """
    distance = x.abs()
    knot = distance.detach().floor()
    t, first = distance - knot, knot == 0
    after = (12 * math.sqrt(3) - 18) * _POLE**knot  # the second derivative at the next knot
    here = torch.where(first, 6 - 6 * math.sqrt(3), after / _POLE)
    rest = 1 - t
    bent = (rest**3 - rest) * here + (t**3 - t) * after
    return torch.where(first, rest, 0.0) + bent / 6
