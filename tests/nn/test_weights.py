"""Weight 0 is absence: what an element of weight 0 holds reaches nothing, and its logit still feels a gradient."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from helpers import SAMPLES, few, group_conv, perturbed, random_signal

from partialsym import (
    Activation,
    AdaptivePool,
    BatchNorm,
    BlurPool,
    GlobalPool,
    GResNet,
    GroupConv,
    GroupPool,
    InstanceNorm,
    SeparableGroupConv,
    Signal,
    SpatialPool,
    Upsample,
    dirac,
    group,
    learned,
)
from partialsym.models import ResidualBlock
from partialsym.signal import Elements

pytestmark = pytest.mark.usefixtures("float64")
DROPPABLE = [name for name in SAMPLES if name not in ("T2", "SE2")]
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def conv(size=3, codomain=None):
    return GroupConv(3, 3, domain=group("D4"), codomain=codomain or dirac(group("D4")), kernel_size=size)


def with_stats(norm, training):
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm.train(training)


LAYERS = {
    "conv": lambda: group_conv("D4"),
    "pointwise": lambda: group_conv("D4", size=1),
    "projection": lambda: conv(codomain=dirac(group("T2"))),
    "batch norm train": lambda: with_stats(BatchNorm(3), True),
    "batch norm eval": lambda: with_stats(BatchNorm(3), False),
    "cumulative batch norm": lambda: BatchNorm(3, momentum=None),
    "strided": lambda: group_conv("D4", stride=2, padding_mode="reflect"),
    "depthwise": lambda: group_conv("D4", groups=3),
    "separable": lambda: SeparableGroupConv(3, 3, codomain=dirac(group("D4")), kernel_size=3),
    "activation": lambda: Activation(torch.nn.PReLU()),
    "blur": BlurPool,
    "upsample": Upsample,
    "adaptive pool": lambda: AdaptivePool(2),
    "instance norm": lambda: InstanceNorm(3),
    "residual block": lambda: ResidualBlock(group_conv("D4"), group_conv("D4"), group_conv("D4", size=1)).eval(),
    **{f"spatial {mode}": lambda mode=mode: SpatialPool(2, mode) for mode in ("max", "mean")},
    **{f"group {mode}": lambda mode=mode: GroupPool(mode) for mode in ("max", "mean")},
    **{f"global {mode}": lambda mode=mode: GlobalPool(mode) for mode in ("max", "mean")},
}


def with_absent(elements):
    """The elements and one more, of weight 0; or as many more as are dropped together."""
    weights = elements.matrices.new_ones(len(elements)) if elements.weights is None else elements.weights
    r = elements.tied
    matrices = torch.cat([elements.matrices, elements.matrices[-r:]])
    return replace(elements, matrices=matrices, weights=torch.cat([weights, weights.new_zeros(r)]))


def without_absent(elements):
    """The elements of weight 1 alone."""
    kept = elements.weights > 0
    return replace(elements, matrices=elements.matrices[kept], weights=elements.weights[kept])


def poisoned(f):
    """The signal and one more element, of weight 0 and filled with 1e6."""
    return Signal(torch.cat([f.values, torch.full_like(f.values[:, :, :1], 1e6)], 2), with_absent(f.elements))


def outcome(module, f, elements=None):
    """Output (on the first elements), gradients of all parameters, and buffers after the pass."""
    out = module(f)
    values = out.values[:, :, :elements] if isinstance(out, Signal) else out
    (values * torch.arange(1.0, values.numel() + 1).sin().view_as(values)).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    return {"values": values.detach(), "buffers": dict(module.named_buffers()), "gradients": gradients}


@pytest.mark.parametrize("weights", [None, [1.0, 0, 1, 1, 0, 0, 1, 1]])
@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_notices_an_element_of_weight_0(layer, weights):
    f = random_signal("D4", weights=None if weights is None else torch.tensor(weights))
    results = []
    for change in (lambda f: f, poisoned):
        torch.manual_seed(1)
        values = f.values.clone().requires_grad_()
        result = outcome(perturbed(LAYERS[layer]()), change(replace(f, values=values)), len(f.elements))
        results.append(result | {"input": values.grad})
    torch.testing.assert_close(results[1], results[0], **CLOSE)


def test_an_unweighted_norm_would_notice():
    f = random_signal("D4")
    alike = replace(poisoned(f), elements=replace(with_absent(f.elements), weights=None))
    assert not torch.allclose(InstanceNorm(3)(alike).values[:, :, :8], InstanceNorm(3)(f).values)


@contextmanager
def given(net, change, value=None):
    """Every GroupConv gets `change` of what its density samples; its last output element is filled with `value`."""

    def draw(conv, args, kwargs):
        return args, {"elements": change(conv.codomain.sample()), **kwargs} if "elements" not in kwargs else kwargs

    def fill(conv, args, out):
        last = torch.full_like(out.values[:, :, :1], value)
        return replace(out, values=torch.cat([out.values[:, :, :-1], last], 2))

    convs = [module for module in net.modules() if isinstance(module, GroupConv)]
    handles = [conv.register_forward_pre_hook(draw, with_kwargs=True) for conv in convs]
    handles += [conv.register_forward_hook(fill) for conv in convs if value is not None]
    yield
    for handle in handles:
        handle.remove()


def resnet(name, **options):
    torch.manual_seed(2)
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5}
    net = perturbed(GResNet(name, **settings | options))
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if key.endswith("logits"):
                parameter.copy_(torch.linspace(-0.5, 0.5, len(parameter)) - 0.1)
            if key.endswith("algebra.raw"):
                parameter.fill_(0.6)
    return net


def network_outcome(name, training, change, value=None):
    net, x = resnet(name).train(training), torch.randn(2, 1, 16, 16)
    torch.manual_seed(3)
    with given(net, change, value):
        return outcome(net, x)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", few(SAMPLES, "T2", "E2", "D4"))
def test_the_whole_network_does_not_notice_an_element_of_weight_0(name, training):
    plain = network_outcome(name, training, lambda elements: elements)
    torch.testing.assert_close(network_outcome(name, training, with_absent, 1e6), plain, **CLOSE)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", few(DROPPABLE, "Mirror", "E2", "C4"))
def test_a_dropped_component_is_as_if_taken_out(name, training):
    """All gradients but the logits' agree, which the dropped ones feed; in eval mode nothing depends on those."""
    dropped = []

    def take_out(elements):
        if elements.weights is None:
            return elements
        dropped.append(int((elements.weights == 0).sum()))
        return without_absent(elements)

    taken, plain = network_outcome(name, training, take_out), network_outcome(name, training, lambda elements: elements)
    assert sum(dropped) > 0
    for result in (taken, plain):
        logits = [result["gradients"].pop(key) for key in list(result["gradients"]) if key.endswith("logits")]
    torch.testing.assert_close(taken, plain, **CLOSE)
    if training:
        assert all(gradient.isfinite().all() and gradient.any() for gradient in logits)


