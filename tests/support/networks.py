"""Networks whose every number has moved from where it starts, as after a training, and what freezing must keep."""

import torch
from helpers import SAMPLES, ReLU, group_conv, lifting, perturbed
from torch import nn

from partialsym import BatchNorm, GlobalPool, GroupConv, GroupPool, InstanceNorm, Signal, SpatialPool, to_conv2d
from partialsym.nn.frozen import FrozenConv

CLOSE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-10, "atol": 1e-10}}


def shaken(model, theta=0.5):
    """Every parameter and running statistic off its start, every second component dropped, θ given; in eval mode."""
    with torch.no_grad():
        for name, parameter in perturbed(model).named_parameters():
            if name.endswith("algebra.raw"):
                parameter.fill_(theta)
            elif name.endswith("component.logits"):
                parameter.fill_(1)
                parameter[::2] = -1
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.2, 3)
    return model.eval()


def network(cls, name, **options):
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5, **options}
    return shaken(cls(name, **settings))


def of(kind, model):
    return [module for module in model.modules() if isinstance(module, kind)]


def assert_frozen(model, x, **rest):
    """The frozen model, after asserting that it answers as the model does and holds no kernel."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    rng = torch.get_rng_state()
    frozen = to_conv2d(model, **rest)
    assert torch.equal(torch.get_rng_state(), rng)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert not of(GroupConv, frozen)
    assert len(of(FrozenConv, frozen)) == len(of(GroupConv, model))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    expected, found = model(x).detach(), frozen(x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, **CLOSE[x.dtype])
    return frozen


class Own(nn.Module):
    """A model as a user writes it; `twice` also reads the convolution beside its norm."""

    def __init__(self, name="E2", *, twice=False, norms=1, last=True, affine=True):
        super().__init__()
        self.lift = lifting(name, "learned", into=1)
        self.norm = BatchNorm(3, affine=affine)
        self.more = nn.ModuleList(BatchNorm(3) for _ in range(norms - 1))
        self.body = nn.Sequential(ReLU(), SpatialPool(2), group_conv(name, "learned", bias=False), InstanceNorm(3))
        self.body.append(ReLU())
        self.pool, self.twice, self.last = nn.Sequential(GroupPool("mean"), GlobalPool("mean")), twice, last

    def forward(self, images):
        f = self.lift(Signal.image(images))
        g = self.norm(f)
        for norm in self.more:
            g = g.map(lambda v, norm=norm: v + norm(f).values)
        if self.twice:
            g = g.map(lambda v: v + 1e-4 * f.values)
        out = self.body(g)
        return self.pool(out) if self.last else out


def shapes(model, layers, images):
    """Input and output sizes of every convolution, channels times elements."""
    found = []

    def note(module, inputs, output):
        sizes = [x if isinstance(x, torch.Tensor) else x.values.flatten(1, 2) for x in (inputs[0], output)]
        found.append(tuple(tuple(size.shape) for size in sizes))

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if isinstance(layer, layers)]
    model(images)
    for hook in hooks:
        hook.remove()
    return found
