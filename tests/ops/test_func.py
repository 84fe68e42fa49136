"""The transforms of torch.func against loops of ordinary passes, in float64; what there is not is refused by name."""

import copy

import pytest
import torch
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    replace_all_batch_norm_modules_,
    stack_module_state,
    vmap,
)

from partialsym import Augerino, GResNet, GroupPool, Signal, set_proportional, to_conv2d
from partialsym.densities import Uniform
from partialsym.ops import FactoredKernel, convolve
from partialsym.signal import Elements

SMALL = {"width": 2, "kernel_size": 3, "hidden": 4}
NETWORKS = {
    "partial": lambda: GResNet("E2", samples=4, **SMALL),
    "finite": lambda: GResNet("D4", head="linear", **SMALL),
    "Augerino": lambda: Augerino(GResNet("T2", **SMALL), "E2", copies=4),
}


pytestmark = pytest.mark.usefixtures("float64")


def made(name):
    net = NETWORKS[name]().eval()
    return net, torch.randn(2, 1, 12, 12)


def parameters(net):
    return {name: value.detach() for name, value in net.named_parameters()}


def loss_of(net):
    return lambda weights, x: functional_call(net, weights, (x[None],)).square().sum()


def gradients(net, x):
    """By the ordinary backward pass of a batch."""
    found = torch.autograd.grad(
        net(x).square().sum(), list(net.parameters()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(parameters(net), found, strict=True))


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


def stacked(each):
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


@pytest.mark.parametrize("name", NETWORKS)
def test_images_under_vmap_are_a_batch(name):
    net, x = made(name)
    found = vmap(lambda one: net(one[None])[0])(x)
    assert_close(found, net(x))
    assert not torch.allclose(found[0], found[1])
    assert_close(vmap(vmap(lambda one: net(one[None])[0]))(x[None])[0], net(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_each_image_are_those_of_a_loop(name):
    net, x = made(name)
    found = vmap(grad(loss_of(net)), (None, 0))(parameters(net), x)
    assert_close(found, stacked([gradients(net, one[None]) for one in x]))
    assert_close(grad(loss_of(net))(parameters(net), x[0]), gradients(net, x[:1]))


@pytest.mark.parametrize("name", NETWORKS)
def test_jacobians_are_rows_of_the_backward_pass(name):
    net, x = made(name)
    image = x[:1].clone().requires_grad_()
    out = net(image)
    rows = torch.stack([torch.autograd.grad(value, image, retain_graph=True)[0] for value in out[0]])
    assert_close(jacrev(net)(x[:1])[0], rows)
    batched = torch.autograd.grad(out, image, torch.eye(out.shape[1])[:, None], is_grads_batched=True)[0]
    assert_close(batched, rows)


@pytest.mark.parametrize("name", ["partial", "Augerino"])
def test_models_under_vmap_are_an_ensemble(name):
    net, x = made(name)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.9)
    if name == "Augerino":  # one keeps a half that the other drops
        other.density.component.logits.data.fill_(-1)
    weights, buffers = stack_module_state([net, other])
    found = vmap(lambda w, b: functional_call(net, (w, b), (x,)))(weights, buffers)
    assert_close(found, torch.stack([net(x), other(x)]))

    def loss(w, b):
        return functional_call(net, (w, b), (x,)).square().sum()

    assert_close(vmap(grad(loss))(weights, buffers), stacked([gradients(net, x), gradients(other, x)]))


def test_a_drawn_maximum_under_vmap_passes_its_gradient_to_the_weights():
    group = GResNet("Mirror", **SMALL).lifting.group
    values, weights = torch.randn(3, 2, 2, 2, 4, 4), torch.tensor([1.0, 0.0])

    def total(v, w):
        return GroupPool()(Signal(v, Elements(group, group.components, w))).values.square().sum()

    found = vmap(grad(total, argnums=(0, 1)), (0, None))(values, weights)
    for i, v in enumerate(values):
        leaves = v.clone().requires_grad_(), weights.clone().requires_grad_()
        for one, expected in zip(found, torch.autograd.grad(total(*leaves), leaves), strict=True):
            assert_close(one[i], expected)
    assert found[1][:, 1].abs().min() > 0  # the one that was not drawn asks to be


def test_draws_under_vmap_are_one_for_all_or_each_its_own():
    """With statistics of the batch, as torch's own norms need them, too."""
    net, x = made("partial")
    replace_all_batch_norm_modules_(net.train())
    images = x[:1].expand(2, -1, -1, -1)
    same, different = (vmap(lambda one: net(one[None])[0], randomness=how)(images) for how in ("same", "different"))
    assert_close(same[0], same[1])
    assert not torch.allclose(different[0], different[1])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda net, x: jvp(net, (x,), (x,)), "has no forward-mode derivative"),
        (lambda net, x: jacfwd(net)(x), "has no forward-mode derivative"),
        (lambda net, x: hessian(lambda z: net(z).sum())(x), "has no forward-mode derivative"),
        (lambda net, x: grad(lambda z: grad(lambda y: net(y).sum())(z).sum())(x), "has no second derivative"),
        (lambda net, x: jacrev(jacrev(lambda z: net(z).sum()))(x), "has no second derivative"),
    ],
)
def test_other_derivatives_are_refused_by_name_and_a_converted_model_has_them(ask, message):
    net, x = made("partial")
    with pytest.raises(NotImplementedError, match=rf"partialsym's .* {message}.*partialsym\.to_conv2d"):
        ask(net, x[:1])
    ask(to_conv2d(net), x[:1])


