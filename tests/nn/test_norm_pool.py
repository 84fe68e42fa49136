"""Weighted normalisation and pooling against torch's, on elements taken out or repeated."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import perturbed, random_signal
from torch.nn import functional as F

from partialsym import BatchNorm, GlobalPool, GroupPool, InstanceNorm, SpatialPool
from partialsym.nn import norm as norm_module
from partialsym.nn.pool import pool2d

pytestmark = pytest.mark.usefixtures("float64")
CLOSE = {"rtol": 1e-12, "atol": 1e-13}
WEIGHTS = [[1.0, 0, 1, 1, 0, 0, 1, 1], [1.0] + [0.0] * 7, [1.0] * 8, [2.0, 1, 1, 3, 0, 0, 1, 1]]
MODES = ("max", "mean")


def signal(weights=None, **options):
    return random_signal("D4", weights=None if weights is None else torch.tensor(weights), **options)


def expanded(f):
    """The values with every element as often as its weight says."""
    return f.values if f.elements.weights is None else f.values.repeat_interleave(f.elements.weights.long(), 2)


def reference(norm, f):
    """torch's BatchNorm of the elements taken out or repeated; then every element by its statistics."""
    torch_norm = torch.nn.BatchNorm3d(3, momentum=norm.momentum)
    torch_norm(expanded(f))
    values = expanded(f)
    var, mean = torch.var_mean(values, (0, 2, 3, 4), correction=0)
    return F.batch_norm(f.values, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps), torch_norm


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("weights", [None, *WEIGHTS])
def test_batch_norm_is_torchs_on_the_elements_repeated(weights, affine):
    norm, f = perturbed(BatchNorm(3, affine=affine)), signal(weights)
    expected, torch_norm = reference(norm, f)
    torch.testing.assert_close(norm(f).values, expected, **CLOSE)
    torch.testing.assert_close(norm.running_mean, torch_norm.running_mean, **CLOSE)
    torch.testing.assert_close(norm.running_var, torch_norm.running_var, **CLOSE)
    assert len(list(norm.parameters())) == 2 * affine
    assert norm.num_batches == 1


def test_batch_norm_with_all_weights_1_is_f_batch_norm():
    f, norm = signal([1.0] * 8), BatchNorm(3)
    torch.testing.assert_close(norm(f).values, F.batch_norm(f.values, None, None, training=True), **CLOSE)


@pytest.mark.parametrize("weights", [None, WEIGHTS[0]])
@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_follow_torchs(momentum, weights):
    norm, torch_norm = BatchNorm(3, momentum=momentum), torch.nn.BatchNorm3d(3, momentum=momentum)
    for i in range(4):
        f = signal(weights)
        f = replace(f, values=f.values * (i + 1) + i)
        norm(f), torch_norm(expanded(f))
    for own, other in (("running_mean", "running_mean"), ("running_var", "running_var")):
        torch.testing.assert_close(getattr(norm, own), getattr(torch_norm, other), **CLOSE)
    assert norm.num_batches == 4
    f = signal(weights)
    torch.testing.assert_close(norm.eval()(f).values, torch_norm.eval()(f.values), **CLOSE)
    assert norm.num_batches == 4
    norm.reset_running_stats()
    assert (norm.running_mean.any(), (norm.running_var != 1).any(), norm.num_batches) == (False, False, 0)


@pytest.mark.parametrize("weights", [None, *WEIGHTS])
def test_instance_norm_is_torchs_on_the_elements_repeated(weights):
    f = signal(weights)
    var, mean = torch.var_mean(expanded(f), (2, 3, 4), correction=0, keepdim=True)
    out = InstanceNorm(3)(f)
    torch.testing.assert_close(out.values, (f.values - mean) / (var + 1e-5).sqrt(), **CLOSE)
    assert out.elements is f.elements
    if weights is None:
        torch.testing.assert_close(out.values, F.instance_norm(f.values), **CLOSE)


def test_instance_norm_has_no_parameters_and_sees_no_other_image():
    norm, f = InstanceNorm(3), signal(WEIGHTS[0])
    assert not list(norm.parameters())
    alone = norm(replace(f, values=f.values[:1])).values
    torch.testing.assert_close(norm(f).values[:1], alone, **CLOSE)


