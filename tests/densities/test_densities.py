import math

import pytest
import torch
from helpers import few
from scipy import stats
from torch import nn

import partialsym as ps
from partialsym.densities import (
    ALGEBRAS,
    COMPONENTS,
    AllComponents,
    Bernoulli,
    Density,
    DiracAlgebra,
    Uniform,
    dirac,
    haar,
    learned,
    set_temperature,
)
from partialsym.errors import InputError
from partialsym.groups import E2, SE2, T2, Mirror, group
from partialsym.testing import assert_density
from partialsym.testing.laws import every_group

pytestmark = pytest.mark.usefixtures("float64")
SIGMAS = 5  # every statistical margin: two-sided level 6e-7, and the seed is fixed
every_group_ = pytest.mark.parametrize("h", every_group(), ids=repr)
both_samplings = pytest.mark.parametrize("sampling", ["systematic", "iid"])


def build(h, rotations=4, *, algebra, component, **options):
    """The density of two dict entries on any group."""
    count = len(h.components)
    kept = COMPONENTS[component]() if component == "dirac" else COMPONENTS[component](count)
    with_angles = h.dim and algebra != "dirac"
    return Density(
        h, kept.kept * (rotations if with_angles else 1), algebra=ALGEBRAS[algebra](), components=kept, **options
    )


def rotations(theta, samples, sampling="systematic", h=None, **options):
    """A density with Uniform(θ) on SE(2), or on `h` with all its components."""
    h = h or SE2()
    parts = {"algebra": Uniform(theta), "components": AllComponents(len(h.components))}
    return Density(h, samples, **parts, sampling=sampling, **options)


def angles(density, elements):
    return density.group.coordinates(elements.matrices)[0].reshape(len(density.components), -1)


@pytest.mark.parametrize("h", few(every_group(), *map(group, ("T2", "E2"))), ids=repr)
@pytest.mark.parametrize("algebra", few(ALGEBRAS, "uniform", "dirac"))
def test_every_density_keeps_its_laws(h, algebra):
    for component in COMPONENTS if len(h.components) > 1 else set(COMPONENTS) - {"bernoulli"}:
        for sampling in ("systematic", "iid") if h.dim and algebra != "dirac" else ("systematic",):
            assert_density(build(h, algebra=algebra, component=component, sampling=sampling), draws=500)


@pytest.mark.parametrize("theta", few([1e-3, 0.3, 0.8, 1.0], 0.8))
@both_samplings
def test_learned_angles_keep_their_laws(theta, sampling):
    assert_density(rotations(theta, 6, sampling, E2()), draws=500)
    assert_density(rotations(theta, 5, sampling, proportional=True), draws=500)


# Angles


@pytest.mark.parametrize("theta", few(["haar", 1e-3, 0.25, 0.9, 1.0], "haar", 0.25))
@both_samplings
def test_one_angle_of_each_draw_follows_the_uniform_law(theta, sampling):
    """Kolmogorov–Smirnov on 1000 independent draws, p > 1e-5."""
    density = haar(SE2(), 5, sampling=sampling) if theta == "haar" else rotations(theta, 5, sampling)
    width = float(density.algebra.theta().detach()) * math.pi
    one = [angles(density, density.draw()).detach()[0, torch.randint(5, ())].item() for _ in range(1000)]
    assert stats.kstest(one, stats.uniform(-width, 2 * width).cdf).pvalue > 1e-5
    assert stats.kstest(one, stats.uniform(-width, 1.7 * width).cdf).pvalue < 1e-5  # the test can fail


@pytest.mark.parametrize("theta", [0.2, 1.0])
def test_systematic_angles_are_equally_spaced_and_shared_by_the_components(theta):
    density = rotations(theta, 10, h=E2())
    a = angles(density, density.draw())
    torch.testing.assert_close(a.diff(dim=1), torch.full((2, 4), 2 * theta * math.pi / 5), rtol=0, atol=1e-12)
    torch.testing.assert_close(a[0], a[1], rtol=0, atol=1e-12)
    assert not torch.equal(a, angles(density, density.draw()))


EXPECTATIONS = {  # f, and d/dθ of E f(θπu) for u ~ U[−1, 1]
    "cos": (torch.cos, lambda w: (math.cos(w) * w - math.sin(w)) / w**2 * math.pi),
    "sin + square": (lambda a: a.sin() + a**2, lambda w: 2 * w / 3 * math.pi),
    "exp": (torch.exp, lambda w: (math.cosh(w) * w - math.sinh(w)) / w**2 * math.pi),
}


