"""The checkers of groups and densities, on what they must reject."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import few

from partialsym.densities import AllComponents, Bernoulli, Density, HaarAlgebra, Uniform, learned
from partialsym.groups import E2, SE2, Cyclic, Dihedral, Group, Mirror
from partialsym.groups.base import embed_rotation, rotation
from partialsym.signal import Elements
from partialsym.testing import assert_density, assert_group_laws


def turn(degrees: float) -> torch.Tensor:
    return rotation(torch.tensor(math.radians(degrees), dtype=torch.float64))


def broken(like, components=None, **overrides) -> Group:
    """A group that is `like` another, save for some components or methods."""
    h = type("Broken", (type(like),), {"__init__": lambda self: None, **overrides})()
    h.name, h.components = like.name, like.components if components is None else components.double()
    return h


def angle(h):
    return torch.atan2(h[..., 1, 0], h[..., 0, 0])[..., None]


def scribble(self, h):
    z = embed_rotation(h)
    h[..., 0, 0].mul_(0.5)
    return z


def kinked(self, h):
    return torch.cat([embed_rotation(h), h[..., 1, :1].abs()], -1)


E, C4, SO2, O2 = torch.eye(2).double(), Cyclic(4), SE2(), E2()
SHEAR = torch.tensor([[1.0, 0.5], [0.0, 1.0]]).double()
FULL_CIRCLE = lambda self, h: (angle(h) % (2 * math.pi), torch.zeros(h.shape[:-2], dtype=torch.long))  # noqa: E731
BROKEN = {
    "not closed under inverse": (broken(C4, C4.components[:2]), "an inverse is not in"),
    "not closed under product": (broken(C4, C4.components[[0, 1, 3]]), "a product of .* is not in"),
    "identity not first": (broken(C4, C4.components.roll(1, 0)), "first component is not the identity"),
    "shear": (broken(Mirror(), torch.stack([E, SHEAR])), "not the identity"),
    "off by 1e-6": (
        broken(Cyclic(3), torch.stack([E, turn(120) + 1e-6, turn(240) - 1e-6])),
        "not exp|not the identity",
    ),
    "component twice": (broken(SO2, torch.stack([E, turn(90)])), r"is not \(a, i\)"),
    "exp too fast": (broken(SO2, exp=lambda self, a: rotation(2 * a[..., 0])), "not in the group"),
    "exp no homomorphism": (broken(SO2, exp=lambda self, a: rotation(a[..., 0] + a[..., 0] ** 3)), "not in the group"),
    "angles in [0, 2π)": (broken(SO2, coordinates=FULL_CIRCLE), "outside"),
    "angles in [−π, π]": (broken(SO2, _log=lambda self, h: angle(h)), "outside"),
    "embedding jumps": (broken(SO2, embed=lambda self, h: angle(h) % (2 * math.pi), embed_dim=1), "jumps"),
    "embedding kinked": (broken(SO2, embed=kinked, embed_dim=3), "kink"),
    "embedding of the turn alone": (broken(O2, embed=lambda self, h: embed_rotation(h), embed_dim=2), "injective"),
    "embedding of another size": (broken(O2, embed_dim=2), "embed_dim"),
    "embedding writes": (broken(SO2, embed=scribble), "embed writes"),
    "half a grid": (broken(SO2, grid=lambda self, r: SO2.grid(r)[: (r + 1) // 2]), "Haar"),
    "uneven grid": (broken(O2, grid=lambda self, r: O2.grid(r)[:-1]), "uneven"),
    "wrong inverse": (broken(C4, inverse=staticmethod(lambda h: h)), "not the identity"),
    "wrong product": (broken(Dihedral(4), compose=staticmethod(lambda g, h: h @ g)), "not the product"),
    "wrong action": (broken(SO2, act=staticmethod(lambda h, x: (x[..., None, :] @ h)[..., 0, :])), "matrix times"),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_a_broken_group_fails_the_laws(flaw):
    h, message = BROKEN[flaw]
    with pytest.raises(AssertionError, match=message):
        assert_group_laws(h)


class Positive(Density):
    def _drawn(self):
        return super()._drawn().abs()


class Shifted(Density):
    """Spaced as it should be, with half the jitter."""

    def _drawn(self):
        r = self.rotations
        return ((torch.arange(r) + 0.5 * torch.rand(1, 1)) * (2 / r)) - 1


class Grouped(Density):
    """The mirrored component first."""

    def _elements(self, position, weights):
        e = super()._elements(position, weights)
        return replace(e, matrices=e.matrices.flip(0))


class Shared(Density):
    """Independent within a component, but both have the same angles."""

    sampling = property(lambda self: "iid", lambda self, value: None)

    def _drawn(self):
        return super()._drawn()[:1].expand(2, -1)


class SameGradient(Density):
    """dh/dθ as from a grid built with `theta.item()`: the same for every element."""

    def _elements(self, position, weights):
        theta = self.algebra.theta()
        a = theta.item() * math.pi * position[..., None] - math.pi * (theta - theta.item())
        return Elements(self.group, (self.group.exp(a) @ self.components[:, None]).flatten(0, 1), weights)


class Restless(Density):
    def deterministic(self):
        return self.draw()


class Severed(Uniform):
    def theta(self):
        return super().theta().detach()


class DropsIdentity(Bernoulli):
    def draw(self):
        return super().draw().flip(0)


class TooOften(Bernoulli):
    def draw(self):
        return torch.maximum(super().draw(), super().draw())


class Unfelt(Bernoulli):
    """No gradient where the draw is 0."""

    def draw(self):
        w = super().draw()
        return w * w.detach()


class AlwaysIn(Bernoulli):
    def decide(self):
        return torch.ones(self.kept)


class About(Uniform):
    def __init__(self, centre=0.5, theta=0.25):
        super().__init__(theta)
        self.middle = torch.nn.Parameter(torch.tensor(centre))

    def centre(self):
        return self.middle


class Silent(About):
    """A centre without its gradient."""

    def centre(self):
        return super().centre().detach()


class HalfFelt(Density):
    """The elements are about the centre, and feel half of its gradient."""

    def _angles(self, position):
        centre = self.algebra.centre()
        return (self.algebra.theta() * position + (centre + centre.detach()) / 2) * math.pi


class Unsaid(Density):
    """The elements are off the identity, and nothing says so."""

    def _angles(self, position):
        return super()._angles(position) + 0.1


class Misread(Density):
    def support(self):
        return {k: v for k, v in super().support().items() if k != "centre_deg"}


FLAWED = {
    "positive angles": (Positive, partial(Uniform, 0.6), None, "not uniform"),
    "half the jitter": (Shifted, partial(Uniform, 0.6), None, "not uniform"),
    "components out of order": (Grouped, partial(Uniform, 0.6), None, "component after component"),
    "components share their draw": (Shared, partial(Uniform, 0.6), None, "correlated"),
    "one gradient for all": (SameGradient, partial(Uniform, 0.6), None, "Gradient of θ"),
    "random in eval": (Restless, partial(Uniform, 0.6), None, "Eval mode draws"),
    "θ severed": (Density, partial(Severed, 0.6), None, "no gradient reaches it"),
    "centre severed": (Density, Silent, None, "no gradient reaches it"),
    "centre half felt": (HalfFelt, About, None, "Gradient of the centre"),
    "centre unsaid": (Unsaid, partial(Uniform, 0.6), None, "Eval angles"),
    "centre unread": (Misread, About, None, "support"),
    "identity dropped": (Density, None, partial(DropsIdentity, 2), "Frequencies|e is dropped"),
    "drawn too often": (Density, None, partial(TooOften, 2, 0.5), "Frequencies"),
    "gradient of the drawn alone": (Density, None, partial(Unfelt, 2, 0.5), "No gradient reaches"),
    "P ignored in eval": (Density, None, partial(AlwaysIn, 2, 0.3), "Eval weights"),
}


@pytest.mark.parametrize("flaw", FLAWED)
def test_a_flawed_density_fails_its_laws(flaw, float64):
    cls, algebra, component, message = FLAWED[flaw]
    density = cls(E2(), 8, algebra=(algebra or HaarAlgebra)(), components=(component or partial(AllComponents, 2))())
    with pytest.raises(AssertionError, match=message):
        assert_density(density, draws=500)


@pytest.mark.parametrize("sampling", ["systematic", "iid"])
@pytest.mark.parametrize(
    ("centre", "theta"), few([(0.5, 0.25), (-0.9, 0.6), (1.3, 1.0), (3.0, 0.01)], (-0.9, 0.6), (1.3, 1.0))
)
def test_an_interval_off_the_identity_passes(centre, theta, sampling, float64):
    options = {"algebra": About(centre, theta), "components": AllComponents(2), "sampling": sampling}
    assert_density(Density(E2(), 8, **options), draws=500)


def test_the_checker_leaves_mode_and_generator_alone(float64):
    density, state = learned(E2(), 8).eval(), torch.get_rng_state()
    assert_density(density, draws=50)
    assert not density.training
    assert torch.equal(state, torch.get_rng_state())


def test_a_single_precision_density_passes():
    assert_density(learned(E2(), 8), draws=200)
