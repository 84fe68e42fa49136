"""Every gradient of the whole ResNet, in float64, is the limit of central differences of the same function.

Where it is so by definition of another function, that function is what is differenced: a dropped component's weight is
a step of its logit, whose gradient is that of the relaxation; θ stops at its bounds; and the maximum's gradient towards
the last layer's weights is a difference of maxima, no derivative at all.
"""

import pytest
import torch
from finite_differences import SEED, difference, direction, gradients, relaxed, scalar
from helpers import SAMPLES, few, perturbed
from torch.nn import functional as F

from partialsym import GResNet
from partialsym.densities import Bernoulli
from partialsym.densities.algebra import _InwardClamp
from partialsym.nn import norm
from partialsym.ops import operator
from partialsym.registry import KERNELS

pytestmark = pytest.mark.usefixtures("float64")
HEADS = ("group", "plane", "linear")
CASES = [(name, partial, head) for name in ("Mirror", "SE2", "E2") for partial in (False, True) for head in HEADS]
CASES += [("T2", False, head) for head in HEADS]  # where there is nothing to learn
RATES = [("E2", "group", kernel) for kernel in KERNELS] + [("E2", head, "SIREN") for head in HEADS[1:]]
RATES += [(name, "group", "SIREN") for name in ("T2", "Mirror", "SE2")]
STEP, ALONE = 1e-8, 1e-7  # in all parameters at once, in one: further, a ReLU or a maximum switches here and there
LAST = "last.codomain.component.logits"


def network(name, partial=True, head="group", theta=0.6, **options):
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 3, **options}
    model = GResNet(name, partial=partial, head=head, **settings)
    with torch.no_grad():
        for key, parameter in perturbed(model).named_parameters():
            if key.endswith("algebra.raw"):
                parameter.fill_(theta)
            elif key.endswith("logits"):
                parameter.fill_(0.2)  # some are drawn and some are not
    return model


def images(size=(14, 13)):
    return torch.randn(2, 1, *size)


def plain(model, head):
    """The parameters whose gradient is a derivative: all but the logits that a maximum's set hangs on."""
    return {key: p for key, p in model.named_parameters() if head != "group" or key != LAST}


def moves_along(parameters, grads, seed):
    """A random direction in all parameters at once, further where the gradient is small, so that each one counts."""
    sizes = torch.stack([grads[key].norm() for key in parameters])
    scales = (sizes.square().mean().sqrt() / sizes).clamp(max=100)
    return [(p, s * direction(p, seed + i)) for i, (p, s) in enumerate(zip(parameters.values(), scales, strict=True))]


def error_along(model, x, parameters, grads, seed):
    """Relative error of the directional derivative."""
    moves = moves_along(parameters, grads, seed)
    parts = torch.stack([(grads[key] * v).sum() for key, (_, v) in zip(parameters, moves, strict=True)])
    with relaxed(model):
        found = difference(lambda: scalar(model, x), moves, STEP)
    return abs(found - float(parts.sum())) / float(parts.norm())


@pytest.mark.parametrize(
    ("name", "partial", "head"),
    few(CASES, *(("E2", True, head) for head in HEADS), ("SE2", True, "group"), ("Mirror", False, "linear"), CASES[-1]),
)
def test_the_whole_networks_gradient_is_the_limit_of_differences(name, partial, head):
    model, x = network(name, partial, head), images()
    grads = gradients(model, x)
    assert max(error_along(model, x, plain(model, head), grads, seed) for seed in (0, 100, 200)) < 1e-6


@pytest.mark.long
@pytest.mark.parametrize(("name", "partial", "head"), CASES)
def test_so_is_that_of_every_single_parameter(name, partial, head):
    model, x = network(name, partial, head), images()
    grads = gradients(model, x)
    least = 1e-3 * float(torch.cat([g.flatten() for g in grads.values()]).norm())  # some are 0: a norm follows them
    with relaxed(model):
        for i, (key, p) in enumerate(plain(model, head).items()):
            v = direction(p, i)
            found = difference(lambda: scalar(model, x), [(p, v)], ALONE)
            assert abs(found - float((grads[key] * v).sum())) < 1e-5 * max(float(grads[key].norm()), least), key


