import math
from functools import partial

import pytest
import torch
from helpers import few, taken
from torch import nn
from torch.func import functional_call

from partialsym.densities import dirac, haar, learned
from partialsym.groups import E2, SE2, T2, Cyclic, group
from partialsym.kernels import SIREN
from partialsym.nn.conv import GroupConv, disc
from partialsym.registry import KERNELS
from partialsym.signal import Elements, Signal

pytestmark = pytest.mark.usefixtures("float64")
tiny = partial(SIREN, hidden=4)


def conv(domain, codomain, into=2, out=3, k=3, kernel=tiny, **options):
    domain = group(domain) if isinstance(domain, str) else domain
    return GroupConv(into, out, domain=domain, codomain=codomain, kernel_size=k, kernel=kernel, **options)


def kept(theta=0.5, samples=4, h=None):
    """A learned density at θ."""
    density = learned(h or SE2(), samples)
    with torch.no_grad():
        density.algebra.raw.fill_(theta)
    return density


def signal(h, n=None, *, size=(6, 5), channels=2, batch=2):
    h = group(h) if isinstance(h, str) else h
    elements = haar(h, n or len(h.components)).draw()
    return Signal(torch.randn(batch, channels, len(elements), *size), elements)


def squares(layer, out, into):
    """Mean over h in `out` and h̃ in `into` of Σ k² over channels and disc, the coordinates written out once more."""
    total, taps = 0.0, disc(layer.kernel_size)[0]
    for h in out:
        z = [taps @ h.inverse().T, *[layer.domain.embed(h.T @ into)[:, None].expand(-1, len(taps), -1)]]
        total += layer.kernel(torch.cat([z[0].expand(len(into), -1, -1), z[1]], -1)).square().sum()
    return total / len(out) / len(into)


# The scale

CASES = [
    ("T2", "T2"),
    ("T2", "SE2"),
    ("T2", "E2"),
    ("SE2", "SE2"),
    ("E2", "E2"),
    ("D4", "C4"),
    ("D6", "D6"),
    ("SE2", "T2"),
]
scales = pytest.mark.parametrize(("domain", "h"), CASES)
every_kernel = pytest.mark.parametrize("name", KERNELS)


@every_kernel
@scales
@pytest.mark.parametrize("k", few([1, 3, 7], 3))
def test_at_construction_the_squares_sum_to_one_a_channel(domain, h, k, name):
    """On the 16-point Haar grid; for finite groups that is all of the group."""
    layer = conv(
        domain, dirac(group(h)), k=k, kernel=partial(KERNELS[name], **taken(KERNELS[name], hidden=8, kernel_size=k))
    )
    assert abs(squares(layer, group(h).grid(16), group(domain).grid(16)).item() / 3 - 1) < 1e-12


QUADRATURE = {"SIREN": 0.02, "MLP": 1e-9, "Fourier": 0.05}


@every_kernel
@pytest.mark.parametrize(("domain", "h"), [("T2", "SE2"), ("SE2", "SE2"), ("T2", "E2")])
@pytest.mark.parametrize("k", few([1, 3], 3))
def test_the_scale_holds_on_a_finer_grid_too(domain, h, k, name):
    """40 points, turned by 0.1, against the layer's own 16: a trapezoid rule, exact up to the 15th harmonic of k².

    SIREN and Fourier have little beyond it, an MLP nothing; a Gabor filter may be narrower than the spacing. The
    margins are at least twice the largest error found over 32 draws: 0.5 %, 0, 2.2 %, and 10 % for Gabor filters.
    """
    layer = conv(
        domain,
        dirac(group(h)),
        k=k,
        into=8,
        out=8,
        kernel=partial(KERNELS[name], **taken(KERNELS[name], kernel_size=k)),
    )
    fine = SE2().exp(torch.tensor([0.1])) @ group(h).grid(40)
    square = squares(layer, fine, group(domain).grid(40)).item() / 8
    assert abs(square - 1) < QUADRATURE.get(name, 0.2)


def test_the_scale_depends_neither_on_samples_nor_on_theta_nor_on_the_draw():
    def kernel_of(codomain):
        torch.manual_seed(1)
        return conv("SE2", codomain).kernel.state_dict()

    first = kernel_of(haar(SE2(), 4))
    for other in (haar(SE2(), 9), kept(0.1), dirac(SE2()), SE2(), haar(SE2(), 4, sampling="iid")):
        torch.testing.assert_close(kernel_of(other), first, rtol=0, atol=0)


