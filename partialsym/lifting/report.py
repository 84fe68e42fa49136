"""What lifting a network has changed, named and measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Windows of a layer that do not lie symmetrically on its maps in the plain network.

    Attributes:
        place: the layer's name in the plain network.
        size: height and width of the maps it takes, for the example.
        shift: by how many pixels (down, right) its windows move until they are symmetric; where that is between
            pixels, a convolution reads the mean of neighbours, and a pool has windows of one pixel more.
        difference: by how much the plain network's answers to the example change if this layer alone is moved,
            ‖after − before‖ / ‖before‖.
    """

    place: str
    size: tuple[int, int]
    shift: tuple[float, float]
    difference: float

    def __str__(self) -> str:
        height, width = self.size
        down, right = self.shift
        moved = f"{down:+g} pixels" if down == right else f"{down:+g} and {right:+g} pixels"
        return f"{self.place}, on {height}×{width}: moved by {moved}; answers change by {100 * self.difference:.2g} %"


@dataclass(frozen=True)
class LiftReport:
    """What `partialsym.lift` has measured on the example.

    Attributes:
        changes: layers that symmetric resampling moves; empty where the network was symmetric at that size.
        identity: ‖difference‖ / ‖answers‖ of the plain network and of the lifted one on the identity alone, with the
            original resampling: rounding.
        symmetric: the same with the symmetric resampling: all changes together.
        symmetries: those of the pixel grid that are in the group and map the example to its own size.
        invariance: the largest change of the network's answers under these, in the same measure.
    """

    changes: tuple[Change, ...]
    identity: float
    symmetric: float
    symmetries: tuple[str, ...]
    invariance: float

    def __str__(self) -> str:
        lines = [f"on the identity the answers are the original's up to {self.identity:.1g}"]
        if self.changes:
            lines.append(f"symmetric resampling changes them by {100 * self.symmetric:.2g} %:")
            lines += [f"  {change}" for change in self.changes]
        else:
            lines.append("every window lies symmetrically: nothing was moved")
        shown = ", ".join(self.symmetries) or "nothing"
        return "\n".join([*lines, f"under {shown} the answers of the lifted network change by {self.invariance:.1g}"])
