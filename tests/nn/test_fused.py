"""Lifting, BatchNorm and maxima together are what they are one after the other."""

import copy

import pytest
import torch

import partialsym as ps
from partialsym.errors import InputError
from partialsym.models import GCNN3
from partialsym.nn import fused
from partialsym.nn.fused import lift_norm_and_pool
from partialsym.ops import Options, orders

pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo itself

CHANNELS, OUT = 2, 6


def layers(density=None, dtype=torch.float64, size=4, affine=True, **options):
    """A lifting convolution, a BatchNorm with random positive γ, and a pool."""
    density = density or ps.haar(ps.SE2(), samples=4)
    options = {"kernel_size": 3} | options
    lifting = ps.GroupConv(CHANNELS, OUT, domain=ps.T2(), codomain=density, **options).to(dtype)
    if lifting.bias is not None:
        torch.nn.init.uniform_(lifting.bias)
    norm = ps.BatchNorm(OUT, affine=affine).to(dtype)
    if affine:
        torch.nn.init.uniform_(norm.weight, 0.1, 1)
        torch.nn.init.uniform_(norm.bias)
    return torch.nn.ModuleList([lifting, norm, ps.SpatialPool(size)])


def images(dtype=torch.float64, side=(13, 18)):
    return ps.Signal.image(
        torch.randn(3, CHANNELS, *side, dtype=dtype) + torch.arange(3.0, dtype=dtype).view(3, 1, 1, 1)
    )


def apart(modules, f):
    lifting, norm, pool = modules
    return pool(norm(lifting(f)))


def together(modules, f):
    return lift_norm_and_pool(*modules, f)


def results(run, modules, f):
    """Values, elements, the gradients of all parameters, many gradients at once, and the running statistics."""
    torch.manual_seed(1)
    out = run(modules, f)
    wanted = [p for p in modules.parameters() if p.requires_grad]
    grad = torch.linspace(-3, 3, out.values.numel(), dtype=out.values.dtype).cos().view(out.values.shape)
    first = torch.autograd.grad(out.values, wanted, grad, retain_graph=True, allow_unused=True)
    _, norm, _ = modules
    buffers = [norm.running_mean, norm.running_var, norm.num_batches]
    return [out.values, out.elements.matrices, *first, *buffers]


