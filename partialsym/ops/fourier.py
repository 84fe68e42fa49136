"""The discrete Fourier transform of planes as products of matrices; the first axis of a result is the frequencies."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from partialsym.ops.orders import chunks

SMALL, LARGEST = 64, 1024  # pixels of a plane that one matrix may transform, and of its period
MORE, SAVED = 512, 2**22  # multiplications of a plane, and of all planes, that take as long as the calls they save
ROWS = 2**22  # bytes of planes transformed along one axis: they fit into a core's own cache


class Window(NamedTuple):
    """Matrices that transform some pixels of a period, first along w, then along h.

    across [V, w]: cosines and negative sines of the frequencies 0 < v < period/2, then cosines of v at the ends, 0 and
        period/2.
    down, two of [., u, h]: cosines and negative sines of all frequencies u, expanded to the v between the ends.
    ends, two of [., u, h]: the same for u up to period/2, expanded to the v at the ends. There the other frequencies
        are their conjugates.
    whole [2·frequencies, h·w]: all of it in one matrix; None if planes are transformed along lines.
    """

    across: Tensor
    down: tuple[Tensor, Tensor]
    ends: tuple[Tensor, Tensor]
    whole: Tensor | None = None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of frequencies: v between the ends, u for these v, u for v at the ends, v at the ends."""
        (inner, height, _), (last, ends, _) = self.down[0].shape, self.ends[0].shape
        return inner, height, ends, last

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
        size = torch.Size(shape)
        if name not in self.held or self.held[name].numel() < size.numel():
            self.held.pop(name, None)  # before the larger one is there
            self.held[name] = self.like.new_empty(size)
        held = self.held[name]
        return held if held.shape == size else held.view(-1)[: size.numel()].view(shape)


def period_of(height: int, width: int, padding: int) -> tuple[int, int]:
    """The shortest period for which wrap-around does not affect the convolution of a plane with that padding."""
    return height + padding, width + padding


