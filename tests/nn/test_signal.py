"""Elements and Signal: what they check, how they move, and that they are pytrees."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from partialsym import SE2, T2, BatchNorm, Elements, Mirror, Signal, group
from partialsym.groups.base import rotations


def elements(n=4, weights=None):
    return Elements(SE2(), rotations(n).float(), weights)


def signal(n=4, weights=None):
    return Signal(torch.randn(2, 3, n, 5, 6), elements(n, weights))


@pytest.mark.parametrize("shape", [(2, 2), (0, 2, 2), (3, 3, 3), (3, 2), (1, 3, 2, 2)])
def test_matrices_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=rf"matrices has shape \({', '.join(map(str, shape))}\): must be \[n, 2, 2\]"):
        Elements(SE2(), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3,), (4, 1), ()])
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"weights has shape .* must be \[4\]"):
        elements(weights=torch.ones(shape))


def test_values_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 5, 6\).*Signal\.image"):
        Signal(torch.zeros(2, 3, 5, 6), elements())
    with pytest.raises(ValueError, match="values have 3 elements, but elements has 4"):
        Signal(torch.zeros(2, 3, 3, 5, 6), elements())
    with pytest.raises(ValueError, match=r"images has shape \(3, 5, 6\): must be \[batch"):
        Signal.image(torch.zeros(3, 5, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_is_a_signal_on_the_plane(dtype):
    images = torch.randn(2, 3, 5, 6, dtype=dtype)
    f = Signal.image(images)
    assert f.group == T2()
    assert torch.equal(f.values[:, :, 0], images)
    assert torch.equal(f.elements.matrices, torch.eye(2, dtype=dtype)[None])
    assert f.elements.weights is None
    assert len(f.elements) == 1


def test_mean_weights_sum_to_1_and_are_none_where_all_are_alike():
    assert elements().mean_weights() is None
    assert elements(weights=torch.tensor([1.0, 0, 1, 0])).mean_weights().tolist() == [0.5, 0, 0.5, 0]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_mean_weights_have_first_and_second_derivatives_in_both_modes():
    weights = torch.tensor([1.0, 0, 1, 1], dtype=torch.float64, requires_grad=True)

    def shares(given):
        return elements(weights=given).mean_weights()

    assert torch.autograd.gradcheck(shares, weights, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(shares, weights)
    forward, backward = (mode(shares)(weights.detach()) for mode in (torch.func.jacfwd, torch.func.jacrev))
    torch.testing.assert_close(forward, backward, rtol=0, atol=1e-12)


def test_transport_multiplies_from_the_left_and_keeps_the_weights():
    h = group("D4").components.float()
    weights = torch.tensor([1.0, 0, 1, 0, 1, 1, 1, 1])
    g = h[5].double()
    moved = Elements(group("D4"), h, weights).transport(g)
    torch.testing.assert_close(moved.matrices, torch.stack([h[5] @ each for each in h]))
    assert not torch.allclose(moved.matrices, h @ h[5])
    assert moved.weights is weights
    assert moved.group == group("D4")
    assert moved.matrices.dtype == torch.float32


def test_both_are_converted():
    f = signal()
    with pytest.raises(FrozenInstanceError):
        f.values = torch.zeros(())
    with pytest.raises(FrozenInstanceError):
        f.elements.weights = torch.zeros(4)


def test_map_is_pointwise_on_the_same_elements():
    f = signal()
    assert torch.equal(f.map(F.relu).values, f.values.relu())
    assert f.map(F.relu).elements is f.elements
    assert f.map(nn.Dropout(0.5)).values.shape == f.values.shape


NORMS = [
    nn.BatchNorm2d(3),
    nn.BatchNorm3d(3),
    nn.InstanceNorm3d(3),
    nn.GroupNorm(1, 3),
    nn.LayerNorm(6),
    nn.RMSNorm(6),
    nn.LocalResponseNorm(2),
]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_map_refuses_the_normalisations_of_torch(norm):
    with pytest.raises(
        TypeError, match=f"{type(norm).__name__} in `map` ignores the weights.*BatchNorm or InstanceNorm"
    ):
        signal().map(norm)


@pytest.mark.parametrize("fn", [nn.MaxPool3d(2), lambda v: v[:1], lambda v: v.mean(2, keepdim=True)])
def test_map_refuses_what_changes_the_shape(fn):
    with pytest.raises(ValueError, match=r"pointwise functions; this one turned \(2, 3, 4, 5, 6\) into \("):
        signal().map(fn)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0, 1, 1])])
def test_pytree_round_trip(weights):
    f = signal(weights=weights)
    leaves, spec = pytree.tree_flatten(f)
    back = pytree.tree_unflatten(leaves, spec)
    assert isinstance(back, Signal)
    assert back.group == SE2()
    assert torch.equal(back.values, f.values)
    assert back.elements.matrices is f.elements.matrices
    assert back.elements.weights is weights
    doubled = pytree.tree_map_only(torch.Tensor, torch.Tensor.double, f)
    assert doubled.values.dtype == doubled.elements.matrices.dtype == torch.float64
    assert pytree.tree_map(lambda _: None, f).values is None  # placeholders pass


def test_pytree_structures_differ_by_group():
    f = signal()
    other = replace(f, elements=replace(f.elements, group=Mirror()))
    assert pytree.tree_structure(f) == pytree.tree_structure(signal())
    assert pytree.tree_structure(f) != pytree.tree_structure(other)


def test_weighted_signals_keep_gradients_through_map():
    weights = torch.ones(4, requires_grad=True)
    f = BatchNorm(3)(signal(weights=weights)).map(F.relu)
    f.values.square().sum().backward()
    assert weights.grad.isfinite().all()
