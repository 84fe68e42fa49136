"""Checker of densities: raises an AssertionError that says which law does not hold, and where."""

import math

import torch
from torch import Tensor

from partialsym.densities import Density
from partialsym.precision import double
from partialsym.seeding import devices_of, seeded
from partialsym.signal import Elements
from partialsym.testing.laws import generator_of, member_coordinates, require, same


def assert_density(density: Density, *, draws: int = 2000, seed: int = 0) -> None:
    """Check that a `Density` draws what it says it does, and is deterministic where it should be.

    Of every component, one element of each independent draw against its law (Kolmogorov–Smirnov, level 1e-6);
    spacing or independence within a draw; θ's gradient on every element; frequencies of the components against their
    probabilities (5 standard errors); gradients of the weights; the deterministic elements.

    Args:
        density: the density; its mode and torch's global generator are left as they were.
        draws: number of independent draws.
        seed: of the draws.
    Raises:
        AssertionError: a law does not hold.
    """
    with seeded(seed, devices_of(density)):
        with torch.no_grad():
            drawn = [density.draw() for _ in range(draws)]
        for elements in (*drawn[:8], density.deterministic()):
            _check_elements(density, elements)
        _check_deterministic(density)
        _check_frequencies(density, drawn)
        _check_weight_gradient(density)
        if density.group.dim:
            _check_angles(density, torch.stack([_angles(density, elements) for elements in drawn]))
            _check_theta_gradient(density)


def _tolerance(density: Density) -> float:
    return 1e-10 if density.components.dtype == torch.float64 else 1e-4


def _angles(density: Density, elements: Elements) -> Tensor:
    """[components, elements a component] in float64, for a group with an algebra."""
    return density.group.coordinates(double(elements.matrices.detach()))[0].reshape(len(density.components), -1)