POOLS = {
    "group max": lambda f: GroupPool("max")(f).values,
    "group mean": lambda f: GroupPool("mean")(f).values,
    "global max": GlobalPool("max"),
    "global mean": GlobalPool("mean"),
    "spatial max": lambda f: conv(codomain=dirac(group("T2")))(SpatialPool(2, "max")(f)).values,
    "spatial mean": lambda f: conv(codomain=dirac(group("T2")))(SpatialPool(2, "mean")(f)).values,
}


@pytest.mark.parametrize("noise", [0.3, 0.95])
@pytest.mark.parametrize("pool", POOLS)
def test_every_logit_feels_a_gradient_behind_every_pool(pool, noise, monkeypatch):
    """With the noise at .3 nothing but e is drawn, at .95 everything is."""
    density = learned(group("D4"), 8)
    density.component.logits.data.fill_(-1)
    layer = perturbed(conv(codomain=density))
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, noise))
    f = layer(random_signal("D4", batch=32))
    assert f.elements.weights[1:].tolist() == [float(noise > 0.5)] * 7
    POOLS[pool](f).square().sum().backward()
    gradient = density.component.logits.grad
    assert gradient.isfinite().all()
    assert (gradient.abs() > 1e-9).all()


def brute_force(values, weights, cotangent, over_space):
    """Σ cotangent·(max(S ∪ {j}) − max(S ∖ {j})) for every j, 0 where S ∖ {j} is empty."""
    axes = (2, 3, 4) if over_space else (2,)
    drawn = {i for i, w in enumerate(weights.tolist()) if w}

    def top(kept):
        return values[:, :, sorted(kept)].amax(axes)

    gains = [top(drawn | {j}) - top(drawn - {j}) if drawn - {j} else None for j in range(len(weights))]
    return torch.stack([torch.zeros(()) if gain is None else (cotangent * gain).sum() for gain in gains])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weights", [[1.0, 0, 1, 1, 0, 0, 1, 1], [1.0] * 8, [1.0] + [0.0] * 7, [1.0, 1] + [0.0] * 6])
@pytest.mark.parametrize("over_space", [False, True])
def test_the_discrete_gradient_of_the_maximum(over_space, weights, ties):
    w = torch.tensor(weights, requires_grad=True)
    f = random_signal("D4", weights=w)
    values = (f.values.round() if ties else f.values).requires_grad_()
    pool = GlobalPool("max") if over_space else GroupPool("max")
    out = pool(replace(f, values=values))
    out = out if over_space else out.values[:, :, 0]
    drawn = values[:, :, w > 0]
    assert torch.equal(out, drawn.amax((2, 3, 4) if over_space else 2))
    cotangent = torch.randn_like(out)
    out.backward(cotangent)
    torch.testing.assert_close(w.grad, brute_force(values.detach(), w, cotangent, over_space), check_dtype=False)
    assert not values.grad[:, :, w == 0].any()
    torch.testing.assert_close(values.grad.sum(), cotangent.sum())


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_the_maximum_gives_a_weight_that_elements_share_the_gradient_of_all_of_them_at_once(mirrored):
    w = torch.tensor([1.0, mirrored], requires_grad=True)
    f = random_signal("E2", weights=torch.ones(8))
    values = f.values.clone()
    values[:, :, 5:] = values[:, :, 4:5] + 1e-3 * torch.randn_like(values[:, :, 5:])  # the mirrored ones resemble
    gradients = {}
    for tied in (4, 1):
        elements = Elements(f.group, f.elements.matrices, w.repeat_interleave(4), tied)
        out = GlobalPool("max")(replace(f, values=values, elements=elements))
        (gradients[tied],) = torch.autograd.grad(out.sum(), w)
    with_them, without = values.amax((2, 3, 4)), values[:, :, :4].amax((2, 3, 4))
    torch.testing.assert_close(gradients[4][1], (with_them - without).sum())
    assert not torch.allclose(gradients[1][1], gradients[4][1], rtol=0.5)  # one by one is another number
    density = learned(group("E2"), 8)
    assert density.draw().tied == density.eval().sample().tied == 4
    with pytest.raises(ValueError, match="tied is 3: must be a divisor of 8"):
        Elements(f.group, f.elements.matrices, None, 3)