def same(a, b, tolerance=1e-11):
    for x, y in zip(a, b, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@pytest.fixture
def lifted(monkeypatch):
    """How often the map was never formed."""
    calls, real = [], fused._LiftedMaxima.apply
    monkeypatch.setattr(fused._LiftedMaxima, "apply", lambda *given: calls.append(1) or real(*given))
    return calls


def weighted():
    """A part of E(2) whose elements have weights with gradients."""
    return ps.learned(ps.E2(), samples=4)


DENSITIES = {
    "all rotations": None,
    "a part of E(2)": weighted,
    "mirrorings": lambda: ps.haar(ps.group("E2"), samples=4),
}
OPTIONS = {
    "": {},
    "no bias": {"bias": False},
    "stride": {"stride": 2},
    "valid": {"padding": "valid"},
    "reflect": {"padding_mode": "reflect"},
    "dilation": {"dilation": 2},
    "size 5, no affine": {"size": 5, "affine": False},
}


@pytest.mark.parametrize("small", [False, True], ids=["one chunk", "an image each"])
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("options", OPTIONS)
def test_they_are_the_same(options, density, small, lifted, monkeypatch):
    """The gradient of the lifting's bias is exactly 0, which it is to rounding one after the other."""
    if small:
        monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", 8)
    torch.manual_seed(0)
    modules = layers((DENSITIES[density] or (lambda: None))(), **OPTIONS[options])
    other, f = copy.deepcopy(modules), images()
    found, expected = results(together, modules, f), results(apart, other, f)
    assert lifted
    same(found, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_its_gradients_are_derivatives_many_at_once_and_twice(stride):
    torch.manual_seed(0)
    options, (c, n) = Options(1, stride), (2, 3)
    maps = torch.randn(2, CHANNELS, 9, 10, dtype=torch.float64)
    mapped = maps.new_empty(()).expand(2, c, n, *options.size(9, 10, 3))
    filters, offset = torch.randn(c * n, CHANNELS, 3, 3, dtype=torch.float64), torch.randn(c, dtype=torch.float64)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    weight, bias = torch.rand(2, c, dtype=torch.float64) + 0.5
    given = [part.requires_grad_() for part in (filters, shares, weight, bias, offset)]

    def normalised(*given):
        return fused._LiftedMaxima.apply(*given, maps, mapped, 1e-5, 4, options)[0]

    assert torch.autograd.gradcheck(normalised, given, fast_mode=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(normalised, given, fast_mode=True)


def test_no_map_is_saved():
    """For the backward pass: less than a third of the map's bytes, where one after the other needs more than all."""
    f = ps.Signal.image(torch.randn(64, CHANNELS, 32, 32))
    modules = layers(dtype=torch.float32)
    map_bytes = modules[0](f).values.nbytes

    def saved(run):
        held = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: held.update({t.data_ptr(): t.nbytes}) or t, lambda t: t
        ):
            run(modules, f)
        return sum(held.values())

    assert saved(together) < map_bytes / 3
    assert saved(apart) > map_bytes


def test_smooth_images_and_fine_filters_lose_no_digits():
    """Filters without a mean on smooth images: statistics from sums of products of pixels would lose them all."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 34)
    maps = 10 + ramp[:, None] + ramp.square() + 0.1 * torch.rand(8, CHANNELS, 1, 1) + 0.01 * torch.rand(34, 34)
    filters = torch.randn(4, CHANNELS, 3, 3)
    filters -= filters.mean((1, 2, 3), keepdim=True)
    grad = torch.randn(8, 4, 1, 8, 8)

    def lifted(maps, filters):
        mapped, share = maps.new_empty(()).expand(8, 4, 1, 32, 32), maps.new_ones(1)
        return fused._LiftedMaxima.apply(filters, share, None, None, None, maps, mapped, 1e-5, 4, Options())[0]

    def apart(maps, filters):
        values = torch.nn.functional.conv2d(maps, filters)
        norm = ps.BatchNorm(4, affine=False).to(maps.dtype)
        return ps.SpatialPool(4)(norm(ps.Signal.image(values))).values

    def answers(run, dtype):
        given = filters.to(dtype).requires_grad_()
        out = run(maps.to(dtype), given)
        return out.detach(), *torch.autograd.grad(out, given, grad.to(dtype))

    right = answers(apart, torch.float64)
    errors = [
        [(a - b).abs().max() / b.abs().max() for a, b in zip(answers(run, torch.float32), right, strict=True)]
        for run in (lifted, apart)
    ]
    for ours, plain in zip(*errors, strict=True):
        assert ours < 2 * plain + 1e-6


def negative_scale(modules, seen):
    modules[1].weight.data[1] = -1


def own_forward(modules, seen):
    real = modules[0].forward
    modules[0].forward = lambda f: seen.append(f) or real(f)


class Watched(ps.GroupConv):
    def forward(self, f, elements=None):
        self.seen.append(f)
        return super().forward(f, elements)


def subclass(modules, seen):
    modules[0].__class__ = Watched
    modules[0].seen = seen


def hook_on(index):
    return lambda modules, seen: modules[index].register_forward_hook(lambda *given: seen.append(given))


def noted(seen):
    def backend(graph, inputs):
        def call(*given):
            seen.append(given)
            return graph(*given)

        return call

    return backend


def nothing(modules, seen):
    pass


REASONS = {
    "images with a gradient": ({}, nothing),
    "another order": ({"path": "spectral"}, nothing),
    "windows of 2×2 pixels": ({"size": 2}, nothing),
    "more taps than filters": ({"kernel_size": 5}, nothing),
    "bf16": ({"dtype": torch.bfloat16}, nothing),
    "a hook on the lifting": ({}, hook_on(0)),
    "a hook on the norm": ({}, hook_on(1)),
    "a hook on the pool": ({}, hook_on(2)),
    "a forward of its own": ({}, own_forward),
    "a subclass": ({}, subclass),
    "evaluation": ({}, lambda modules, seen: modules.eval()),
    "a negative scale": ({}, negative_scale),
    "a mean": ({}, lambda modules, seen: setattr(modules[2], "mode", "mean")),
    "a compiled lifting, its own": ({}, lambda modules, seen: modules[0].compile(backend=noted(seen))),
}


@pytest.mark.parametrize("reason", REASONS)
def test_they_follow_each_other(reason, monkeypatch):
    """Where something looks at the map, or it does not pay."""
    torch.manual_seed(0)
    options, change = REASONS[reason]
    modules, seen = layers(**options), []
    change(modules, seen)
    f = images(modules[0].taps.dtype)
    f.values.requires_grad_("gradient" in reason)
    expected = results(apart, modules, f)
    modules[1].reset_running_stats()
    count = len(seen)
    monkeypatch.setattr("partialsym.nn.fused._LiftedMaxima", None)
    same(results(together, modules, f), expected)
    assert len(seen) == 2 * count
    assert (count > 0) == ("hook" in reason or "own" in reason or "class" in reason)


def test_its_errors_are_the_layers():
    lifting, _, pool = layers()
    with pytest.raises(InputError, match="channels"):
        lift_norm_and_pool(lifting, ps.BatchNorm(OUT + 1).double(), pool, images())
    with pytest.raises(InputError, match="float32"):
        lift_norm_and_pool(*layers(), images(torch.float32))


def test_a_network_of_it_is_compiled_whole():
    net, x = GCNN3("SE2", width=2, samples=2, first_pool=4), torch.randn(6, 1, 12, 12)
    out = torch.compile(net, backend="eager", fullgraph=True)(x)
    assert out.shape == (6, 10)


def test_a_network_of_it_is_exported_for_any_batch():
    net, x = GCNN3("SE2", width=2, samples=2, first_pool=4).eval(), torch.randn(6, 1, 12, 12)
    shapes = {"images": {0: torch.export.Dim("batch", min=2)}}
    program = torch.export.export(net, (x,), dynamic_shapes=shapes, strict=False).module()
    torch.testing.assert_close(program(x[:3]), net(x[:3]))


@pytest.mark.long
@pytest.mark.parametrize("train", [True, False])
def test_a_network_of_it_is_compiled_and_exported_whole_in_both_modes(train):
    torch.manual_seed(0)
    net, x = GCNN3("SE2", width=2, samples=2, first_pool=4).train(train), torch.randn(6, 1, 12, 12)
    expected = net.eval()(x)
    net.train(train)
    torch.compile(net, backend="eager", fullgraph=True)(x)
    shapes = {"images": {0: torch.export.Dim("batch", min=2)}}
    for options in ({"strict": True}, {"strict": False, "dynamic_shapes": shapes}):
        program = torch.export.export(net, (x,), **options).module()
        if not train:
            torch.testing.assert_close(program(x), expected)
    assert train or len(program(x[:3])) == 3


def test_the_backward_pass_may_run_under_autocast():
    torch.manual_seed(0)
    filters, maps = torch.randn(4, CHANNELS, 3, 3, requires_grad=True), torch.randn(3, CHANNELS, 9, 9)
    mapped, share = maps.new_empty(()).expand(3, 4, 1, 9, 9), maps.new_ones(1)
    out, *_ = fused._LiftedMaxima.apply(filters, share, None, None, None, maps, mapped, 1e-5, 4, Options(1))
    grad = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, filters, grad, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(out, filters, grad)
    assert torch.equal(found, expected)


def test_a_wide_norm_keeps_the_dtype_of_the_images(lifted):
    lifting, norm, pool = layers(dtype=torch.float32)
    out = lift_norm_and_pool(lifting, norm.double(), pool, images(torch.float32))
    assert lifted
    assert out.values.dtype == torch.float32
    out.values.sum().backward()
    assert norm.weight.grad.dtype == torch.float64