@pytest.mark.parametrize("f", EXPECTATIONS)
@pytest.mark.parametrize("theta", [0.15, 0.6, 0.95])
@both_samplings
def test_the_gradient_of_an_expectation_matches_its_closed_form(f, theta, sampling):
    """i.i.d.: 5 standard errors of 10⁵ elements, each giving a/θ·f′(a); systematic: 1e-4, the order of the spacing."""
    function, closed = EXPECTATIONS[f]
    n = 100_000
    density = rotations(theta, n, sampling)
    a = torch.atan2(*density.draw().matrices[:, :, 0].flip(1).unbind(1))
    (slope,) = torch.autograd.grad(function(a).mean(), density.algebra.raw)
    at = a.detach().requires_grad_()
    (each,) = torch.autograd.grad(function(at).sum(), at)
    margin = (
        SIGMAS * (each * at.detach() / theta).std() / math.sqrt(n) if sampling == "iid" else 1e-4 * each.abs().max()
    )
    assert abs(slope - closed(theta * math.pi)) < margin


# θ


def steps(density, optimizer, count, sign):
    for _ in range(count):
        optimizer.zero_grad()
        (sign * density.algebra.theta()).backward()
        optimizer.step()
    return float(density.algebra.theta().detach())


@pytest.mark.parametrize(("start", "bound", "inward"), [(0.95, 1, -1), (1.0, 1, -1), (0.05, 1e-3, 1), (1e-3, 1e-3, 1)])
def test_theta_leaves_a_bound_after_100_steps_out(start, bound, inward):
    """Steps of 0.01: 100 out, then 50 in. Descent oversteps by one step at most, Adam's momentum by ten."""
    for make, overstepped in ((torch.optim.SGD, 1), (torch.optim.Adam, 10)):
        density = rotations(start, 4)
        optimizer = make(density.parameters(), lr=0.01)
        assert steps(density, optimizer, 100, inward) == bound
        moved = inward * (steps(density, optimizer, 50, -inward) - bound)
        assert 0.01 * (50 - overstepped) - 1e-9 <= moved
        assert make is not torch.optim.SGD or moved <= 0.5 + 1e-9


@pytest.mark.parametrize(("raw", "theta", "down", "up"), [(1.0, 1.0, 1, 0), (1.3, 1.0, 1, 0), (-2.0, 1e-3, 0, -1)])
def test_at_a_bound_the_gradient_passes_only_where_a_step_leads_inside(raw, theta, down, up):
    algebra = Uniform()
    with torch.no_grad():
        algebra.raw.fill_(raw)
    assert float(algebra.theta().detach()) == theta
    assert [float(torch.autograd.grad(s * algebra.theta(), algebra.raw)[0]) for s in (1, -1)] == [down, up]


@pytest.mark.parametrize(("theta", "count"), [(1.0, 6), (0.84, 6), (0.5, 3), (0.51, 4), (1 / 3, 2), (1e-3, 1)])
def test_proportional_takes_a_share_of_the_rotations_in_eval_and_all_in_training(theta, count):
    density = rotations(theta, 12, h=E2(), proportional=True)
    assert len(density.sample()) == 12
    assert len(density.eval().sample()) == 2 * count


@pytest.mark.parametrize(("theta", "n"), [(1.0, 4), (0.3, 5), (0.7, 1)])
def test_eval_takes_the_midpoints_of_equal_parts(theta, n):
    density = rotations(theta, 2 * n, h=E2()).eval()
    edges = torch.linspace(-theta * math.pi, theta * math.pi, n + 1)
    expected = ((edges[1:] + edges[:-1]) / 2).expand(2, n)
    torch.testing.assert_close(angles(density, density.sample()), expected, rtol=0, atol=1e-12)


def about(centre, theta, n=4):
    class About(Uniform):
        def centre(self):
            return torch.tensor(centre)

    return Density(E2(), 2 * n, algebra=About(theta), components=AllComponents(2))


@pytest.mark.parametrize(("centre", "theta"), [(0.5, 0.25), (-0.75, 0.25), (0.5, 1e-3)])
def test_an_interval_about_another_centre_is_turned_by_it(centre, theta):
    off, centred = about(centre, theta), about(0.0, theta)
    for draw in (Density.draw, Density.deterministic):
        torch.manual_seed(1)
        turned = angles(off, draw(off))
        torch.manual_seed(1)
        torch.testing.assert_close(turned, angles(centred, draw(centred)) + centre * math.pi, rtol=0, atol=1e-12)


# What is read, kept and refused


@every_group_
def test_nothing_is_drawn_where_nothing_is_random(h):
    state = torch.get_rng_state()
    for make in (dirac, lambda h: haar(h, len(h.components))):
        if h.dim == 0:
            assert torch.equal(make(h).draw().matrices, make(h).deterministic().matrices)
    assert torch.equal(state, torch.get_rng_state())


