"""Windows lie where torch has them, or symmetrically, at every size."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from partialsym.nn.grid import sampled
from partialsym.nn.pool import pool2d
from partialsym.nn.windows import Windows, pooled, read

pytestmark = pytest.mark.usefixtures("float64")
CASES = [(k, s, p) for k, s, p in product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2)) if 2 * p <= k]
SIDES = [(side, side + more) for side in range(5, 11) for more in (0, 3)]


@pytest.mark.parametrize(("k", "s", "p"), CASES)
@pytest.mark.parametrize("ceil", [False, True])
def test_the_original_windows_are_those_of_torch(k, s, p, ceil):
    for sides in SIDES:
        x = torch.randn(2, 3, *sides)
        windows = Windows(k, s, p, p, ceil, symmetric=False)
        expected = F.max_pool2d(x, k, s, p, ceil_mode=ceil)
        assert torch.equal(pooled(x, windows, "max"), expected)
        for counted in (True, False):
            expected = F.avg_pool2d(x, k, s, p, ceil_mode=ceil, count_include_pad=counted)
            torch.testing.assert_close(pooled(x, windows, "mean", counted), expected, rtol=1e-12, atol=1e-12)


def convolved(x, weight, windows):
    maps, padding = read(x, windows)
    return F.conv2d(maps, weight, stride=windows.stride, padding=padding)


@pytest.mark.parametrize(("k", "s", "p"), CASES)
def test_the_original_windows_of_convolutions_are_those_of_torch(k, s, p):
    weight = torch.randn(2, 3, k, k)
    for sides in SIDES:
        x = torch.randn(2, 3, *sides)
        found = convolved(x, weight, Windows(k, s, p, p, symmetric=False))
        torch.testing.assert_close(found, F.conv2d(x, weight, stride=s, padding=p), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "s", "p"), CASES)
@pytest.mark.parametrize("ceil", [False, True])
def test_symmetric_windows_are_as_many_and_commute_with_mirrorings(k, s, p, ceil):
    weight = torch.randn(2, 3, k, k)
    for sides in SIDES:
        x, windows = torch.randn(1, 3, *sides), Windows(k, s, p, p, ceil)
        for mode, counted in (("max", True), ("mean", True), ("mean", False)):
            out = pooled(x, windows, mode, counted)
            assert out.shape == F.max_pool2d(x, k, s, p, ceil_mode=ceil).shape
            for axes in ([2], [3]):
                moved = pooled(x.flip(axes), windows, mode, counted)
                torch.testing.assert_close(moved, out.flip(axes), rtol=1e-12, atol=1e-12)
        if not ceil:
            out = convolved(x, weight, windows)
            moved = convolved(x.flip(3), weight.flip(3), windows)
            torch.testing.assert_close(moved, out.flip(3), rtol=0, atol=1e-12)


def test_the_original_ones_do_not_where_they_are_said_to_be_off():
    for k, s, p in CASES:
        for side in range(5, 11):
            x, windows = torch.randn(1, 1, side, side), Windows(k, s, p, p, symmetric=False)
            out, moved = pooled(x, windows, "mean"), pooled(x.flip(3), windows, "mean")
            assert (windows.shift(side) == 0) == torch.allclose(moved, out.flip(3)), (k, s, p, side)


@pytest.mark.parametrize(("k", "s"), [(1, 2), (3, 2), (5, 2), (3, 3), (3, 1)])
def test_they_are_those_of_our_own_strides_and_pools(k, s):
    weight = torch.randn(2, 3, k, k)
    for sides in SIDES:
        x = torch.randn(2, 3, *sides)
        own, padding = sampled(x, k // 2, s, True)
        expected = F.conv2d(own, weight, stride=s, padding=padding)
        torch.testing.assert_close(convolved(x, weight, Windows(k, s, k // 2, k // 2)), expected, rtol=0, atol=1e-12)
        even = x[..., : sides[0] // 2 * 2, : sides[1] // 2 * 2]
        assert torch.equal(pooled(even, Windows(2, 2), "max"), pool2d(even, 2))


def test_a_side_without_room_for_a_window_is_refused():
    with pytest.raises(ValueError, match="a side of 4 pixels is too small for a window of 5"):
        Windows(5).count(4)
