"""The group convolution against its formula in plain loops, and the disc its kernels live on."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from helpers import few, taken
from torch.nn import functional as F

from partialsym.densities import dirac, haar, learned
from partialsym.groups import E2, T2, group
from partialsym.kernels import SIREN
from partialsym.nn.conv import GroupConv, disc
from partialsym.registry import KERNELS
from partialsym.signal import Elements, Signal
from partialsym.testing.laws import every_group

pytestmark = pytest.mark.usefixtures("float64")
every_group_ = pytest.mark.parametrize("h", every_group(), ids=repr)
tiny = partial(SIREN, hidden=4)


def codomain(h, rotations=2, make=haar, **options):
    return make(h, len(h.components) * (rotations if h.dim else 1), **options)


def conv(domain, density, into=2, out=3, k=3, kernel=tiny, **options):
    """A layer whose bias is not 0."""
    layer = GroupConv(into, out, domain=domain, codomain=density, kernel_size=k, kernel=kernel, **options)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


def signal(h, *, batch=1, channels=2, size=(4, 3), weights=None):
    e = codomain(h).draw()
    e = Elements(h, e.matrices, None if weights is None else weights(len(e)))
    return Signal(torch.randn(batch, channels, len(e), *size), e)


def dropped(n):
    """Every second element at weight 0, the first at weight 1."""
    return 1.0 - torch.arange(n) % 2


def naive(layer, f, out):
    """The formula, one number at a time; `out` the output elements. y − x is the tap, with y up; zeros outside."""
    k, domain = layer.kernel_size, layer.domain.name
    x, (batch, _, n, height, width) = f.values.numpy(), f.values.shape
    w = np.ones(n) if f.elements.weights is None else f.elements.weights.numpy()
    bias = np.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach().numpy()
    pad = (k - 1) // 2 if layer.padding == "same" else 0
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    result = np.zeros((batch, layer.out_channels, len(out), rows, columns)) + bias[:, None, None, None]
    for (i, h), j, p, q in product(enumerate(out.matrices.numpy()), range(n), range(k), range(k)):
        dx, dy = (q - (k - 1) / 2) / (k / 2), -(p - (k - 1) / 2) / (k / 2)
        if math.hypot(dx, dy) > 1:
            continue
        inverse = np.linalg.inv(h)
        z = np.concatenate([inverse @ [dx, dy], relative(domain, inverse @ f.elements.matrices[j].numpy())])
        matrix = layer.kernel(torch.tensor(z)).detach().numpy() * w[j] / w.sum()
        for b, row, column in product(range(batch), range(rows), range(columns)):
            r, c = row + p - pad, column + q - pad
            if 0 <= r < height and 0 <= c < width:
                result[b, :, i, row, column] += matrix @ x[b, :, j, r, c]
    return torch.tensor(result)


def relative(domain, h):
    """What the kernel sees of h: (cos, sin) of its turn where there are turns, ±1 where there are mirrorings."""
    turn = [] if domain in ("T2", "Mirror") else [h[1, 1], -h[0, 1]]
    return np.array(turn + ([np.linalg.det(h)] if domain in ("Mirror", "E2") or domain[0] == "D" else []))


def assert_follows_the_formula(layer, f):
    with torch.no_grad():
        at = layer.codomain.draw()
    torch.testing.assert_close(layer(f, at).values.detach(), naive(layer, f, at), rtol=0, atol=1e-12)


@every_group_
@pytest.mark.parametrize("options", [{}, {"padding": "valid", "bias": False}, {"k": 1}], ids=["same", "valid", "1×1"])
def test_lifting_follows_the_formula(h, options):
    assert_follows_the_formula(conv(T2(), codomain(h), **options), signal(T2(), batch=2))


@pytest.mark.parametrize("h", few(every_group(), *map(group, ("T2", "E2", "D4"))), ids=repr)
@pytest.mark.parametrize("options", [{}, {"padding": "valid", "bias": False}, {"k": 1}], ids=["same", "valid", "1×1"])
@pytest.mark.parametrize("weights", [None, dropped], ids=["all", "dropped"])
def test_a_group_convolution_follows_the_formula(h, options, weights):
    assert_follows_the_formula(conv(h, codomain(h), **options), signal(h, weights=weights))


@every_group_
def test_a_projection_follows_the_formula(h):
    layer, f = conv(h, dirac(T2())), signal(h, weights=dropped, batch=2)
    assert_follows_the_formula(layer, f)
    assert layer(f).group == T2()


@pytest.mark.parametrize(("domain", "h"), [("E2", "SE2"), ("SE2", "C4"), ("E2", "D4"), ("D6", "C3"), ("D4", "Mirror")])
def test_a_codomain_that_is_a_subgroup_follows_the_formula(domain, h):
    assert_follows_the_formula(conv(group(domain), codomain(group(h))), signal(group(domain)))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("k", [5, 7])
def test_larger_and_other_kernels_follow_the_formula(name, k):
    kernel = partial(KERNELS[name], **taken(KERNELS[name], hidden=4, kernel_size=k))
    layer = conv(E2(), codomain(E2(), make=learned), k=k, kernel=kernel)
    assert_follows_the_formula(layer, signal(E2(), size=(3, 5), weights=dropped))


@pytest.mark.parametrize(("k", "taps"), [(1, 1), (3, 9), (5, 21), (7, 37)])
def test_the_disc(k, taps):
    offsets, mask = disc(k)
    y, x = torch.meshgrid(*[torch.arange(k) - k // 2] * 2, indexing="ij")
    assert len(offsets) == taps
    assert torch.equal(mask, x**2 + y**2 <= k**2 / 4)
    torch.testing.assert_close(offsets, torch.stack([x, -y], -1)[mask] * 2 / k, rtol=0, atol=1e-15)
    weight = conv(T2(), dirac(T2()), k=k).filters(signal(T2()).elements, signal(T2()).elements)
    assert torch.equal((weight != 0).all(0).all(0), mask)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("h", ["C4", "D4"])
def test_the_symmetries_of_the_square_permute_the_taps(k, h):
    taps, _ = disc(k)
    for g in group(h).components:
        moved = taps @ g.T
        assert torch.equal((moved[:, None] == taps).all(-1).sum(1), torch.ones(len(taps)))
    torch.testing.assert_close(taps.sum(0), torch.zeros(2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("h", every_group(), ids=repr)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_identity_alone_is_a_plain_convolution(h, k):
    layer, f = conv(h, dirac(h), k=k), Signal(torch.randn(2, 2, 1, 6, 5), dirac(h).sample())
    weight = torch.zeros(3, 2, k, k)
    e = h.embed(torch.eye(2))
    for row in range(k):
        for column in range(k):
            x, y = (2 * column + 1 - k) / k, (k - 1 - 2 * row) / k
            if x**2 + y**2 <= 1:
                weight[:, :, row, column] = layer.kernel(torch.cat([torch.tensor([x, y]), e]))
    expected = F.conv2d(f.values[:, :, 0], weight, layer.bias, padding=k // 2)
    torch.testing.assert_close(layer(f).values[:, :, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("domain", "h"), [("T2", "SE2"), ("E2", "E2"), ("D4", "D4"), ("C6", "T2")])
def test_translations_commute_with_the_layer_in_the_interior(domain, h):
    layer, f = conv(group(domain), dirac(group(h))), signal(group(domain), size=(9, 8))
    shifted = Signal(f.values.roll((1, 2), (3, 4)), f.elements)
    inner = layer(f).values[..., 1:-2, 1:-3]
    torch.testing.assert_close(layer(shifted).values[..., 2:-1, 3:-1], inner, rtol=0, atol=1e-12)
