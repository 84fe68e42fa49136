"""The symmetry groups: T(2), Mirror, SE(2), E(2), C_n and D_n."""

import re
from collections.abc import Callable

from partialsym.errors import InputError, InputTypeError
from partialsym.groups.base import Group
from partialsym.groups.cyclic import Cyclic
from partialsym.groups.dihedral import Dihedral
from partialsym.groups.e2 import E2
from partialsym.groups.mirror import Mirror
from partialsym.groups.se2 import SE2
from partialsym.groups.t2 import T2
from partialsym.registry import GROUPS

FAMILIES: dict[str, Callable[[int], Group]] = {"C": Cyclic, "D": Dihedral}
_MEMBER = r"([CD])([1-9]\d{0,3})"


def group(name: str) -> Group:
    """Return the group with this name.

    Args:
        name: `T2`, `Mirror`, `SE2`, `E2`, `C<n>`, `D<n>`, or the name of a registered group.
    Raises:
        TypeError: name is not a string.
        ValueError: no group has this name.

    >>> group("C4").components.shape
    torch.Size([4, 2, 2])
    """
    if not isinstance(name, str):
        raise InputTypeError(f"group is {name!r}, which is no string: must be the name of a group, such as 'SE2'.")
    if match := re.fullmatch(_MEMBER, name):
        return FAMILIES[match[1]](int(match[2]))
    if name in GROUPS:
        return GROUPS[name]()
    plain = re.sub(r"\W", "", name).upper()
    known = {"SO2": "SE2", "O2": "E2"} | {other.upper(): other for other in GROUPS}  # the first two: H alone
    near = plain if re.fullmatch(_MEMBER, plain) else known.get(plain)
    hint = f" Did you mean {near!r}?" if near else ""
    raise InputError(f"Unknown group {name!r}: must be one of {', '.join(GROUPS)}, C<n> or D<n> (as in C4, D6).{hint}")


__all__ = ["E2", "FAMILIES", "SE2", "T2", "Cyclic", "Dihedral", "Group", "Mirror", "group"]