def frequencies(height: int, width: int) -> int:
    """Number of frequencies of a real plane of that period, without conjugates."""
    inner = (width - 1) // 2
    return inner * height + len(_ends(width)) * (height // 2 + 1)


def multiplications(size: tuple[int, int], period: tuple[int, int], in_one: bool) -> int:
    """How many transform a plane of that size, with one matrix or along lines, first those of w."""
    (h, w), (down, across) = size, period
    if in_one:
        return 2 * frequencies(down, across) * h * w
    inner, ends = (across - 1) // 2, len(_ends(across))
    return across * h * w + (4 * inner * down + 2 * ends * (down // 2 + 1)) * h


def pays_in_one(planes: int, size: tuple[int, int], period: tuple[int, int]) -> bool:
    """Whether to transform so many planes with one matrix: a few more multiplications, in a tenth of the calls."""
    more = multiplications(size, period, True) - multiplications(size, period, False)
    small = math.prod(size) <= SMALL and math.prod(period) <= LARGEST
    return small and more * planes <= MORE * planes + SAVED


@lru_cache(64)
def window(
    period: tuple[int, int],
    first: int,
    size: tuple[int, int],
    step: int,
    weighted: bool,
    in_one: bool,
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
    across, *turns = (part.to(device, dtype) for part in made)
    each = (inner, inner, len(_ends(width)), len(_ends(width)))  # frequencies v
    cos, sin, *at_ends = (turn.expand(count, -1, -1) for turn, count in zip(turns, each, strict=True))
    whole = _in_one(period, first, size, step, weighted).to(device, dtype) if in_one else None
    return Window(across, (cos, sin), (at_ends[0], at_ends[1]), whole)


def _in_one(period: tuple[int, int], first: int, size: tuple[int, int], step: int, weighted: bool) -> Tensor:
    """The matrix `whole` of a Window, float64."""
    (height, width), inner = period, (period[1] - 1) // 2
    y, x = torch.cartesian_prod(_pixels(first, size[0], step), _pixels(first, size[1], step)).T
    angle = _angles(period, y, x)
    matrix = torch.stack([angle.cos(), -angle.sin()])
    if weighted:  # a frequency stands for its conjugate, too, but those at both ends, which are their own
        at_ends = torch.full((height // 2 + 1,), 2.0, dtype=torch.float64)
        at_ends[_ends(height)] = 1
        between = at_ends.new_full((height * inner,), 2)
        matrix *= torch.cat([between, at_ends.repeat(len(_ends(width)))])[:, None] / (height * width)
    return matrix.flatten(0, 1)


@lru_cache(64)
def waves(
    period: tuple[int, int], size: int, dilation: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos ω·t and sin ω·t, [frequencies, taps], for the centre tap of a square of odd side and all taps after it.

    Neighbouring taps are `dilation` pixels apart.
    """
    t = torch.arange(size * size // 2, size * size)
    angle = _angles(period, dilation * (t // size - size // 2), dilation * (t % size - size // 2))
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def analysed(window: Window, planes: Tensor, spaces: Spaces, name: str) -> Tensor:
    """Transform planes [b, ., ., h, w]: real and imaginary parts [2, frequencies, b, channels], in buffer `name`.

    The buffers `spare` and `scratch` are overwritten.
    """
    inner, height, ends, last = window.sizes
    out = spaces(name, 2, inner * height + last * ends, len(planes), planes.shape[1] * planes.shape[2])
    for images in window.chunks(planes):
        part = out[:, :, images].flatten(2)
        if window.whole is not None:
            torch.mm(window.whole, _columns(planes[images], spaces), out=part.flatten(0, 1))
        else:
            _analyse_by_lines(window, planes[images], part, spaces)
    return out


def _analyse_by_lines(window: Window, planes: Tensor, out: Tensor, spaces: Spaces) -> None:
    """Write the transform of planes to out [2, frequencies, planes], along w first."""
    h, w = planes.shape[3:]
    inner, height, ends, last = window.sizes
    if _by_pixel(planes):
        pixels = _columns(planes, spaces).unflatten(0, (h, w))
        across = spaces("spare", h, len(window.across), pixels.shape[2])
        rows = torch.bmm(window.across.expand(h, -1, -1), pixels, out=across).transpose(0, 1)
    else:
        flat = planes.to(out.dtype).reshape(-1, w)
        across = torch.mm(window.across, flat.T, out=spaces("spare", len(window.across), len(flat)))
        rows = across.unflatten(1, (-1, h)).mT
    if inner:
        (cos, sin), c, s = window.down, rows[:inner], rows[inner : 2 * inner]  # [., h, planes]
        re, im = out[:, : inner * height].unflatten(1, (inner, height)).unbind()
        torch.bmm(cos, c, out=re).baddbmm_(sin, s, alpha=-1)
        torch.bmm(sin, c, out=im).baddbmm_(cos, s)
    (cos, sin), e = window.ends, rows[2 * inner :]
    re, im = out[:, inner * height :].unflatten(1, (last, ends)).unbind()
    torch.bmm(cos, e, out=re)
    torch.bmm(sin, e, out=im)


def synthesised(window: Window, spectrum: Tensor, out: Tensor, offset: Tensor | None, spaces: Spaces) -> None:
    """Write the transpose of `analysed`, plus offset [.], into the planes out [b, ., ., h, w].

    Until the end planes are the last axis, because BLAS is slow if rows of a result have few numbers. The buffers
    `spare` and `scratch` are overwritten.
    """
    h, w = out.shape[3:]
    for images in window.chunks(out):
        part, to = spectrum[:, :, images].flatten(2), out[images]
        count = part.shape[2]
        pixels = spaces("scratch", h, w, count)
        if window.whole is not None:
            torch.mm(window.whole.T, part.flatten(0, 1), out=pixels.flatten(0, 1))
        else:
            _synthesise_by_lines(window, part, pixels, spaces)
        if _by_pixel(out):
            planes = pixels.view(h, w, *to.shape[:3]).permute(2, 3, 4, 0, 1)
        else:  # torch copies the transpose of a matrix fast
            planes = spaces("planes", count, h * w).copy_(pixels.flatten(0, 1).T).view(to.shape)
        if offset is None:
            to.copy_(planes)
        else:
            torch.add(planes, offset[:, None, None, None], out=to)


def _synthesise_by_lines(window: Window, spectrum: Tensor, out: Tensor, spaces: Spaces) -> None:
    """Write the transpose of `_analyse_by_lines` of a spectrum [2, frequencies, planes] to out [h, w, planes]."""
    h, _, count = out.shape
    inner, height, ends, last = window.sizes
    rows = spaces("spare", len(window.across), h, count)
    if inner:
        re, im = spectrum[:, : inner * height].unflatten(1, (inner, height)).unbind()
        cos, sin = window.down[0].mT, window.down[1].mT
        torch.bmm(cos, re, out=rows[:inner]).baddbmm_(sin, im)
        torch.bmm(cos, im, out=rows[inner : 2 * inner]).baddbmm_(sin, re, alpha=-1)
    re, im = spectrum[:, inner * height :].unflatten(1, (last, ends)).unbind()
    cos, sin = window.ends[0].mT, window.ends[1].mT
    torch.bmm(cos, re, out=rows[2 * inner :]).baddbmm_(sin, im)
    torch.bmm(window.across.T.expand(h, -1, -1), rows.transpose(0, 1), out=out)


def _columns(planes: Tensor, spaces: Spaces) -> Tensor:
    """planes [b, ., ., h, w] as a matrix [h·w, planes]; those that lie by pixel are copied to the buffer `scratch`."""
    *first, h, w = planes.shape
    if not _by_pixel(planes):
        return planes.to(spaces.like.dtype).reshape(-1, h * w).T
    pixels = spaces("scratch", h, w, math.prod(first))
    pixels.view(h, w, *first).copy_(planes.permute(3, 4, 0, 1, 2))
    return pixels.flatten(0, 1)


def _angles(period: tuple[int, int], y: Tensor, x: Tensor) -> Tensor:
    """ω·t at pixels t = (y, x) for all frequencies of a period, [frequencies, pixels], float64."""
    (height, width), inner, half = period, (period[1] - 1) // 2, period[0] // 2 + 1
    u = torch.cat([torch.arange(height).repeat(inner), torch.arange(half).repeat(len(_ends(width)))])
    v = torch.tensor([*range(1, inner + 1), *_ends(width)])
    v = torch.cat([v[:inner].repeat_interleave(height), v[inner:].repeat_interleave(half)])
    down, across = ((w[:, None] * at % side).double() / side for w, at, side in ((u, y, height), (v, x, width)))
    return 2 * math.pi * (down + across)


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
