"""A checker for densities. It raises an AssertionError that names the law that does not hold."""

import math

import torch
from torch import Tensor

from partialsym._utils.precision import double
from partialsym._utils.seeding import devices_of, seeded
from partialsym.densities import Density
from partialsym.signal import Elements
from partialsym.testing.laws import generator_of, member_coordinates, require, same


def assert_density(density: Density, *, draws: int = 2000, seed: int = 0) -> None:
    """Check that a `Density` draws from its stated distribution, and that it is deterministic in eval mode.

    It checks: the distribution of one element per component and draw (Kolmogorov–Smirnov test, level 1e-6); the spacing
    or independence within a draw; the gradients of every element with respect to θ and the centre; the frequencies of
    the components (within 5 standard errors of their probabilities); the gradients of the weights; the deterministic
    elements; and the numbers that `support` returns.

    Args:
        density: the density. Its mode and torch's global generator are restored.
        draws: number of independent draws.
        seed: seed of the draws.
    Raises:
        AssertionError: a law does not hold.
    """
    with seeded(seed, devices_of(density)):
        with torch.no_grad():
            drawn = [density.draw() for _ in range(draws)]
        for elements in (*drawn[:8], density.deterministic()):
            _check_elements(density, elements)
        _check_deterministic(density)
        _check_support(density)
        _check_frequencies(density, drawn)
        _check_weight_gradient(density)
        if density.group.dim:
            _check_angles(density, torch.stack([_angles(density, elements) for elements in drawn]))
            _check_interval_gradient(density)


def _tolerance(density: Density) -> float:
    return 1e-10 if density.components.dtype == torch.float64 else 1e-4


def _angles(density: Density, elements: Elements) -> Tensor:
    """Angles relative to the centre, [components, elements per component] float64, for a group with an algebra."""
    a = density.group.coordinates(double(elements.matrices.detach()))[0].reshape(len(density.components), -1)
    centre = density.algebra.centre()
    return a if centre is None else (a - centre.detach() * math.pi + math.pi).remainder(2 * math.pi) - math.pi


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


def _check_support(density: Density) -> None:
    """`support` returns the numbers of the algebra and the components, and the centre if there is one."""
    algebra, names = density.algebra, density.group.component_names
    expected = {f"P({name})": 0.0 for name in names[1:]}
    expected |= {f"P({c})": float(p) for c, p in list(zip(names, density.component.probabilities(), strict=False))[1:]}
    if density.group.dim:
        interval = {"theta_deg": algebra.theta(), "centre_deg": algebra.centre()}
        expected |= {name: 180 * float(share.detach()) for name, share in interval.items() if share is not None}
    read = density.support()
    good = read.keys() == expected.keys() and all(abs(read[name] - x) <= 1e-3 for name, x in expected.items())
    require(good, f"support() is {read}: must be {expected}.")


def _check_interval_gradient(density: Density) -> None:
    """Element i moves along the group with derivative a_i/θ with respect to θ, and π with respect to the centre."""
    theta, centre = density.algebra.theta(), density.algebra.centre()
    elements = density.draw()
    matrices, a = elements.matrices, _angles(density, elements).flatten()
    side = torch.where(a < 0, -1.0, 1.0)  # outwards: at its bounds θ receives no other gradient
    tangent = generator_of(density.group).to(matrices) @ matrices.detach()
    along = side * (tangent * matrices).sum((-2, -1)) / tangent.square().sum((-2, -1))
    for parameter in (p for p in density.algebra.parameters() if p.requires_grad):
        by_theta, by_centre = _slope(theta, parameter), _slope(centre, parameter)
        felt = by_theta is not None or by_centre is not None
        require(felt, "The algebra has a parameter, but no gradient reaches it from θ or the centre.")
        moves = (a.abs() / theta.detach()).nan_to_num() * (by_theta or 0.0) + side * math.pi * (by_centre or 0.0)
        for i, expected in enumerate(moves.tolist()):
            got = _slope(along[i], parameter)
            error = math.inf if got is None else abs(got - expected)
            what = f"Gradient of {'θ' if by_centre is None else 'the centre'} on the element at {a[i]:.4f}"
            require(error <= 10 * _tolerance(density), f"{what} is {got}: not {expected}.")


def _slope(value: Tensor | None, parameter: Tensor) -> float | None:
    """The derivative of a scalar, or None if no gradient passes."""
    if value is None or not value.requires_grad:
        return None
    (slope,) = torch.autograd.grad(value, parameter, retain_graph=True, allow_unused=True)
    return None if slope is None else float(slope.sum())


def _check_weight_gradient(density: Density) -> None:
    """Every component other than e receives a gradient, drawn or not, in at least one of 100 draws."""
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
    """Test angles [draws, components, r] against U[−θπ, θπ], with one per draw, and their joint distribution."""
    draws, _, r = angles.shape
    width = float(density.algebra.theta().detach()) * math.pi
    one = angles.gather(2, torch.randint(r, (draws, 1, 1)).expand(-1, angles.shape[1], 1)).squeeze(2)
    require(one.abs() <= width + 1e-6, f"An angle lies outside ±{width} about the centre.")
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