def test_second_derivatives_of_a_bound_and_of_a_drawn_maximum_are_refused():
    density = Uniform(0.5)
    first = torch.autograd.grad(density.theta().square(), density.raw, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="bound of θ has no second derivative"):
        first.backward()
    group = GResNet("Mirror", **SMALL).lifting.group
    values, weights = torch.randn(1, 1, 2, 3, 3).requires_grad_(), torch.ones(2).requires_grad_()
    out = GroupPool()(Signal(values, Elements(group, group.components, weights))).values.square().sum()
    first = torch.autograd.grad(out, weights, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="maximum over drawn elements has no second derivative"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("transform", "shape"),
    [(grad, ()), (vmap, (3,)), (lambda f: vmap(vmap(f)), (3, 1)), (lambda f: vmap(grad(f)), (3,)), (jacrev, ())],
)
def test_the_range_of_images_is_checked_within_transforms(transform, shape):
    total, x = transform(lambda image: Signal.image(image.view(1, 1, 2, 2)).values.sum()), torch.ones(*shape, 4)
    assert total(x).isfinite().all()
    x[..., -1] = torch.inf
    with pytest.raises(ValueError, match="images reach inf"):
        total(x)


def test_what_differs_in_number_or_is_of_a_batch_is_refused_under_vmap():
    net, x = made("partial")
    set_proportional(net, True)
    weights, buffers = stack_module_state([net, net])
    with pytest.raises(NotImplementedError, match=r"the number ⌈rθ⌉ of elements differs.*set_proportional"):
        vmap(lambda w, b: functional_call(net, (w, b), (x,)))(weights, buffers)
    for randomness in ("same", "different"):
        with pytest.raises(NotImplementedError, match=r"running statistics under torch.vmap.*model\.eval\(\)"):
            vmap(lambda one: net.train()(one[None])[0], randomness=randomness)(x)
    kernel = FactoredKernel(*(torch.ones(*shape) for shape in ((1, 1, 1), (1, 1), (1, 1, 1, 3, 3), (1,), (3, 3))))
    with pytest.raises(ValueError, match="over no images or kernels"):
        vmap(lambda weight: convolve(x[:, :, None], kernel._replace(weight=weight), None, 1))(torch.ones(0, 1, 1, 1))