def _check_elements(density: Density, elements: Elements) -> None:
    group, kept = density.group, len(density.components)
    require(elements.group == group, f"The elements are on {elements.group}, the density is on {group}.")
    _, i = member_coordinates(group, elements.matrices.detach(), "an element drawn", _tolerance(density))
    expected = torch.arange(kept, device=i.device).repeat_interleave(len(i) // kept)
    require(i.shape == expected.shape and i.equal(expected), f"Elements are not component after component: {i}.")
    if elements.weights is not None:
        w = elements.weights.detach().reshape(kept, -1)
        require((w == 0) | (w == 1), f"Weights are not all 0 or 1: {w.tolist()}.")
        require((w == w[:, :1]).all() & (w[0] == 1), f"Weights differ in a component, or e is dropped: {w.tolist()}.")


def _check_deterministic(density: Density) -> None:
    mode, state = density.training, torch.get_rng_state()
    elements, again = density.eval().sample(), density.sample()
    require(torch.equal(state, torch.get_rng_state()), "Eval mode draws from the generator.")
    density.train(mode)
    require(torch.equal(elements.matrices, again.matrices), "Two samples in eval mode differ.")
    if density.group.dim:
        theta, r = float(density.algebra.theta().detach()), density.rotations
        r = max(1, math.ceil(r * theta - 1e-6)) if density.proportional else r
        middle = theta * math.pi * (torch.arange(r, dtype=torch.float64) * 2 + 1 - r) / r
        angles = _angles(density, elements).cpu()
        require(angles.shape[1] == r, f"{angles.shape[1]} deterministic elements a component: must be {r}.")
        require(same(angles, middle, _tolerance(density)), f"Eval angles are {angles.tolist()}: not {middle.tolist()}.")
    if elements.weights is not None and again.weights is not None:
        weights = elements.weights.detach().reshape(len(density.components), -1)[:, 0]
        p = density.component.probabilities()
        require(weights == (p > 0.5).to(weights), f"Eval weights are {weights.tolist()} for P = {p.tolist()}.")
        require(torch.equal(elements.weights, again.weights), "The weights of two samples in eval mode differ.")


def _check_theta_gradient(density: Density) -> None:
    """Along the group, element i moves at a_i/θ when θ does: each with its own sign."""
    parameters = [p for p in density.algebra.parameters() if p.requires_grad]
    theta = density.algebra.theta()
    if not parameters:
        return
    require(theta.requires_grad, "θ has a parameter, but no gradient reaches it.")
    (unit,) = torch.autograd.grad(theta, parameters[:1])
    matrices = density.draw().matrices
    a = density.group.coordinates(matrices.detach())[0][:, 0]
    tangent = generator_of(density.group).to(matrices) @ matrices.detach()
    along = a.sign() * (tangent * matrices).sum((-2, -1)) / tangent.square().sum((-2, -1))
    for i, expected in enumerate((a.abs() / theta.detach() * unit).tolist()):
        (got,) = torch.autograd.grad(along[i], parameters[:1], retain_graph=True, allow_unused=True)
        error = math.inf if got is None else abs(float(got) - expected)
        require(
            error <= 10 * _tolerance(density), f"Gradient of θ on the element at {a[i]:.4f} is {got}: not {expected}."
        )


def _check_weight_gradient(density: Density) -> None:
    """Drawn or not, a component other than e feels a gradient (in one of 100 draws at least)."""
    felt: dict[tuple[int, float], float] = {}
    parameters = [p for p in density.component.parameters() if p.requires_grad]
    for weights in (density.draw().weights for _ in range(100 if parameters else 0)):
        require(weights is not None and weights.requires_grad, "Components have parameters that no weight feels.")
        for k, w in enumerate(weights.reshape(len(density.components), -1)[1:, 0], 1):  # type: ignore[union-attr]
            grads = torch.autograd.grad(w, parameters, retain_graph=True)
            felt[k, w.item()] = max(felt.get((k, w.item()), 0.0), *(g.abs().max().item() for g in grads))
    dead = [key for key, size in felt.items() if not size > 0]
    require(not dead, f"No gradient reaches the (component, weight) {dead}.")


def _check_angles(density: Density, angles: Tensor) -> None:
    """angles [draws, components, r] against U[−θπ, θπ], one of each draw, and against each other."""
    draws, _, r = angles.shape
    width = float(density.algebra.theta().detach()) * math.pi
    one = angles.gather(2, torch.randint(r, (draws, 1, 1)).expand(-1, angles.shape[1], 1)).squeeze(2)
    require(one.abs() <= width + 1e-6, f"An angle lies outside ±{width}.")
    if not width:
        return
    law = (one.sort(0).values + width) / (2 * width)
    ranks = torch.arange(draws + 1, dtype=torch.float64)[:, None] / draws
    distance = torch.maximum(law - ranks[:-1], ranks[1:] - law).amax(0)
    critical = math.sqrt(math.log(2e6) / 2 / draws)
    require(distance <= critical, f"Angles are not uniform: KS distance {distance.tolist()}, critical {critical:.4f}.")
    if density.sampling == "systematic":
        require(same(angles.diff(dim=2), 2 * width / r, _tolerance(density)), "Angles are not equally spaced.")
    elif angles[0].numel() > 1:
        rho = torch.corrcoef(angles.flatten(1).T).fill_diagonal_(0).abs().max()
        require(rho <= 6 / math.sqrt(draws), f"Angles of one draw are correlated: {rho:.3f}.")


def _check_frequencies(density: Density, drawn: list[Elements]) -> None:
    require(all(len(e) == density.samples for e in drawn), f"A draw has other than {density.samples} elements.")
    if all(e.weights is None for e in drawn):
        return
    weights = torch.stack(
        [e.weights.reshape(len(density.components), -1)[:, 0] for e in drawn if e.weights is not None]
    )
    p = density.component.probabilities().to(weights)
    error = 5 * (p * (1 - p) / len(drawn)).sqrt() + 1e-12
    require((weights.mean(0) - p).abs() <= error, f"Frequencies are {weights.mean(0).tolist()}: P is {p.tolist()}.")
