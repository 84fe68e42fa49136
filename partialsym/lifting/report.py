"""The changes that lifting makes to a network, and measurements of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A layer of the plain network whose windows do not lie symmetrically on its input.

    Attributes:
        place: the layer's name in the plain network.
        size: height and width of its input for the example.
        shift: pixels (down, right) by which symmetric resampling moves the windows. Between pixels, a convolution reads
            means of neighbours, and the windows of a pool are one pixel wider.
        difference: ‖after − before‖ / ‖before‖ of the plain network's output for the example, if only the windows of
            this layer are moved.
    """

    place: str
    size: tuple[int, int]
    shift: tuple[float, float]
    difference: float

    def __str__(self) -> str:
        height, width = self.size
        down, right = self.shift
        moved = f"{down:+g} pixels" if down == right else f"{down:+g} and {right:+g} pixels"
        return (
            f"{self.place}, on {height}×{width}: moved by {moved}; the output changes by {100 * self.difference:.2g} %"
        )


@dataclass(frozen=True)
class LiftReport:
    """Measurements of `partialsym.lift` on the example.

    All differences are relative: ‖difference‖ / ‖output‖.

    Attributes:
        changes: layers whose windows symmetric resampling moves; empty if all windows are symmetric at that size.
        identity: difference between the plain network and the lifted one on e alone, with the original resampling;
            only rounding.
        symmetric: the same with symmetric resampling: the effect of all changes together.
        symmetries: symmetries of the pixel grid that are in the group and preserve the size of the example.
        invariance: the largest difference between the lifted network's outputs before and after one of them.
    """

    changes: tuple[Change, ...]
    identity: float
    symmetric: float
    symmetries: tuple[str, ...]
    invariance: float

    def __str__(self) -> str:
        lines = [f"on the identity, the output differs from the original by {self.identity:.1g}"]
        if self.changes:
            lines.append(f"symmetric resampling changes it by {100 * self.symmetric:.2g} %:")
            lines += [f"  {change}" for change in self.changes]
        else:
            lines.append("every window is symmetric: nothing was moved")
        shown = ", ".join(self.symmetries) or "nothing"
        return "\n".join([*lines, f"under {shown}, the output of the lifted network changes by {self.invariance:.1g}"])