@pytest.mark.parametrize(("name", "head", "kernel"), RATES)
def test_the_differences_converge_at_second_order(name, head, kernel, monkeypatch):
    """Half the step, a quarter of the error; with a smooth ReLU, and steps too small for a maximum to switch."""
    monkeypatch.setattr(F, "relu", F.softplus)
    model, x = network(name, True, head, kernel=kernel, pools=()), images((6, 7))
    grads, parameters = gradients(model, x), plain(model, head)
    moves = [(p, direction(p, i)) for i, p in enumerate(parameters.values())]
    exact = float(sum((grads[key] * v).sum() for key, (_, v) in zip(parameters, moves, strict=True)))
    with relaxed(model):
        errors = [abs(difference(lambda: scalar(model, x), moves, step) - exact) for step in (4e-5, 2e-5, 1e-5)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def scaled_clamp(ctx, grad):
    return 1.001 * grad, None


def plant_theta(patch):
    patch.setattr(_InwardClamp, "backward", staticmethod(scaled_clamp))


def plant_kernel(patch):
    for order in ("dense_backward", "factored_backward", "spectral_backward"):
        right = getattr(operator, order)

        def wrong(*args, right=right):
            g = right(*args)
            return g._replace(phi=1.001 * g.phi)

        patch.setattr(operator, order, wrong)


def plant_norm(patch):
    right = norm._sums_of_images
    patch.setattr(norm, "_sums_of_images", lambda *args: tuple(1.001 * part for part in right(*args)))


def plant_logit(patch):
    right = Bernoulli.draw

    def wrong(self):
        w = right(self)
        return w.detach() + 1.001 * (w - w.detach())

    patch.setattr(Bernoulli, "draw", wrong)


@pytest.mark.parametrize("plant", [plant_theta, plant_kernel, plant_norm, plant_logit])
def test_a_gradient_wrong_by_a_thousandth_would_be_seen(plant, monkeypatch):
    model, x = network("E2", True, "plane"), images()
    plant(monkeypatch)
    grads = gradients(model, x)
    seeds = range(0, 600, 100)  # in one direction the errors of four angles may cancel: their moves are of one length
    assert max(error_along(model, x, plain(model, "plane"), grads, seed) for seed in seeds) > 1e-5


@pytest.mark.parametrize("sign", [1, -1])
def test_at_its_bound_theta_has_the_derivative_from_inside_or_none(sign):
    """What leads a descent step out is cut off: the function is constant there."""
    model, x, h = network("SE2", theta=1.0), images(), 1e-6
    seen = set()

    def f():
        return sign * scalar(model, x)

    for key, p in model.named_parameters():
        if key.endswith("algebra.raw"):
            (grad,) = torch.autograd.grad(f(), p)
            inside = []
            with torch.no_grad():
                for back in (0, h, 2 * h):
                    p.fill_(1 - back)
                    inside.append(float(f()))
                p.fill_(1 + h)
                assert float(f()) == inside[0]
                p.fill_(1)
            slope = (3 * inside[0] - 4 * inside[1] + inside[2]) / (2 * h)
            seen.add(slope > 0)
            assert float(grad) == pytest.approx(slope, rel=1e-5) if slope > 0 else float(grad) == 0
    assert seen == {True, False}


def test_a_drawn_logit_itself_has_no_derivative():
    """A draw is a step: the differences of the network as it runs are 0, the gradient is not."""
    model, x = network("Mirror", True, "plane"), images()
    p = model.block1.conv1.codomain.component.logits
    assert difference(lambda: scalar(model, x), [(p, torch.ones_like(p))], ALONE) == 0
    assert abs(float(gradients(model, x)["block1.conv1.codomain.component.logits"])) > 1e-5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["Mirror", "E2"])
def test_the_gradient_of_the_set_of_a_maximum_is_a_difference_of_maxima(name, seed):
    """∂L/∂logit = y(1 − y)/τ · (∂L/∂w through the norm, a derivative, + Σ ∂L/∂max · (max(S ∪ C) − max(S ∖ C)))."""
    torch.manual_seed(seed)
    model, x = network(name), images()
    held = {}

    def keep(_, args, out):
        out.retain_grad()
        held.update(signal=args[0], out=out)

    handle = model.pool.register_forward_hook(keep)
    loss, p = scalar(model, x), model.last.codomain.component.logits
    loss.backward()
    handle.remove()
    with relaxed(model):
        through_norm = difference(lambda: scalar(model, x), [(p, torch.ones_like(p))], ALONE)
    top = held["signal"].values.detach().amax((-2, -1)).unflatten(2, (2, -1)).amax(3)  # [b, c, component]
    gain = (held["out"].grad * (top[..., 1] - top[..., 0]).relu()).sum()  # max(e, C) − max(e)
    slope = float(y_slope(model, x))
    assert float(p.grad) == pytest.approx(through_norm + slope * float(gain), rel=1e-5)
    assert float(p.grad) != pytest.approx(through_norm, rel=1e-3)


def y_slope(model, x):
    """y(1 − y)/τ of the last layer's draw, from its weight's own derivative."""
    drawn = []
    torch.manual_seed(SEED)
    handle = model.last.register_forward_hook(lambda _m, _a, out: drawn.append(out.elements.weights))
    model(x)
    handle.remove()
    return torch.autograd.grad(drawn[0][-1], model.last.codomain.component.logits)[0]
