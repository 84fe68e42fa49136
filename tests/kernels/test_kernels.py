import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from helpers import taken
from scipy.interpolate import CubicSpline
from torch.nn import functional as F

from partialsym.kernels import MLP, SIREN, Fourier, Gabor, Grid, Kernel, MAGNet
from partialsym.registry import KERNELS

pytestmark = pytest.mark.usefixtures("float64")
every_kernel = pytest.mark.parametrize("make", KERNELS.values(), ids=KERNELS)
dims = pytest.mark.parametrize("dim", [2, 5])


def perturbed(make, dim=4, **options) -> Kernel:
    """A kernel none of whose parameters is at a special value."""
    kernel = make(dim, 3, 2, **taken(make, hidden=6, **options))
    with torch.no_grad():
        for p in kernel.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return kernel


def coordinates(*shape):
    return torch.rand(*shape) * 2 - 1


@every_kernel
@dims
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 1, 5)])
def test_a_kernel_maps_coordinates_to_matrices(make, dim, shape):
    assert make(dim, 3, 2)(coordinates(*shape, dim)).shape == (*shape, 3, 2)


@every_kernel
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_last_layer_is_linear_in_the_features(make, layers):
    kernel = perturbed(make, layers=layers)
    z = coordinates(5, 4)
    phi = kernel.features(z)
    assert phi.shape == (5, 27 if make is Grid else 6)
    expected = torch.einsum("nh,oih->noi", phi, kernel.linear.weight.view(3, 2, -1))
    if make is not Grid:
        expected = expected + kernel.linear.bias.view(3, 2)
    torch.testing.assert_close(kernel(z), expected, rtol=0, atol=1e-12)


@every_kernel
def test_squared_norm_is_the_sum_of_squares_in_value_and_gradients(make):
    kernel = perturbed(make)
    z = coordinates(2, 3, 5, 4).requires_grad_()
    inputs = [z, *kernel.parameters()]
    fast, slow = kernel.squared_norm(z), sum(entry**2 for entry in kernel(z).flatten())
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=0)
    for g, expected in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e-10)


@every_kernel
def test_gradients_are_finite_and_reach_every_parameter_and_a_second_call_is_identical(make):
    kernel = make(4, 3, 2)
    z = coordinates(50, 4).requires_grad_()
    first, second = kernel(z), kernel(z)
    assert torch.equal(first, second)
    grads = torch.autograd.grad(first.square().sum(), [z, *kernel.parameters()])
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in grads)
    assert torch.autograd.gradcheck(perturbed(make), coordinates(2, 4).requires_grad_())


@every_kernel
def test_rescale_multiplies_and_leaves_the_features_alone(make):
    kernel = perturbed(make)
    z = coordinates(5, 4)
    before, phi, norm = kernel(z), kernel.features(z), kernel.squared_norm(z)
    kernel.rescale(-0.3)
    torch.testing.assert_close(kernel(z), -0.3 * before, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kernel.squared_norm(z), 0.09 * norm, rtol=1e-12, atol=0)
    assert torch.equal(kernel.features(z), phi)
    assert all(p.requires_grad for p in kernel.parameters())


@pytest.mark.parametrize("make", [make for name, make in KERNELS.items() if name != "Grid"])
@pytest.mark.parametrize("options", [{"hidden": 1}, {"layers": 2}, {"hidden": 5, "layers": 5}])
def test_width_and_depth_are_free(make, options):
    assert make(3, 2, 1, **options)(coordinates(4, 3)).shape == (4, 2, 1)
    assert make(3, 2, 1, **options).linear.in_features == options.get("hidden", 32)


OUT_OF_RANGE = [
    ({"dim": 0}, "dim is 0"),
    ({"out_channels": 0}, "out_channels is 0"),
    ({"in_channels": -1}, "in_channels is -1"),
    ({"hidden": 0}, "hidden is 0"),
    ({"layers": 1}, "layers is 1: must be at least 2"),
    ({"kernel_size": 0}, "kernel_size is 0: must be at least 1"),
    ({"order": -1}, "order is -1: must be at least 0"),
]


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [(make, *case) for make in KERNELS.values() for case in OUT_OF_RANGE if taken(make, **case[0])],
)
def test_arguments_out_of_range_are_quoted(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**{"dim": 4, "out_channels": 3, "in_channels": 2, **arguments})