def test_support_is_readable():
    assert haar(T2(), 1).support() == {}
    assert haar(E2(), 4).support() == {"theta_deg": 180.0, "P(m)": 1.0}
    assert dirac(E2()).support() == {"theta_deg": 0.0, "P(m)": 0.0}
    assert dirac(group("C3")).support() == {"P(120°)": 0.0, "P(240°)": 0.0}
    assert rotations(0.25, 4).support() == {"theta_deg": 45.0}
    assert about(0.5, 0.25).support() == {"theta_deg": 45.0, "centre_deg": 90.0, "P(m)": 1.0}
    assert list(about(0.5, 0.25).support()) == ["theta_deg", "centre_deg", "P(m)"]
    assert learned(Mirror(), 2).support() == pytest.approx({"P(m)": 0.88})
    assert learned(E2(), 4).support() == pytest.approx({"theta_deg": 180.0, "P(m)": 0.88})


def test_the_state_dict_keeps_what_was_learned_and_the_temperature():
    density, other = learned(E2(), 4, temperature=0.3), learned(E2(), 4)
    set_temperature(density, 0.125)
    with torch.no_grad():
        density.algebra.raw.fill_(0.4)
        density.component.logits.fill_(-1.5)
    other.load_state_dict(density.state_dict())
    assert float(other.component.temperature) == 0.125
    assert other.support() == density.support()
    own = {"algebra.raw", "component.logits", "component.temperature", "component.chosen"}
    assert set(density.state_dict()) == own


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: haar(E2(), 5), "E2 has 2 components.* multiple of 2, got 5"),
        (lambda: haar(E2(), 0), "multiple of 2, got 0"),
        (lambda: haar(SE2(), -1), "multiple of 1, got -1"),
        (lambda: haar(group("C4"), 8), "C4: samples must be 4, got 8"),
        (lambda: learned(group("D4"), 4), "D4: samples must be 8, got 4"),
        (lambda: haar(T2(), 2), "T2: samples must be 1, got 2"),
        (lambda: haar(SE2(), 4, sampling="sobol"), "sampling is 'sobol'"),
        (lambda: Uniform(0.0), "theta is 0.0"),
        (lambda: Uniform(1.01), "theta is 1.01"),
        (lambda: Uniform(math.nan), "theta is nan"),
        (lambda: Bernoulli(1), "components is 1"),
        (lambda: Bernoulli(2, 0.0), "probability is 0.0"),
        (lambda: Bernoulli(2, 1.0), "probability is 1.0"),
        (lambda: Bernoulli(2, temperature=0.0), "temperature is 0.0"),
        (lambda: set_temperature(learned(Mirror(), 2), -0.1), "temperature is -0.1"),
        (lambda: Density(E2(), 3, algebra=DiracAlgebra(), components=Bernoulli(3)), "has 3 components, but E2 has 2"),
    ],
)
def test_an_argument_out_of_range_is_quoted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_drawing_never_asks_how_many_elements_theta_leaves():
    """Elements of a group without rotations are all there are, also where fewer are wanted in eval mode."""
    density = learned(group("D4"), 8, proportional=True)
    assert len(density.draw()) == len(density.eval().sample()) == 8


class _OwnAlgebra(Uniform):
    pass


def test_parameter_groups_part_the_densities_from_the_weights():
    own = ps.Density(ps.SE2(), 4, algebra=_OwnAlgebra(), components=AllComponents(1))
    net = nn.Sequential(
        ps.GroupConv(1, 2, domain=ps.T2(), codomain=own, kernel_size=3),
        ps.GroupConv(2, 2, codomain=ps.learned(ps.SE2(), 4), kernel_size=3),
        nn.Linear(2, 2),
    )
    weights, densities = ps.parameter_groups(net, lr=1e-2, density_lr=3e-2)
    assert (weights["lr"], densities["lr"]) == (1e-2, 3e-2)
    assert {id(p) for p in densities["params"]} == {id(net[0].codomain.algebra.raw), id(net[1].codomain.algebra.raw)}
    both = [id(p) for p in weights["params"] + densities["params"]]
    assert sorted(both) == sorted(id(p) for p in net.parameters())
    assert len(ps.parameter_groups(nn.Linear(2, 2), lr=1e-2, density_lr=3e-2)) == 1


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_weight_decay_leaves_densities_alone(make):
    net = ps.GroupConv(2, 2, codomain=ps.learned(ps.E2(), 4, theta=0.5), kernel_size=3)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)  # only the decay moves what it is applied to
    make(ps.parameter_groups(net, lr=0.1, density_lr=0.1), weight_decay=0.5).step()
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    densities = {name for name in before if name.startswith("codomain.")}
    assert len(densities) == 2
    assert moved == {name for name in before if before[name].any()} - densities


def test_theta_at_the_start():
    assert ps.learned(ps.SE2(), 4, theta=0.25).support() == {"theta_deg": 45.0}
    with pytest.raises(InputError, match=r"theta is 1\.5"):
        ps.learned(ps.SE2(), 4, theta=1.5)
    with pytest.raises(InputError, match=r"theta is 0\.5, but Mirror has no rotations"):
        ps.learned(ps.Mirror(), 2, theta=0.5)
