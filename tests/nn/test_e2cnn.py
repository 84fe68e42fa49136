"""The group convolution against an independent implementation: e2cnn (Weiler & Cesa 2019), on its regular fields.

Ours evaluates a continuous kernel at (h⁻¹x, h⁻¹h̃) and takes a mean over elements; theirs expands a steerable basis
and takes a sum. A kernel that looks up e2cnn's filter of the identity must give all its other filters.
"""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from partialsym import GroupConv, Signal, group, haar
from partialsym.kernels import Kernel
from partialsym.nn.conv import disc

e2cnn = pytest.importorskip("e2cnn", reason="e2cnn is not installed: there is nothing to compare with")
pytestmark = pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8 is now deprecated:UserWarning")
IN, OUT = 2, 3
BASES = {"C4": 1, "C8": 2}  # elements whose filters the table holds: quarter turns of them are all others
each_size = pytest.mark.parametrize("k", [3, 5, 7])


class Lookup(Kernel):
    """k(z) from a table: `points` [p, d] that z can be, a matrix each; anywhere else it is an error."""

    def __init__(self, dim, out_channels, in_channels, *, points):
        super().__init__(dim, out_channels, in_channels, hidden=len(points))
        self.points = points

    def features(self, z):
        near = (z[..., None, :] - self.points).abs().amax(-1) < 1e-4
        assert near.any(-1).all(), "the kernel is read where the table holds nothing"
        return F.one_hot(near.int().argmax(-1), len(self.points)).to(z)


def theirs(name, k, into):
    """e2cnn's convolution in eval mode, of values [b, in, n, h, w], and its filter [out, m, in, n, k, k].

    What is outside our disc is taken out of its filter: nothing for k = 3, the corners for more.
    """
    from e2cnn import gspaces, nn as e

    space = gspaces.Rot2dOnR2(int(name[1:]))
    source = e.FieldType(space, IN * [space.trivial_repr if into == "T2" else space.regular_repr])
    conv = e.R2Conv(source, e.FieldType(space, OUT * [space.regular_repr]), k, padding=k // 2, bias=False).eval()
    conv.filter.mul_(disc(k)[1])

    def run(values):
        return conv(e.GeometricTensor(values.flatten(1, 2), source)).tensor.unflatten(1, (OUT, -1))

    return run, conv.filter.detach().unflatten(1, (IN, -1)).unflatten(0, (OUT, -1))


def ours(name, k, filters, into):
    """A GroupConv whose kernel looks up `filters`, those of the first elements alone."""
    h, domain = group(name), group(into)
    taps, mask = disc(k)
    points, values = [], []
    for base, matrix in enumerate(h.components[: BASES[name]]):
        for tap, (row, column) in zip(taps, mask.nonzero().tolist(), strict=True):
            for j, z in enumerate(domain.embed(matrix.T @ domain.components)):
                points.append(torch.cat([matrix.T @ tap, z]))
                values.append(filters[:, base, :, j, row, column])
    kernel, codomain = partial(Lookup, points=torch.stack(points).float()), haar(h, len(h.components))
    layer = GroupConv(IN, OUT, domain=domain, codomain=codomain, kernel_size=k, kernel=kernel, bias=False).eval()
    with torch.no_grad():
        layer.kernel.linear.weight.copy_(torch.stack(values, -1).flatten(0, 1))
        layer.kernel.linear.bias.zero_()
    return layer


def compared(name, k, into):
    """Ours times n and theirs: the filters, and the outputs for random values."""
    run, filters = theirs(name, k, into)
    layer = ours(name, k, filters, into)
    elements = haar(group(into), filters.shape[3]).sample()
    f = Signal(torch.randn(2, IN, len(elements), 9, 8), elements)
    with torch.no_grad():
        found = layer.filters(layer.codomain.sample(), elements).view_as(filters), layer(f).values
        return [(a * len(elements), b) for a, b in zip(found, [filters, run(f.values)], strict=True)]


def error(a, b):
    return float((a - b).abs().max() / b.abs().max())


@each_size
@pytest.mark.parametrize("into", ["T2", "regular"])
@pytest.mark.parametrize("name", BASES)
def test_ours_reproduces_the_whole_filter_and_the_output_of_e2cnn(name, into, k):
    assert all(error(*pair) < 1e-5 for pair in compared(name, k, name if into == "regular" else into))


@each_size
@pytest.mark.parametrize("name", BASES)
def test_another_convention_would_be_seen(name, k, monkeypatch):
    """With h for h⁻¹ the filter of the identity is right, and nothing else is."""
    right = GroupConv._coordinates
    monkeypatch.setattr(GroupConv, "_coordinates", lambda self, out, into: right(self, out.mT, into))
    filters, outputs = compared(name, k, name)
    first, others = ([pair[:, part] for pair in filters] for part in (slice(1), slice(1, None)))
    assert error(*first) < 1e-5
    assert min(error(*others), error(*outputs)) > 0.1


def test_the_two_filters_of_c8_are_no_turns_of_each_other_on_the_grid():
    """So that the second must be looked up, and the first is not read for it unseen."""
    _, filters = theirs("C8", 5, "C8")
    turns = [filters[:, 0].roll(1, 2).rot90(q, (-2, -1)) for q in range(4)]
    assert min(float((filters[:, 1] - turn).abs().max() / filters.abs().max()) for turn in turns) > 0.1
