"""The relaxed Bernoulli on the components of a group."""

import math

import pytest
import torch
from scipy import integrate, stats

from partialsym.densities import Bernoulli, Density, HaarAlgebra
from partialsym.groups import Dihedral

pytestmark = pytest.mark.usefixtures("float64")
SIGMAS = 5  # every statistical margin: two-sided level 6e-7, and the seed is fixed


def d4(probability):
    return Density(Dihedral(4), 8, algebra=HaarAlgebra(), components=Bernoulli(8, probability))


def test_every_component_but_e_can_be_drawn_and_dropped():
    density = d4(0.5)
    drawn = torch.stack([density.draw().weights.detach() for _ in range(100)])
    assert drawn[:, 0].unique().tolist() == [1.0]
    assert all(drawn[:, k].unique().tolist() == [0.0, 1.0] for k in range(1, 8))


@pytest.mark.parametrize("probability", [0.02, 0.5, 0.88])
def test_draws_are_as_frequent_as_p_says(probability):
    """10⁶ independent components in one draw: within 5 standard errors."""
    bernoulli = Bernoulli(1_000_001, probability)
    share = bernoulli.draw().detach()[1:].mean()
    assert abs(share - probability) < SIGMAS * math.sqrt(probability * (1 - probability) / 1e6)
    torch.testing.assert_close(bernoulli.probabilities()[1:3], torch.full((2,), probability), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_at_fixed_noise_the_derivative_is_that_of_the_relaxation_drawn_or_not(temperature):
    bernoulli = Bernoulli(1001, 0.6, temperature)
    torch.manual_seed(3)
    u = torch.rand(1000)
    torch.manual_seed(3)
    w = bernoulli.draw()[1:]
    y = torch.sigmoid((bernoulli.logits.detach() + u.log() - (1 - u).log()) / temperature)
    assert torch.equal(w.detach(), (y > 0.5).double())
    assert 0 < w.mean() < 1
    (slope,) = torch.autograd.grad(w.sum(), bernoulli.logits)
    torch.testing.assert_close(slope, y * (1 - y) / temperature, rtol=1e-9, atol=1e-14)
    assert slope[w == 0].max() > 0.1


def relaxed_mean(logit, temperature):
    """E σ((l + ε)/τ), ε ~ Logistic, by quadrature."""
    y = lambda e: stats.logistic.pdf(e) / (1 + math.exp(-(logit + e) / temperature))  # noqa: E731
    return sum(integrate.quad(y, *ends, epsabs=1e-13)[0] for ends in ((-40, -logit), (-logit, 40)))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("probability", [0.3, 0.88])
def test_the_mean_gradient_of_a_linear_function_is_that_of_the_relaxed_mean(temperature, probability):
    """10⁶ draws against (E[y](l + 1e-4) − E[y](l − 1e-4))/2e-4: within 5 standard errors."""
    bernoulli = Bernoulli(1_000_001, probability, temperature)
    (slopes,) = torch.autograd.grad(3.0 * bernoulli.draw().sum(), bernoulli.logits)
    logit = float(bernoulli.logits[0].detach())
    expected = 3 * (relaxed_mean(logit + 1e-4, temperature) - relaxed_mean(logit - 1e-4, temperature)) / 2e-4
    assert abs(slopes.mean() - expected) < SIGMAS * slopes.std() / 1e3


def test_in_eval_a_component_is_in_where_p_is_above_one_half():
    density = d4(0.5).eval()
    with torch.no_grad():
        density.component.logits.copy_(torch.tensor([1e-6, 0.0, -1e-6, 3.0, -3.0, 0.1, -0.1]))
    state = torch.get_rng_state()
    assert density.sample().weights.tolist() == [1, 1, 0, 0, 1, 0, 1, 0]
    assert torch.equal(state, torch.get_rng_state())