@pytest.mark.parametrize(("domain", "h"), [("T2", "C4"), ("C4", "C4"), ("D4", "D4"), ("T2", "D6")])
def test_white_noise_keeps_its_variance_with_one_element_in_and_one_out(domain, h):
    """Mean over all pairs of elements, on 16 images of 62² pixels: within 5 standard errors.

    A kernel of 9 taps amplifies no frequency's power by more than 9: the estimates' relative variance is ≤ 2·9/pixels.
    """
    layer, variances = conv(domain, dirac(group(h)), out=8, padding="valid"), []
    for h_out in group(h).components:
        for h_in in group(domain).components:
            f = Signal(torch.randn(16, 2, 1, 64, 64), Elements(layer.domain, h_in[None]))
            variances.append(layer(f, Elements(layer.group, h_out[None])).values.square().mean())
    v = torch.stack(variances).detach()
    assert (v.mean() - 1).abs() < 5 * (18 / (16 * 62**2) * v.square().mean() / len(v)).sqrt()


# Elements


def test_output_elements_may_be_given():
    layer, f = conv("E2", kept(0.3, 4, E2())), signal("E2")
    at = Elements(E2(), E2().grid(3), torch.tensor([1.0, 1, 1, 0, 0, 0]))
    state, out = torch.get_rng_state(), layer(f, elements=at)
    assert out.elements is at
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(layer(f, Elements(E2(), at.matrices[2:3])).values, out.values[:, :, 2:3])
    without = conv("E2", E2())
    assert without(f, elements=at).values.shape == (2, 3, 6, 6, 5)
    assert without.codomain is None


def snapshot(layer):
    attributes = [(name, sorted(vars(m)), sorted(m._buffers)) for name, m in layer.named_modules()]
    return attributes, {k: v.clone() for k, v in [*layer.named_buffers(), *layer.named_parameters()]}


def test_forward_leaves_nothing_behind_and_is_repeatable_in_eval():
    layer, f = conv("E2", kept(0.3, 4, E2())), signal("E2")
    attributes, tensors = snapshot(layer)
    layer(f), layer.kernel_norm()
    assert not torch.equal(layer(f).values, layer(f).values)
    layer.eval()
    assert torch.equal(layer(f).values, layer(f).values)
    assert snapshot(layer.train())[0] == attributes
    torch.testing.assert_close(snapshot(layer)[1], tensors, rtol=0, atol=0)


# The norm


@pytest.mark.parametrize(
    "codomain", [kept, lambda: haar(SE2(), 5), lambda: dirac(SE2()), SE2], ids=["learned", "haar", "dirac", "group"]
)
@pytest.mark.parametrize("domain", ["T2", "E2"])
def test_kernel_norm_is_the_root_of_the_mean_square_and_the_norm_of_the_bias(domain, codomain):
    layer = conv(domain, codomain())
    nn.init.normal_(layer.bias)
    h = layer.codomain.deterministic().matrices.detach() if layer.codomain else SE2().grid(16)
    expected = squares(layer, h, layer.domain.grid(16)).sqrt() + layer.bias.square().sum().sqrt()
    torch.testing.assert_close(layer.kernel_norm(), expected, rtol=1e-10, atol=0)