@pytest.mark.parametrize(("make", "name"), [(SIREN, "omega0"), *((k, "scale") for k in (Fourier, Gabor, MAGNet))])
@pytest.mark.parametrize("value", [0.0, -2.5, math.nan])
def test_a_frequency_must_be_positive(make, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        make(4, 3, 2, **{name: value})


# The formulas once more, one point and one feature at a time, from the parameters as numbers.


def numbers(layer):
    weight = layer.weight.detach().numpy()
    return weight, np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()


def affine(layer, x):
    w, b = numbers(layer)
    return [sum(w[h, d] * x[d] for d in range(len(x))) + b[h] for h in range(len(b))]


def naive_network(kernel, z, activation):
    for layer in kernel.hidden:
        z = [activation(x) for x in affine(layer, z)]
    return z


def naive_gabor(filter_, z, h):
    gamma, mu = filter_.gamma.detach().numpy()[h], filter_.mu.detach().numpy()[h]
    if len(gamma) == 1:  # isotropic: one width for all coordinates
        return math.exp(-0.5 * gamma[0] ** 2 * sum((z[d] - mu[d]) ** 2 for d in range(len(z))))
    return math.exp(-0.5 * sum((gamma[d] * (z[d] - mu[d])) ** 2 for d in range(len(z))))


def naive_product(kernel, z, envelope):
    def g(filter_):
        return [math.sin(x) * envelope(filter_, z, h) for h, x in enumerate(affine(filter_.linear, z))]

    phi = g(kernel.filters[0])
    for depth, layer in enumerate(kernel.hidden, 1):
        phi = [x * y for x, y in zip(affine(layer, phi), g(kernel.filters[depth]), strict=True)]
    return phi


def naive_grid(kernel, z):
    """Every feature by splines of scipy through 1 at a tap and 0 at 40 others on either side."""
    line = np.arange(-40, 41)
    spline = CubicSpline(line, line == 0)
    x, y, *rest = z
    taps = [float(spline(1.5 * x - column) * spline(1.5 * y + row)) for row, column in product((-1, 0, 1), repeat=2)]
    return [tap * b for b in (1.0, *rest) for tap in taps]


FORMULAS = {
    "SIREN": lambda k, z: naive_network(k, z, lambda x: math.sin(10 * x)),
    "MLP": lambda k, z: naive_network(k, z, lambda x: x / (1 + math.exp(-x))),
    "Fourier": lambda k, z: naive_product(k, z, lambda *_: 1.0),
    "Gabor": lambda k, z: naive_product(k, z, naive_gabor),
    "MAGNet": lambda k, z: naive_product(k, z, naive_gabor),
    "Grid": naive_grid,
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_every_kernel_follows_its_formula(name, layers):
    kernel = perturbed(KERNELS[name], layers=layers)
    z = coordinates(4, 4)
    expected = [affine(kernel.linear, FORMULAS[name](kernel, point)) for point in z.tolist()]
    torch.testing.assert_close(kernel(z).flatten(1), torch.tensor(np.array(expected)), rtol=0, atol=1e-12)


def test_omega0_multiplies_weights_and_bias_alike():
    kernel = perturbed(partial(SIREN, omega0=3.7), layers=2)
    z = coordinates(5, 4)
    expected = (3.7 * (z @ kernel.hidden[0].weight.T + kernel.hidden[0].bias)).sin()
    torch.testing.assert_close(kernel.features(z), expected, rtol=0, atol=1e-12)


def test_the_activation_of_an_mlp_is_an_argument():
    kernel = MLP(4, 3, 2, hidden=6, layers=2, activation=F.relu)
    z = coordinates(5, 4)
    torch.testing.assert_close(kernel.features(z), kernel.hidden[0](z).clamp(min=0), rtol=0, atol=0)


@pytest.mark.parametrize(("make", "widths"), [(Gabor, 1), (MAGNet, 4)])
def test_gabor_has_one_width_a_feature_and_magnet_one_a_coordinate(make, widths):
    kernel = make(4, 3, 2, hidden=6, layers=3)
    assert [f.gamma.shape for f in kernel.filters] == [(6, widths)] * 2


def test_frequencies_of_the_filters_add_up_to_the_scale():
    """Row h of the first filter's Ω has entries ~ N(0, σ²/(layers − 1)): sample variance within 5 standard errors."""
    kernel = Fourier(50, 1, 1, hidden=400, layers=4, scale=6.0)
    total = sum(f.linear.weight.var() for f in kernel.filters)
    assert abs(total - 36) < 5 * 36 * math.sqrt(2 / 20_000 / 3)


def test_a_sirens_layers_have_the_plain_ones_derivatives_twice():
    kernel, z = perturbed(SIREN, layers=4), coordinates(2, 3, 4).requires_grad_()
    leaves = [z, *kernel.hidden.parameters()]

    def plain(z):
        for layer in kernel.hidden:
            z = (kernel.omega0 * layer(z)).sin()
        return z

    found = []
    for features in (plain, kernel.features):
        first = torch.autograd.grad(features(z).square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), leaves)
        found.append((features(z), *first, *second))
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kernel.features(z[0, 0]), found[0][0][0, 0])


def test_a_siren_by_itself_takes_autocast():
    kernel = SIREN(4, 3, 2).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = kernel(coordinates(5, 4).float())
    out.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in kernel.parameters())