@pytest.mark.parametrize("weights", [None, WEIGHTS[0][:4]])
@pytest.mark.parametrize(
    "layer",
    [lambda: BatchNorm(2), lambda: InstanceNorm(2), lambda: GroupPool("mean"), lambda: GlobalPool("mean")],
    ids=["batch norm", "instance norm", "group mean", "global mean"],
)
def test_gradcheck(layer, weights):
    """Towards values, weights and parameters: here the weights are real numbers."""
    f = random_signal("C4", channels=2, size=2)
    w = None if weights is None else torch.tensor([1.0, 0.3, 2.0, 0.7], requires_grad=True)
    module = perturbed(layer())
    if isinstance(module, BatchNorm):
        module.momentum = 0.0

    def run(values, w, *_):
        out = module(replace(f, values=values, elements=replace(f.elements, weights=w)))
        return out if isinstance(out, torch.Tensor) else out.values

    assert torch.autograd.gradcheck(run, (f.values.requires_grad_(), w, *module.parameters()))


@pytest.mark.parametrize("norm", [BatchNorm, partial(BatchNorm, affine=False), InstanceNorm])
@pytest.mark.parametrize("weights", [None, *WEIGHTS])
def test_half_precision_is_rounded_once(weights, norm):
    """A mean of 100 at a deviation of 4: anything computed in bfloat16 loses two digits more."""
    f = signal(weights)
    f = replace(f, values=(100 + 4 * f.values).bfloat16())
    exact = norm(3)(replace(f, values=f.values.double())).values
    layer = norm(3).float()
    out = layer(f).values
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "height", "width"), [(2, 6, 8), (2, 7, 8), (3, 7, 9), (3, 5, 8), (4, 9, 1)])
def test_spatial_pool(mode, size, height, width):
    f = signal(WEIGHTS[0])
    f = replace(f, values=torch.randn(2, 3, 8, height, width))
    out = SpatialPool(size, mode)(f)
    assert out.elements is f.elements
    expected = [
        torch.stack([_reduced(f.values[..., r, :][..., c], mode) for c in _windows(width, size)], -1)
        for r in _windows(height, size)
    ]
    torch.testing.assert_close(out.values, torch.stack(expected, -2), **CLOSE)


def _reduced(window, mode):
    return window.amax((-2, -1)) if mode == "max" else window.mean((-2, -1))


