import math

import pytest
import torch

from partialsym.groups import E2, SE2, T2, Cyclic, Dihedral, Mirror, group
from partialsym.groups.base import rotation
from partialsym.testing import assert_group_laws
from partialsym.testing.laws import every_group

GROUPS = every_group()
SAMPLES = ["T2", "Mirror", "SE2", "E2", "C1", "C3", "C4", "C6", "C8", "D1", "D4", "D6"]
MIRROR = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def turn(degrees: float) -> torch.Tensor:
    return rotation(torch.tensor(math.radians(degrees), dtype=torch.float64))


def test_the_list_of_groups_holds_all_that_the_laws_were_meant_for():
    assert set(SAMPLES) <= {g.name for g in GROUPS}


@pytest.mark.parametrize("h", GROUPS, ids=repr)
@pytest.mark.parametrize("seed", [0, 1])
def test_group_laws(h, seed):
    assert_group_laws(h, seed=seed)


@pytest.mark.parametrize("h", GROUPS, ids=repr)
def test_a_name_leads_back_to_its_group(h):
    assert group(h.name) == h
    assert hash(group(h.name)) == hash(h)
    assert torch.equal(group(h.name).components, h.components)


@pytest.mark.parametrize("h", [SE2(), E2()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_a_turn_has_the_coordinate_plus_pi_whatever_the_sign_of_its_zeros(h, dtype):
    halves = torch.tensor([[[-1, x], [y, -1]] for x in (0.0, -0.0) for y in (0.0, -0.0)], dtype=dtype)
    a, i = h.coordinates(halves)
    assert torch.equal(a, torch.full_like(a, math.pi))
    assert not i.any()


@pytest.mark.parametrize("radians", [-3.1, -0.5, -0.0, 0.0, 0.5, 3.1, math.pi])
def test_coordinates_of_e2_tell_angle_and_mirroring(radians):
    a = torch.tensor([radians], dtype=torch.float64)
    for i, c in enumerate(E2().components):
        b, j = E2().coordinates(E2().exp(a) @ c)
        assert (b - a).abs() < 1e-14
        assert int(j) == i


INCLUDES = [  # rows include columns
    ("T2", "1000000000"),
    ("Mirror", "1100000010"),
    ("SE2", "1010111100"),
    ("E2", "1111111111"),
    ("C1", "1000100000"),
    ("C3", "1000110000"),
    ("C4", "1000101000"),
    ("C6", "1000110100"),
    ("D1", "1100100010"),
    ("D4", "1100101011"),
]


@pytest.mark.parametrize(("name", "row"), INCLUDES)
def test_includes(name, row):
    row = row if name not in ("T2", "Mirror") else row[:4] + "1" + row[5:]  # C1 is {e} too
    expected = dict(zip([n for n, _ in INCLUDES], [c == "1" for c in row], strict=True))
    assert {n: group(name).includes(group(n)) for n in expected} == expected


@pytest.mark.parametrize(
    ("name", "members"),
    [("T2", "e"), ("Mirror", "e m"), ("SE2", "e 90 45"), ("E2", "e m 90 45 45m"), ("C4", "e 90"), ("D4", "e m 90")],
)
def test_contains(name, members):
    elements = {"e": turn(0), "m": MIRROR, "90": turn(90), "45": turn(45), "45m": turn(45) @ MIRROR}
    elements |= {"shear": torch.tensor([[1.0, 0.1], [0.0, 1.0]]).double(), "scale": 1.1 * turn(0)}
    elements |= {"nan": turn(0) * math.nan}
    inside = group(name).contains(torch.stack(list(elements.values())))
    assert " ".join(k for k, is_in in zip(elements, inside, strict=True) if is_in) == members


@pytest.mark.parametrize("h", GROUPS, ids=repr)
@pytest.mark.parametrize("stranger", [[[1.25, 0.0], [0.0, 1.0]], [[math.nan, 0.0], [0.0, 1.0]]])
def test_coordinates_of_a_stranger_raise_and_name_it(h, stranger):
    elements = torch.stack([torch.eye(2), torch.tensor(stranger), torch.eye(2)])
    with pytest.raises(ValueError, match=rf"{stranger[0][0]}.* is not an element of {h}"):
        h.coordinates(elements)


@pytest.mark.parametrize("r", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("h", GROUPS, ids=repr)
def test_the_grid_integrates_harmonics_below_its_size_exactly(h, r):
    grid = h.grid(r)
    per_component = r if h.dim else 1
    assert grid.shape == (per_component * len(h.components), 2, 2)
    assert grid.dtype == torch.float64
    if h.dim:
        a, _ = h.coordinates(grid[:per_component])
        sums = torch.exp(1j * a * torch.arange(1, r)).mean(0).abs()
        assert (sums < 1e-14).all()
        assert a[:, 0].diff().allclose(torch.tensor(2 * math.pi / r).double())
        assert a.sum().abs() < 1e-14


@pytest.mark.parametrize(
    ("h", "names"),
    [
        (T2(), "e"),
        (Mirror(), "e m"),
        (SE2(), "e"),
        (E2(), "e m"),
        (Cyclic(3), "e 120° 240°"),
        (Dihedral(2), "e 180° m 180°·m"),
        (Dihedral(4), "e 90° 180° 270° m 90°·m 180°·m 270°·m"),
    ],
    ids=repr,
)
def test_component_names(h, names):
    assert h.component_names == names.split()


@pytest.mark.parametrize("name", ["C0", "SO2", "c4", "D-1", "C", "C4 ", "C12345", "", "Mirror4", "T3"])
def test_an_unknown_group_is_quoted(name):
    with pytest.raises(ValueError, match=f"'{name}'.*C<n>"):
        group(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("se2", "SE2"), ("SE(2)", "SE2"), ("SO(2)", "SE2"), ("O2", "E2"), ("c4", "C4"), ("D_4", None), ("x", None)],
)
def test_the_group_that_was_meant_is_named(name, meant):
    with pytest.raises(ValueError, match="Unknown group") as error:
        group(name)
    assert str(error.value).endswith(f"Did you mean {meant!r}?" if meant else "D6).")


@pytest.mark.parametrize("family", [Cyclic, Dihedral])
@pytest.mark.parametrize("n", [0, -2])
def test_a_finite_group_needs_rotations(family, n):
    with pytest.raises(ValueError, match=f"got n = {n}"):
        family(n)


def test_quarter_turns_have_exact_entries():
    assert torch.equal(Cyclic(8).components[::2], Cyclic(4).components)
    assert Cyclic(4).components.abs().unique().tolist() == [0.0, 1.0]


def test_a_rotations_gradient_is_right_twice():
    angle = torch.tensor([0.0, 0.3, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation, angle)
    assert torch.autograd.gradgradcheck(rotation, angle)
