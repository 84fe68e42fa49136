"""A checker for groups. It raises an AssertionError that names the law that does not hold."""

import math

import torch
from torch import Tensor

from partialsym.groups import FAMILIES, Group
from partialsym.registry import GROUPS

ORDERS = {"C": (1, 3, 4, 6, 8), "D": (1, 4, 6)}


def every_group() -> list[Group]:
    """The groups on which the laws are tested: all in `GROUPS`, and a few of every family in `FAMILIES`."""
    families = [make(n) for letter, make in FAMILIES.items() for n in ORDERS.get(letter, (1, 2, 3, 4))]
    return [make() for make in GROUPS.values()] + families


def assert_group_laws(group: Group, *, tolerance: float = 1e-10, seed: int = 0) -> None:
    """Check every property that a `Group` must have, in float64 on random elements of every component.

    It checks: closure, inverses and associativity; that the identity is the first component; that
    exp(a) @ components[i] == h with a in (−π, π]; that exp is the matrix exponential of its generator; that coordinates
    and embedding are smooth at e; that the embedding is injective; that `embedded_inverse`, if there is one, acts on it
    as h⁻¹ does; that the grid is a Haar quadrature; and that no method modifies its input.

    Args:
        group: the group.
        tolerance: largest allowed difference between the entries of matrices that must be equal.
        seed: seed of the random elements. torch's global generator is not used.
    Raises:
        AssertionError: a law does not hold.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(group.components)
    i = torch.arange(count).repeat(math.ceil(24 / count))
    a = (torch.rand(len(i), group.dim, generator=generator, dtype=torch.float64) * 2 - 1) * math.pi
    h = group.exp(a) @ group.components[i]
    _check_axioms(group, h.clone(), tolerance)
    _check_inputs_kept(group, a, h)
    _check_coordinates(group, a, i, tolerance)
    _check_exponential(group, a, tolerance)
    _check_embedding(group)
    _check_embedded_inverse(group, h, tolerance)
    _check_grid(group, h[-1], tolerance)


def _check_embedded_inverse(group: Group, h: Tensor, tolerance: float) -> None:
    matrices = group.embedded_inverse(h)
    if matrices is None:
        return
    relative = group.embed(group.inverse(h)[:, None] @ h)
    linear = (matrices[:, None] @ group.embed(h)[..., None]).squeeze(-1)
    require(same(relative, linear, tolerance), f"{group}: embed(h⁻¹h̃) is not embedded_inverse(h)·embed(h̃)")


def require(holds: Tensor | bool, message: str) -> None:
    """Raise AssertionError(message) unless all of `holds` is true."""
    if not bool(torch.as_tensor(holds).all()):
        raise AssertionError(message)


def same(x: Tensor, y: Tensor | float, tolerance: float) -> Tensor:
    """|x − y| ≤ tolerance, elementwise; False where a value is NaN."""
    return (x - y).abs() <= tolerance


def member_coordinates(group: Group, h: Tensor, what: str, tolerance: float) -> tuple[Tensor, Tensor]:
    """coordinates(h), after checking that they exist, are in range and reproduce h."""
    try:
        a, i = group.coordinates(h)
    except ValueError as error:
        raise AssertionError(f"{group}: {what} is not in the group: {error}") from error
    back = group.exp(a) @ group.components.to(h)[i]
    require(same(back, h, tolerance), f"{group}: {what} is not exp(a) @ components[i] of its coordinates (a, i).")
    edge = math.pi if h.dtype == torch.float64 else math.pi + 1e-6
    require((a > -math.pi) & (a <= edge), f"{group}: {what} has coordinates outside (−π, π]: {a.tolist()}.")
    return a, i


def _check_inputs_kept(group: Group, a: Tensor, h: Tensor) -> None:
    components, x = group.components.clone(), h[..., 0].clone()
    calls = {"exp": (a,), "coordinates": (h,), "contains": (h,), "embed": (h,), "inverse": (h,)}
    for name, inputs in {**calls, "compose": (h, h.flip(0)), "act": (h, x)}.items():
        before = [t.clone() for t in inputs]
        getattr(group, name)(*inputs)
        kept = all(torch.equal(t, b) for t, b in zip(inputs, before, strict=True))
        require(kept and torch.equal(group.components, components), f"{group}.{name} writes to its input.")


def _check_axioms(group: Group, h: Tensor, tolerance: float) -> None:
    e = torch.eye(2, dtype=h.dtype)
    require(same(group.components[0], e, 0.0), f"{group}: the first component is not the identity.")
    require(len(group.component_names) == len(set(group.component_names)), f"{group}: component_names repeat.")
    inverse = group.inverse(h)
    for product in (group.compose(inverse, h), group.compose(h, inverse)):
        require(same(product, e, tolerance), f"{group}: h⁻¹h or hh⁻¹ is not the identity.")
    member_coordinates(group, inverse, "an inverse", tolerance)
    require(group.includes(group), f"{group} does not include itself.")
    for g in h:
        product = group.compose(g, h)
        member_coordinates(group, product, f"a product of {g.tolist()} with another element", tolerance)
        left, right = group.compose(product, h.flip(0)), group.compose(g, group.compose(h, h.flip(0)))
        require(same(left, right, tolerance), f"{group}: (gh)k is not g(hk) for g = {g.tolist()}.")
        require(same(product, g @ h, tolerance), f"{group}.compose is not the product of matrices.")
    x = h[..., 0]
    require(same(group.act(h, x), (h * x[:, None]).sum(-1), tolerance), f"{group}.act is not matrix times vector.")


def _check_coordinates(group: Group, a: Tensor, i: Tensor, tolerance: float) -> None:
    b, j = member_coordinates(group, group.exp(a) @ group.components[i], "exp(a) @ components[i]", tolerance)
    require((i == j) & same(a, b, tolerance).all(-1), f"{group}: coordinates(exp(a) @ components[i]) is not (a, i).")
    small = torch.tensor([[-1e-6], [-0.0], [0.0], [1e-6]], dtype=torch.float64)[:, : group.dim]
    near, k = member_coordinates(group, group.exp(small), "exp(±1e-6)", tolerance)
    require(same(near, small, tolerance) & (k == 0)[:, None], f"{group}: coordinates jump at the identity.")
    turn = torch.tensor([[-math.pi], [math.pi]], dtype=torch.float64)[:, : group.dim]
    half = group.exp(turn)
    signed = torch.where(half.abs() < 1e-12, torch.tensor([[0.0, 0.0], [-0.0, 0.0]], dtype=torch.float64), half)
    member_coordinates(group, torch.cat([half, signed]), "exp(±π)", tolerance)


def _check_exponential(group: Group, a: Tensor, tolerance: float) -> None:
    if group.dim:
        expected = torch.linalg.matrix_exp(a[..., None] * generator_of(group))
        require(same(group.exp(a), expected, tolerance), f"{group}.exp is not the matrix exponential.")
    else:
        require(same(group.exp(a), torch.eye(2, dtype=a.dtype), 0.0), f"{group}.exp of nothing is not the identity.")


def generator_of(group: Group) -> Tensor:
    """X = d/da exp(a) at 0 of a group with an algebra, [2, 2] float64."""
    zero = torch.zeros(group.dim, dtype=torch.float64)
    return torch.autograd.functional.jacobian(group.exp, zero)[..., 0]


def _check_embedding(group: Group) -> None:
    """Distances of embeddings are between 1/10 and 10 times those of matrices, and there is no kink at e."""
    grid = group.grid(256)
    z = group.embed(grid)
    require(z.shape == (len(grid), group.embed_dim), f"{group}.embed gives {tuple(z.shape)}: not [n, embed_dim].")
    apart = ~torch.eye(len(grid), dtype=torch.bool)
    distance = torch.cdist(grid.flatten(1), grid.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")[apart]
    embedded = (z[:, None] - z).square().sum(-1).sqrt()[apart]
    require(embedded >= distance / 10, f"{group}.embed is not injective.")
    require(embedded <= distance * 10, f"{group}.embed jumps.")
    if group.dim:
        before, at, after = group.embed(group.exp(torch.tensor([[-1e-4], [0.0], [1e-4]], dtype=torch.float64)))
        require(same(after - at, at - before, 1e-6), f"{group}.embed has a kink at the identity.")


def _check_grid(group: Group, g: Tensor, tolerance: float) -> None:
    """Means of polynomials up to degree 2 are invariant to g, and the grid is invariant to its own symmetries."""
    grid = group.grid(8)
    _, i = member_coordinates(group, grid, "an element of the grid", tolerance)
    require(i.bincount(minlength=len(group.components)) == len(grid) // len(group.components), f"{group}: uneven grid.")
    f, *moved = (h.flatten(1) for h in (grid, g @ grid, grid @ g))
    for m in moved:
        holds = same(m.mean(0), f.mean(0), tolerance).all() & same(m.T @ m / len(m), f.T @ f / len(f), tolerance).all()
        require(holds, f"{group}.grid is not a Haar quadrature.")
    for k in grid @ group.inverse(grid[0]):
        nearest = torch.cdist((k @ grid).flatten(1), grid.flatten(1)).min(1).values
        require(nearest <= 1e-6, f"{group}.grid is not closed under its own symmetries.")  # cdist: root of 1e-16
