"""The discrete Fourier transform of planes as products of matrices; the first axis of a result is the frequencies."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from partialsym.ops.orders import chunks

ROWS = 2**22  # bytes of planes transformed along one axis: they fit into a core's own cache


class Window(NamedTuple):
    """Matrices that transform some pixels of a period, first along w, then along h.

    across [V, w]: cosines and negative sines of the frequencies 0 < v < period/2, then cosines of v at the ends, 0 and
        period/2.
    down, two of [u, h]: cosines and negative sines of all frequencies u.
    ends, two of [u, h]: the same for u up to period/2. For v at the ends, the other frequencies are their conjugates.
    """

    across: Tensor
    down: tuple[Tensor, Tensor]
    ends: tuple[Tensor, Tensor]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of frequencies: v between the ends, u for these v, u for v at the ends, v at the ends."""
        inner = (len(self.across) - 1) // 2
        return inner, len(self.down[0]), len(self.ends[0]), len(self.across) - 2 * inner

    def chunks(self, planes: Tensor) -> list[slice]:
        """Slices of images whose transforms along one axis fit into a core's own cache."""
        return (
            chunks(
                len(planes), len(self.across) * planes[0].numel() // planes.shape[4] * self.across.element_size(), ROWS
            )
            if len(planes)
            else []
        )


class Spaces:
    """Named buffers that are reused: newly mapped pages would cost as much time as writing to them."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.held = like, dict[str, Tensor]()  # `like` determines dtype and device

    def __call__(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor [*shape], in the memory of the previous one of that name."""
        size = torch.Size(shape).numel()
        if name not in self.held or self.held[name].numel() < size:
            self.held.pop(name, None)  # before the larger one is there
            self.held[name] = self.like.new_empty(size)
        return self.held[name][:size].view(shape)


def period_of(height: int, width: int, padding: int) -> tuple[int, int]:
    """The shortest period for which wrap-around does not affect the convolution of a plane with that padding."""
    return height + padding, width + padding