def _windows(side, size):
    """Pixels of the ⌈side / size⌉ intervals round centres that are `size` apart and symmetric about the middle, of the
    least whole width ≥ `size` whose ends fall between pixels."""
    count = -(-side // size)
    centres = [(side - 1) / 2 + size * (i - (count - 1) / 2) for i in range(count)]
    wide = size if (centres[0] + (size - 1) / 2) % 1 == 0 else size + 1
    return [[p for p in range(side) if abs(p - c) < wide / 2] for c in centres]


@pytest.mark.parametrize("weights", [None, *WEIGHTS])
@pytest.mark.parametrize("mode", MODES)
def test_pools_over_the_group(mode, weights):
    f = signal(weights)
    values = expanded(f)
    pooled = GroupPool(mode)(f)
    assert pooled.values.shape == (2, 3, 1, 6, 6)
    assert pooled.group.name == "T2"
    assert torch.equal(pooled.elements.matrices, torch.eye(2)[None])
    assert pooled.elements.weights is None
    over_group = values.amax(2) if mode == "max" else values.mean(2)
    over_all = values.amax((2, 3, 4)) if mode == "max" else values.mean((2, 3, 4))
    torch.testing.assert_close(pooled.values[:, :, 0], over_group, **CLOSE)
    torch.testing.assert_close(GlobalPool(mode)(f), over_all, **CLOSE)


@pytest.mark.parametrize("pool", [SpatialPool, GroupPool, GlobalPool])
def test_an_unknown_mode_is_quoted(pool):
    with pytest.raises(ValueError, match="mode is 'median': must be 'max' or 'mean'"):
        pool(mode="median")


def test_errors_quote_what_was_given():
    with pytest.raises(ValueError, match="size is 0: must be at least 1"):
        SpatialPool(0)
    for norm in (BatchNorm(4), InstanceNorm(4)):
        with pytest.raises(ValueError, match="the input has 3 channels, but this layer expects 4"):
            norm(signal())
    for make, message in (
        (lambda: BatchNorm(0), "channels is 0: must be at least 1"),
        (lambda: InstanceNorm(3, eps=-1.0), "eps is -1.0: must be positive"),
        (lambda: BatchNorm(3, momentum=5.0), r"momentum is 5.0: must be in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    for layer in (BatchNorm(3), InstanceNorm(3), SpatialPool(), GroupPool(), GlobalPool()):
        with pytest.raises(TypeError, match=r"the input is a Tensor: must be a Signal; .*Signal\.image"):
            layer(torch.zeros(2, 3, 8, 8))


def test_one_value_a_channel_is_no_error():
    """As with weights: what is left of a small image where one element is kept."""
    f = signal()
    one = replace(f, values=f.values[:1, :, :1, :1, :1], elements=replace(f.elements, matrices=f.elements.matrices[:1]))
    assert torch.equal(InstanceNorm(3)(one).values, torch.zeros_like(one.values))


def _plain(values, weights, dims, weight=None, bias=None):
    """By operators of torch, each with its own derivative."""
    return norm_module._normalise(
        values, *norm_module.moments(values, weights / weights.sum(), dims), 1e-5, weight, bias
    )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("make", [BatchNorm, partial(BatchNorm, affine=False), InstanceNorm])
def test_the_norm_in_one_pass_has_the_plain_ones_derivatives_twice(make, weights):
    layer, f = perturbed(make(3)), signal(weights)
    values, given = f.values.requires_grad_(), f.elements.weights.requires_grad_()
    inputs = [values, given, *layer.parameters()]
    dims = (0, 3, 4) if isinstance(layer, BatchNorm) else (3, 4)
    found = layer(f).values
    expected = _plain(values, given, dims, *layer.parameters())
    torch.testing.assert_close(found, expected, **CLOSE)
    towards = torch.randn_like(found)
    once = torch.autograd.grad(found, inputs, towards, retain_graph=True)
    first, plain = (torch.autograd.grad(out, inputs, towards, create_graph=True) for out in (found, expected))
    torch.testing.assert_close(once, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(first, plain, rtol=1e-10, atol=1e-12)
    second = [torch.autograd.grad(sum(g.square().sum() for g in grads), inputs[:2]) for grads in (first, plain)]
    torch.testing.assert_close(*second, rtol=1e-9, atol=1e-10)


def test_the_norm_in_one_pass_is_as_exact_in_float32_as_the_plain_one():
    """A mean of 100 times the deviation, and an element that is constant."""
    f = signal(WEIGHTS[3])
    values = 300 + 3 * f.values
    values[:, :, 1] = 300
    exact = _plain(values, f.elements.weights, (0, 3, 4))
    single = values.float(), f.elements.weights.float()
    off = (_plain(*single, (0, 3, 4)).double() - exact).abs().max()
    found = BatchNorm(3, affine=False).float()(replace(f, values=single[0])).values
    assert (found.double() - exact).abs().max() <= 2 * off


@pytest.mark.parametrize(("height", "width"), [(6, 8), (2, 2), (12, 4)])
def test_the_maximum_of_pairs_is_torchs_bit_by_bit(height, width):
    """With many ties, of which the first pixel of a window gets the gradient."""
    x = torch.randint(0, 3, (2, 3, height, width)).double().requires_grad_()
    pools = [pool2d(x, 2), F.max_pool2d(x, 2)]
    towards = torch.randn_like(pools[0], requires_grad=True)
    grads = [torch.autograd.grad(out, x, towards, create_graph=True)[0] for out in pools]
    again = [torch.autograd.grad(grad.square().sum(), towards)[0] for grad in grads]
    for ours, torchs in (pools, grads, again):
        assert torch.equal(ours, torchs)
    assert torch.equal(pool2d(x.detach(), 2), pools[1])
    assert type(pools[0].grad_fn).__name__ == "_MaxOfPairsBackward"


@pytest.mark.parametrize("size", [4, 8])
def test_larger_windows_are_maxima_of_pairs_again_and_again(size):
    """Without ties it is torch's; of equal pixels another one may get the gradient."""
    x = torch.randn(2, 3, size, 3 * size, requires_grad=True)
    pools = [pool2d(x, size), F.max_pool2d(x, size)]
    towards = torch.randn_like(pools[0])
    ours, torchs = (torch.autograd.grad(out, x, towards)[0] for out in pools)
    assert torch.equal(*pools)
    assert torch.equal(ours, torchs)
    assert type(pools[0].grad_fn).__name__ == "_MaxOfPairsBackward"
    assert torch.equal(pool2d(x.detach(), size), pools[1])
    tied = torch.zeros(1, 1, size, size, requires_grad=True)
    assert torch.autograd.grad(pool2d(tied, size).sum(), tied)[0].sum() == 1
    odd = torch.randn(1, 1, size + 1, size)
    assert pool2d(odd, size).shape[-2:] == (2, 1)  # by torch's own, symmetric about the centre
