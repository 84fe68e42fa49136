"""The report on a lifted network: which layers changed, and by how much."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A layer of the plain network whose windows are not symmetric on its maps.

    Attributes:
        place: name and type of the layer in the plain network.
        size: height and width in pixels of its input maps for the example.
        shift: shift (down, right) in pixels that makes its windows symmetric. If symmetric positions are between
            pixels, a convolution reads means of neighbours, and windows of a pool are one pixel wider.
        difference: ‖after − before‖ / ‖before‖ for the plain network's outputs for the example, if only this layer is
            shifted.
    """

    place: str
    size: tuple[int, int]
    shift: tuple[float, float]
    difference: float

    def __str__(self) -> str:
        height, width = self.size
        down, right = self.shift
        moved = f"{down:+g} pixels" if down == right else f"{down:+g} and {right:+g} pixels"
        return f"{self.place}, on {height}×{width}: moved by {moved}; outputs change by {100 * self.difference:.2g} %"


@dataclass(frozen=True)
class LiftReport:
    """The measurements of `partialsym.lift` on the example.

    Attributes:
        changes: layers that symmetric resampling changes; empty if all windows are symmetric at that image size.
        identity: ‖difference‖ / ‖outputs‖ between the plain network and the lifted one on the identity, with the
            original resampling. It is rounding error.
        symmetric: the same with symmetric resampling, so that it includes all changes.
        symmetries: symmetries of the pixel grid that are in the group and map the example to the same size.
        invariance: the largest relative change of the lifted network's outputs under these symmetries.
    """

    changes: tuple[Change, ...]
    identity: float
    symmetric: float
    symmetries: tuple[str, ...]
    invariance: float

    def __str__(self) -> str:
        lines = [f"on the identity the outputs are the original's up to {self.identity:.1g}"]
        if self.changes:
            lines.append(f"symmetric resampling changes them by {100 * self.symmetric:.2g} %:")
            lines += [f"  {change}" for change in self.changes]
        else:
            lines.append("every window is symmetric: nothing was moved")
        shown = ", ".join(self.symmetries) or "nothing"
        return "\n".join([*lines, f"under {shown} the outputs of the lifted network change by {self.invariance:.1g}"])