def test_no_gradient_of_the_norm_reaches_theta():
    layer = conv("SE2", kept())
    assert torch.autograd.grad(layer.kernel_norm(), layer.codomain.algebra.raw, allow_unused=True) == (None,)
    grads = torch.autograd.grad(layer.kernel_norm(), list(layer.kernel.parameters()))
    assert all(g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize(("h", "n"), [("T2", 1), ("C4", 4), ("D6", 12), ("SE2", 16), ("E2", 32)])
@pytest.mark.parametrize("domain", ["T2", "same"])
def test_without_a_bias_the_norm_starts_at_the_root_of_the_channels_where_the_whole_group_is_kept(h, n, domain):
    """Exactly so for a finite group, and on the 16 rotations that the scale was measured on; else to quadrature."""
    layer = conv(h if domain == "same" else "T2", haar(group(h), n), bias=False)
    assert abs(layer.kernel_norm().item() - math.sqrt(3)) < 1e-12


def test_a_part_of_the_group_has_another_norm():
    assert abs(conv("T2", kept(0.05), k=7, bias=False).kernel_norm().item() - math.sqrt(3)) > 1e-3


# Gradients, precision, errors


def test_gradients_reach_kernel_bias_and_the_thetas_of_this_layer_and_the_one_before():
    """gradcheck, the draws seeded alike, over every parameter of two layers and over the image."""
    net = nn.Sequential(conv("T2", kept(0.6, 2), out=2), conv("SE2", kept(0.4, 2), out=1))
    names, parameters = zip(*net.named_parameters(), strict=True)
    e = Elements(T2(), torch.eye(2)[None])

    def run(image, *values):
        torch.manual_seed(5)
        return functional_call(net, dict(zip(names, values, strict=True)), (Signal(image, e),)).values

    image = torch.randn(1, 2, 1, 3, 3, requires_grad=True)
    assert torch.autograd.gradcheck(run, (image, *parameters))
    grads = torch.autograd.grad(run(image, *parameters).square().sum(), parameters)
    assert {n for n, g in zip(names, grads, strict=True) if g.abs().sum() == 0} == set()
    assert {"0.codomain.algebra.raw", "1.codomain.algebra.raw", "0.bias", "1.bias"} <= set(names)


def test_a_dropped_element_of_the_layer_before_feels_a_gradient_and_does_not_matter():
    layer, f = conv("Mirror", dirac(group("Mirror"))), signal("Mirror")
    w = torch.tensor([1.0, 0.0], requires_grad=True)
    out = layer(Signal(f.values, Elements(f.group, f.elements.matrices, w))).values
    alone = layer(Signal(f.values[:, :, :1], Elements(f.group, f.elements.matrices[:1]))).values
    torch.testing.assert_close(out, alone, rtol=0, atol=1e-12)
    assert torch.autograd.grad(out.square().sum(), w)[0][1].abs() > 1e-3


def test_bfloat16_autocast_stays_within_two_percent():
    torch.set_default_dtype(torch.float32)
    layer, f = conv("SE2", haar(SE2(), 4), into=8, out=8).eval(), signal("SE2", 4, channels=8, size=(16, 16))
    exact = layer(f).values
    with torch.autocast("cpu", torch.bfloat16):
        half, filters = layer(f), layer.filters(f.elements, f.elements)
    assert torch.equal(filters, layer.filters(f.elements, f.elements))  # positions are never rounded
    assert half.values.dtype == torch.bfloat16
    assert half.elements.matrices.dtype == torch.float32
    assert 0 < (half.values.float() - exact).norm() / exact.norm() <= 2e-2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conv("T2", dirac(SE2()), k=4), "kernel_size is 4: must be odd"),
        (lambda: conv("T2", dirac(SE2()), k=-1), "kernel_size is -1"),
        (lambda: conv("T2", dirac(SE2()), padding="full"), "padding is 'full'"),
        (lambda: conv("T2", dirac(SE2()), into=0), "in_channels is 0"),
        (lambda: conv("T2", dirac(SE2()), out=0), "out_channels is 0"),
        (lambda: conv("SE2", dirac(E2())), "domain SE2 does not include the codomain's group E2"),
        (lambda: conv("C6", dirac(Cyclic(4))), "domain C6 does not include the codomain's group C4"),
        (lambda: conv("C1", haar(SE2(), 2)), "domain C1 does not include the codomain's group SE2"),
        (lambda: conv("SE2", dirac(SE2()))(signal("T2")), "signal on T2, but this layer's domain is SE2"),
        (lambda: conv("T2", dirac(SE2()))(signal("T2", channels=5)), "5 channels, but this layer expects 2"),
        (lambda: conv("T2", SE2())(signal("T2")), "no density on SE2.*elements="),
        (
            lambda: conv("T2", dirac(SE2()))(signal("T2"), dirac(E2()).sample()),
            "elements are of E2, .* codomain is SE2",
        ),
        (lambda: conv("T2", dirac(T2()), k=7, padding="valid")(signal("T2")), "6×5 pixels is smaller than the 7×7"),
    ],
)
def test_what_does_not_fit_is_quoted(make, message):
    with pytest.raises(ValueError, match=message):
        make()
