"""The taps of a factored kernel, their spectrum, and the gradients of both."""

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.ops.fourier import Spaces
from partialsym.ops.orders import FactoredKernel


class Taps:
    """Sums and differences of opposite taps, Σ_h W_h·(φ_h[t] ± φ_h[−t]), with the bias as one more feature.

    The real part of the spectrum depends only on the sums, the imaginary part only on the differences. This halves the
    work. Taps accumulates the gradients of W and φ, chunk by chunk.

    waves: cos and sin, [frequencies, taps], from `fourier.waves`.
    """

    def __init__(self, k: FactoredKernel, waves: tuple[Tensor, Tensor]) -> None:
        box = (k.mean[:, None, None] * k.disc).expand(len(k.phi), 1, *k.phi.shape[2:])
        phi, disc, self.kernel = torch.cat([k.phi, box], 1), k.disc, k
        if len(disc) % 2 == 0:  # an odd side has a centre
            phi, disc = F.pad(phi, (0, 1, 0, 1)), F.pad(disc, (0, 1, 0, 1))
        phi, kept, self.side = phi.flatten(3), disc.flatten() != 0, len(disc)
        middle = len(kept) // 2
        half = (kept | kept.flip(0))[middle + 1 :].nonzero().squeeze(1)
        self.middle, self.first, self.second = middle, middle + 1 + half, middle - 1 - half
        first, second = phi[..., self.first], phi[..., self.second]
        features = torch.cat([phi[..., middle, None], first + second, first - second], 3)  # [m, h + 1, n, taps]
        self.features = features.permute(3, 0, 2, 1).flatten(1, 2).contiguous()  # [taps, (m n), h + 1]
        self.weight = torch.cat([k.weight, k.bias[..., None]], 2)
        self.even = 1 + len(half)
        self.waves = waves[0][:, torch.cat([half.new_zeros(1), half + 1])], waves[1][:, half + 1]
        self.d_weight, self.d_features = torch.zeros_like(self.weight), torch.zeros_like(self.features)

    def taps(self, outs: slice, spaces: Spaces) -> Tensor:
        """The sums and differences of some output channels, [taps, (out m), (n in)]."""
        weight, out = self.weight[outs].flatten(0, 1), self.empty(outs, spaces, "taps")
        made = torch.mm(self.features.flatten(0, 1), weight.T, out=spaces("made", *self._matrix(outs)))
        self._by_channel(out, outs).copy_(made.view(len(out), -1, outs.stop - outs.start, self.weight.shape[1]))
        return out

    def empty(self, outs: slice, spaces: Spaces, name: str = "d_taps") -> Tensor:
        """An uninitialised buffer of that shape."""
        count, (m, _, n) = outs.stop - outs.start, self.kernel.phi.shape[:3]
        return spaces(name, len(self.features), count * m, n * self.weight.shape[1])

    def _matrix(self, outs: slice) -> tuple[int, int]:
        """The shape (taps m n), (out in) of the matrix from which `taps` are rearranged."""
        return self.features.shape[0] * self.features.shape[1], (outs.stop - outs.start) * self.weight.shape[1]

    def _by_channel(self, taps: Tensor, outs: slice) -> Tensor:
        """View taps [taps, (out m), (n in)] as [taps, (m n), out, in]."""
        return taps.view(len(taps), outs.stop - outs.start, -1, self.weight.shape[1]).transpose(1, 2)

    def spectrum(self, taps: Tensor, at: slice, spaces: Spaces) -> Tensor:
        """The spectrum of taps at some frequencies, [2, frequencies, (out m), (n in)]."""
        out = spaces("k", 2, at.stop - at.start, *taps.shape[1:])
        for part, waves, of in zip(out, self.waves, (taps[: self.even], taps[self.even :]), strict=True):
            torch.mm(waves[at], of.flatten(1), out=part.flatten(1))
        return out

    def gather(self, d_taps: Tensor, d_spectrum: Tensor, at: slice) -> None:
        """Add the gradient of the taps that follows from that of their spectrum; the first frequencies overwrite it."""
        for part, waves, of in zip(d_spectrum, self.waves, (d_taps[: self.even], d_taps[self.even :]), strict=True):
            of.flatten(1).addmm_(waves[at].T, part.flatten(1), beta=int(at.start > 0))

    def add(self, outs: slice, d_taps: Tensor, spaces: Spaces) -> None:
        """Add the gradients of W and φ that follow from that of the taps of some output channels."""
        made = spaces("made", *self._matrix(outs))
        made.view(len(d_taps), -1, outs.stop - outs.start, self.weight.shape[1]).copy_(self._by_channel(d_taps, outs))
        self.d_weight[outs].flatten(0, 1).addmm_(made.T, self.features.flatten(0, 1))
        self.d_features.flatten(0, 1).addmm_(made, self.weight[outs].flatten(0, 1))

    def gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of weight, bias, phi and mean."""
        m, h, n, size = self.kernel.phi.shape[:4]
        d = self.d_features.unflatten(1, (m, n)).permute(1, 3, 2, 0)
        d_phi = d.new_zeros(m, h + 1, n, self.side**2)
        sums, differences = d[..., 1 : self.even], d[..., self.even :]
        d_phi[..., self.middle], d_phi[..., self.first], d_phi[..., self.second] = (
            d[..., 0],
            sums + differences,
            sums - differences,
        )
        d_phi = d_phi.unflatten(3, (self.side, self.side))[..., :size, :size]
        d_mean = (d_phi[:, -1] * self.kernel.disc).sum((0, 2, 3))
        return self.d_weight[..., :-1].clone(), self.d_weight[..., -1].clone(), d_phi[:, :-1], d_mean