def frequencies(height: int, width: int) -> int:
    """Number of frequencies of a real plane of that period, without conjugates."""
    inner = (width - 1) // 2
    return inner * height + len(_ends(width)) * (height // 2 + 1)


@lru_cache(64)
def window(
    period: tuple[int, int],
    first: int,
    size: tuple[int, int],
    step: int,
    weighted: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Window:
    """The window of `size` pixels, `step` apart, from `first` on.

    The transpose of a weighted window inverts an unweighted one of the same pixels.
    """
    (height, width), inner = period, (period[1] - 1) // 2
    v = torch.tensor([*range(1, inner + 1), *_ends(width)])
    cos, sin = _turns(v, width, _pixels(first, size[1], step))
    across = torch.cat([cos[:inner], sin[:inner], cos[inner:]])
    down, ends = (
        _turns(torch.arange(stop), height, _pixels(first, size[0], step)) for stop in (height, height // 2 + 1)
    )
    scale = torch.full((len(ends[0]), 1), 2.0, dtype=torch.float64)
    scale[_ends(height)] = 1
    weights = (1 / width, 2 / height, scale / height) if weighted else (1, 1, 1)
    made = [across * weights[0], *(part * weights[1] for part in down), *(part * weights[2] for part in ends)]
    made = [part.to(device, dtype) for part in made]
    return Window(made[0], (made[1], made[2]), (made[3], made[4]))


@lru_cache(64)
def waves(
    period: tuple[int, int], size: int, dilation: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos ω·t and sin ω·t, [frequencies, taps], for the centre tap of a square of odd side and all taps after it.

    Neighbouring taps are `dilation` pixels apart.
    """
    (height, width), inner, half = period, (period[1] - 1) // 2, period[0] // 2 + 1
    t = torch.arange(size * size // 2, size * size)
    y, x = dilation * (t // size - size // 2), dilation * (t % size - size // 2)
    u = torch.cat([torch.arange(height).repeat(inner), torch.arange(half).repeat(len(_ends(width)))])
    v = torch.tensor([*range(1, inner + 1), *_ends(width)])
    v = torch.cat([v[:inner].repeat_interleave(height), v[inner:].repeat_interleave(half)])
    down, across = ((w[:, None] * at % side).double() / side for w, at, side in ((u, y, height), (v, x, width)))
    angle = 2 * math.pi * (down + across)
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def analysed(window: Window, planes: Tensor, spaces: Spaces, name: str) -> Tensor:
    """Transform planes [b, ., ., h, w]: real and imaginary parts [2, frequencies, b, channels], in buffer `name`.

    The buffers `spare` and `scratch` are overwritten.
    """
    h, w = planes.shape[3:]
    inner, height, ends, last = window.sizes
    out = spaces(name, 2, inner * height + last * ends, len(planes), planes.shape[1] * planes.shape[2])
    for images in window.chunks(planes):
        part = out[:, :, images].flatten(2)
        count = part.shape[2]
        if _by_pixel(planes):
            pixels = spaces("scratch", h, w, count)
            pixels.view(h, w, *planes[images].shape[:3]).copy_(planes[images].permute(3, 4, 0, 1, 2))
            across = spaces("spare", h, len(window.across), count)
            rows = torch.bmm(window.across.expand(h, -1, -1), pixels, out=across).transpose(0, 1)
        else:
            flat = planes[images].to(out.dtype).reshape(-1, w)
            across = torch.mm(window.across, flat.T, out=spaces("spare", len(window.across), len(flat)))
            rows = across.unflatten(1, (-1, h)).mT
        c, s, e = rows.split([inner, inner, last])  # [., h, planes]
        if inner:
            re, im = part[:, : inner * height].unflatten(1, (inner, height))
            cos, sin = (turn.expand(inner, -1, -1) for turn in window.down)
            torch.bmm(cos, c, out=re).baddbmm_(sin, s, alpha=-1)
            torch.bmm(sin, c, out=im).baddbmm_(cos, s)
        for at_ends, turn in zip(part[:, inner * height :].unflatten(1, (last, ends)), window.ends, strict=True):
            torch.bmm(turn.expand(last, -1, -1), e, out=at_ends)
    return out


def synthesised(window: Window, spectrum: Tensor, out: Tensor, offset: Tensor | None, spaces: Spaces) -> None:
    """Write the transpose of `analysed`, plus offset [.], into the planes out [b, ., ., h, w].

    Until the end planes are the last axis, because BLAS is slow if rows of a result have few numbers. The buffers
    `spare` and `scratch` are overwritten.
    """
    h, w = out.shape[3:]
    inner, height, ends, last = window.sizes
    for images in window.chunks(out):
        part, to = spectrum[:, :, images].flatten(2), out[images]
        count = part.shape[2]
        rows = spaces("spare", len(window.across), h, count)
        c, s, e = rows.split([inner, inner, last])
        if inner:
            re, im = part[:, : inner * height].unflatten(1, (inner, height))
            cos, sin = (turn.T.expand(inner, -1, -1) for turn in window.down)
            torch.bmm(cos, re, out=c).baddbmm_(sin, im)
            torch.bmm(cos, im, out=s).baddbmm_(sin, re, alpha=-1)
        re, im = part[:, inner * height :].unflatten(1, (last, ends))
        cos, sin = (turn.T.expand(last, -1, -1) for turn in window.ends)
        torch.bmm(cos, re, out=e).baddbmm_(sin, im)
        pixels = spaces("scratch", h, w, count)
        torch.bmm(window.across.T.expand(h, -1, -1), rows.transpose(0, 1), out=pixels)
        if _by_pixel(out):
            planes = pixels.view(h, w, *to.shape[:3]).permute(2, 3, 4, 0, 1)
        else:  # torch copies the transpose of a matrix fast
            planes = spaces("planes", count, h * w).copy_(pixels.flatten(0, 1).T).view(to.shape)
        if offset is None:
            to.copy_(planes)
        else:
            torch.add(planes, offset[:, None, None, None], out=to)


def _by_pixel(planes: Tensor) -> bool:
    """Whether planes [b, ., ., h, w] lie in memory pixel by pixel, as in `torch.channels_last`."""
    return planes.shape[4] > 1 and planes.stride(4) > 1


def _ends(period: int) -> list[int]:
    """The frequencies that are their own conjugates."""
    return [0, period // 2] if period % 2 == 0 else [0]


def _pixels(first: int, size: int, step: int) -> Tensor:
    return first + step * torch.arange(size)


def _turns(u: Tensor, period: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """cos and −sin of 2π·u·x/period, [u, x], at pixels x."""
    angle = 2 * math.pi * (u[:, None] * x % period).double() / period
    return angle.cos(), -angle.sin()
