"""Equivariance in expectation: how the Monte-Carlo error of a group convolution falls with the number of elements."""

import math

import pytest
import torch
from helpers import few, group_conv

from partialsym import Density, HaarAlgebra, Signal, Uniform, group
from partialsym.densities import AllComponents
from partialsym.signal import Elements
from partialsym.testing import grid_symmetries

pytestmark = pytest.mark.usefixtures("float64")
SIZES = (4, 8, 16, 32, 64, 128, 256)
DRAWS = 200  # the RMS of one size is then known to 5 %, the slope to ±.014, and to ±.025 where there are three sizes
TURN = grid_symmetries()[1]
AXIS = torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=torch.float64)
PIXELS = torch.stack(torch.meshgrid(AXIS, -AXIS, indexing="xy"), -1)  # 4×4: what a `valid` 3×3 kernel makes 2×2 of


def function(elements, g=None):
    """L_g f on the pixels, for an analytic f(y, h) with two channels that varies with y and along H."""
    g = torch.eye(2) if g is None else g
    y, h = PIXELS @ g, g.T @ elements.matrices  # g⁻¹y, g⁻¹h: [4, 4, 2], [n, 2, 2]
    along = torch.stack([2 * h[:, 0, 0] + torch.linalg.det(h), (h[:, 1, 0] - h[:, 0, 1] * h[:, 1, 1]).exp()])
    z = torch.einsum("hwd,ndk->nhwk", y, h)  # y in the frame of h
    return Signal((along[:, :, None, None] + torch.stack([z[..., 0].sin(), z[..., 1].cos()]))[None], elements)


class Squeezed(HaarAlgebra):
    """A sampler that passes for Haar and leaves half of the circle out."""

    def theta(self):
        return 0.5 * self.one


def density(name, n, sampling="iid", algebra=None):
    components = AllComponents(len(group(name).components))
    return Density(group(name), n, algebra=algebra or HaarAlgebra(), components=components, sampling=sampling)


class Experiment:
    """A layer and two output elements, which are given and so not drawn: what is drawn are the input's."""

    def __init__(self, name, sizes):
        self.name, self.sizes, h = name, sizes, group(name)
        self.layer = group_conv(name, into=2, channels=2, padding="valid").requires_grad_(False)
        self.at = Elements(h, h.exp(torch.tensor([[0.3], [2.0]])) @ h.components[[0, -1]])

    def output(self, elements, g=None):
        """[1, 2, 2, 2, 2] of the layer on L_g f, at g·h."""
        at = self.at if g is None else self.at.transport(g)
        return self.layer(function(elements, g), elements=at).values

    @torch.no_grad()
    def draws(self, p, g=None):
        """The outputs of DRAWS draws from p, [DRAWS, 1, 2, 2, 2, 2]."""
        return torch.stack([self.output(p.draw(), g) for _ in range(DRAWS)])

    def equivariance_errors(self, **options):
        """n ↦ RMS over the draws of out(L_g f) − L_g(out), each side from elements of its own."""
        sized = {n: density(self.name, n, **options) for n in self.sizes}
        return {n: rms(self.draws(p, TURN) - torch.rot90(self.draws(p), 1, (-2, -1))) for n, p in sized.items()}

    @torch.no_grad()
    def quadrature(self, algebra=None):
        return self.output(density(self.name, 4096, algebra=algebra).deterministic())

    @torch.no_grad()
    def contributions(self, angles):
        """The output from one element alone, of every component at every angle: [components, angles, ...]."""
        h = group(self.name)
        every = h.exp(angles) @ h.components[:, None]
        return torch.stack([torch.stack([self.output(Elements(h, m[None])) for m in each]) for each in every])


def rms(errors):
    return float(errors.square().mean().sqrt())


def slope(errors):
    """Least-squares slope of log error against log n."""
    n, error = torch.tensor(list(errors.items())).T.log()
    return float(((n - n.mean()) * (error - error.mean())).sum() / (n - n.mean()).square().sum())


def assert_root_n(errors):
    assert slope(errors) == pytest.approx(-0.5, abs=0.1)


def assert_unbiased(draws, exact):
    """The mean of the draws within 5 standard errors of the quadrature, in every one of the 16 values."""
    error, spread = draws.mean(0) - exact, draws.std(0) / math.sqrt(DRAWS)
    assert float((error.abs() / spread).max()) < 5


@pytest.fixture(params=few(["SE2 at three sizes", "SE2", "E2"], "SE2 at three sizes"))
def experiment(request, float64):
    name, *fewer = request.param.split(" ", 1)
    return Experiment(name, SIZES[:5:2] if fewer else SIZES)


def test_the_error_of_independent_elements_falls_as_one_over_root_n(experiment):
    errors = experiment.equivariance_errors()
    assert_root_n(errors)
    angles = torch.arange(512.0)[:, None] * (2 * math.pi / 512)
    sigma = experiment.contributions(angles).var(1).mean().sqrt()  # of one element: both sides have √(σ²/n)
    ratio = [error / float(sigma * math.sqrt(2 / n)) for n, error in errors.items()]
    assert sum(ratio) / len(ratio) == pytest.approx(1, abs=0.08)  # 4 standard errors


def test_over_the_whole_circle_systematic_elements_converge_faster_than_any_power(experiment):
    """Their error holds the Fourier coefficients of multiples of n alone, and the function is analytic."""
    errors = experiment.equivariance_errors(sampling="systematic")
    assert slope(errors) < -0.9
    assert errors[16] < 0.05 * errors[4]
    assert errors[64] < 1e-10


def test_on_a_learned_interval_systematic_elements_converge_as_one_over_n(experiment):
    """error = J·(u − ½)/r with r rotations a component, u ~ U[0, 1) and J = mean of F(end) − F(start)."""
    algebra, errors = Uniform(0.4).requires_grad_(False), {}
    exact = experiment.quadrature(algebra)
    for n in experiment.sizes:
        p = density(experiment.name, n, "systematic", algebra)
        errors[n] = rms(experiment.draws(p) - exact)
    assert slope(errors) == pytest.approx(-1, abs=0.1)
    start, end = experiment.contributions(torch.tensor([[-0.4 * math.pi], [0.4 * math.pi]])).mean(0)
    # Over uniform u the root mean square of u − ½ is 1/√12; DRAWS draws know it to 3.2 %.
    assert errors[n] == pytest.approx(rms(end - start) / math.sqrt(12) / p.rotations, rel=0.13)


@pytest.mark.parametrize("sampling", ["iid", "systematic"])
@pytest.mark.parametrize("theta", [0.4, 1.0])
def test_the_mean_of_the_draws_is_the_integral(experiment, theta, sampling):
    algebra = Uniform(theta).requires_grad_(False)
    draws = experiment.draws(density(experiment.name, 8, sampling, algebra))
    assert_unbiased(draws, experiment.quadrature(algebra))
    with pytest.raises(AssertionError):
        assert_unbiased(draws + 0.5 * draws.std(0), experiment.quadrature(algebra))


def test_a_biased_sampler_fails(experiment):
    with pytest.raises(AssertionError):
        assert_root_n(experiment.equivariance_errors(algebra=Squeezed()))
    draws = experiment.draws(density(experiment.name, 64, algebra=Squeezed()))
    with pytest.raises(AssertionError):
        assert_unbiased(draws, experiment.quadrature())
