"""The taps of a factored kernel, their spectrum, and the gradients of both."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.ops.fourier import Spaces, waves


class Half(NamedTuple):
    """The taps of a disc in the order of `Taps`, and cos and sin at these taps for all frequencies of a period.

    Attributes:
        folded [taps, k²]: sums and differences of the pixels of a plane: first its centre, then the sums of pairs of
            opposite pixels, then their differences.
        cos, sin: waves [frequencies, 1 + pairs] and [frequencies, pairs].
    """

    folded: Tensor
    cos: Tensor
    sin: Tensor


def half_of(disc: Tensor, dilation: int, period: tuple[int, int]) -> Half:
    """The order and the waves of the taps of a disc [k, k] of zeros and ones, `dilation` pixels apart."""
    return _half(tuple(disc.flatten().tolist()), dilation, period, disc.dtype, disc.device)


@lru_cache(64)
def _half(
    inside: tuple[float, ...], dilation: int, period: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Half:
    size = round(len(inside) ** 0.5)
    side = size + 1 - size % 2  # an odd side has a centre
    kept = F.pad(torch.tensor(inside, device="cpu").view(size, size) != 0, (0, side - size, 0, side - size)).flatten()
    middle = side * side // 2
    after = (kept | kept.flip(0))[middle + 1 :].nonzero().squeeze(1)
    cos, sin = waves(period, side, dilation, dtype, device)
    even = torch.cat([after.new_zeros(1), after + 1]).to(device)
    sums, count = 1 + torch.arange(len(after)), len(after)
    folded = torch.zeros(1 + 2 * count, side * side, dtype=dtype, device="cpu")
    folded[0, middle] = 1
    for pixels, sign in ((middle + 1 + after, 1), (middle - 1 - after, -1)):
        folded[sums, pixels], folded[sums + count, pixels] = 1, sign
    folded = folded.view(-1, side, side)[:, :size, :size].flatten(1)
    return Half(folded.to(device), cos[:, even], sin[:, even[1:]])


class Taps:
    """Sums and differences of opposite taps, Σ_h W_h·(φ_h[t] ± φ_h[−t]).

    The real part of the spectrum depends only on the sums, the imaginary part only on the differences. This halves the
    work.

    Args:
        weight: W [out, in, h].
        phi: φ [m, h, n, k, k].
        half: the Half of the disc of phi.
    """

    def __init__(self, weight: Tensor, phi: Tensor, half: Half) -> None:
        self.weight, self.shape, self.half = weight, phi.shape, half
        features = half.folded @ phi.transpose(1, 2).reshape(-1, half.folded.shape[1]).T
        self.features = features.view(len(half.folded), -1, phi.shape[1])  # [taps, (m n), h]
        self.even = half.cos.shape[1]

    def taps(self, outs: slice, spaces: Spaces) -> Tensor:
        """The sums and differences of some output channels, [taps, (out m), (n in)], in the buffer `taps`.

        The buffer `spare` is overwritten.
        """
        out, weight = self.empty(outs, spaces, "taps"), self.weight[outs].flatten(0, 1)
        arranged = self.features.shape[1] == 1
        made = out.view(self.matrix(outs)) if arranged else spaces("spare", *self.matrix(outs))
        torch.mm(self.features.flatten(0, 1), weight.T, out=made)
        if not arranged:
            self.by_channel(out, outs).copy_(made.view(len(out), -1, outs.stop - outs.start, self.weight.shape[1]))
        return out

    def empty(self, outs: slice, spaces: Spaces, name: str) -> Tensor:
        """An uninitialised buffer of that shape."""
        count, (m, _, n) = outs.stop - outs.start, self.shape[:3]
        return spaces(name, len(self.features), count * m, n * self.weight.shape[1])

    def matrix(self, outs: slice) -> tuple[int, int]:
        """The shape (taps m n), (out in) of the matrix from which `taps` are rearranged."""
        return self.features.shape[0] * self.features.shape[1], (outs.stop - outs.start) * self.weight.shape[1]

    def by_channel(self, taps: Tensor, outs: slice) -> Tensor:
        """View taps [taps, (out m), (n in)] as [taps, (m n), out, in]."""
        return taps.view(len(taps), outs.stop - outs.start, -1, self.weight.shape[1]).transpose(1, 2)

    def spectrum(self, taps: Tensor, at: slice, spaces: Spaces) -> Tensor:
        """The spectrum of taps at some frequencies, [2, frequencies, (out m), (n in)], in the buffer `scratch`."""
        out, halves = spaces("scratch", 2, at.stop - at.start, *taps.shape[1:]), (taps[: self.even], taps[self.even :])
        for part, turns, of in zip(out, (self.half.cos, self.half.sin), halves, strict=True):
            torch.mm(turns[at], of.flatten(1), out=part.flatten(1))
        return out


class TapsGradient:
    """The gradients of W and φ of `Taps`, added up chunk by chunk."""

    def __init__(self, of: Taps) -> None:
        self.of = of
        self.d_weight, self.d_features = torch.zeros_like(of.weight), torch.zeros_like(of.features)

    def gather(self, d_taps: Tensor, d_spectrum: Tensor, at: slice) -> None:
        """Add the gradient of the taps that follows from that of their spectrum; the first frequencies overwrite it."""
        half, halves = self.of.half, (d_taps[: self.of.even], d_taps[self.of.even :])
        for part, turns, of in zip(d_spectrum, (half.cos, half.sin), halves, strict=True):
            of.flatten(1).addmm_(turns[at].T, part.flatten(1), beta=int(at.start > 0))

    def add(self, outs: slice, d_taps: Tensor, spaces: Spaces) -> None:
        """Add the gradients of W and φ that follow from that of the taps of some output channels.

        The buffer `taps` is overwritten.
        """
        of = self.of
        made = d_taps.view(of.matrix(outs))
        if of.features.shape[1] > 1:
            made = spaces("taps", *of.matrix(outs))
            made.view(len(d_taps), -1, outs.stop - outs.start, of.weight.shape[1]).copy_(of.by_channel(d_taps, outs))
        self.d_weight[outs].flatten(0, 1).addmm_(made.T, of.features.flatten(0, 1))
        self.d_features.flatten(0, 1).addmm_(made, of.weight[outs].flatten(0, 1))

    def result(self) -> tuple[Tensor, Tensor]:
        """The gradients of weight and phi."""
        m, h, n, *size = self.of.shape
        d_phi = self.of.half.folded.T @ self.d_features.flatten(1)
        return self.d_weight, d_phi.view(*size, m, n, h).permute(2, 4, 3, 0, 1)
