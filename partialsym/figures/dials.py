"""One layer's learned subset as a dial: a sector for rotations, a ring for reflections, a mark for each element."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Circle, Wedge

from partialsym.errors import InputError
from partialsym.figures.canvas import BLUE, DEEP, GREY, INK, ORANGE, PALE, Learned

REACH = 1.25  # half the width of a cell, in radii of the dial
RING = (0.74, 1.0)  # inner and outer radius of the ring of mirrored turns
ORBIT = 0.62  # radius of the circle of marks
WHOLE = 179.95  # degrees; a larger sector is drawn as the whole circle
CROWDED = 8  # with more marks there is no room for their numbers


@dataclass(frozen=True)
class Cell:
    """The learned subset of one layer for each seed: `numbers` maps a name to one value per seed."""

    group: str
    seeds: int
    numbers: dict[str, list[float]] = field(default_factory=dict)

    @property
    def elements(self) -> list[str]:
        """Names of the components other than e."""
        return [key[2:-1] for key in self.numbers if key.startswith("P(")]

    def probabilities(self, element: str) -> list[float]:
        return self.numbers.get(f"P({element})", [1.0] * self.seeds)


def gather(name: str, seeds: Sequence[Learned]) -> dict[str, Cell]:
    """The subsets of each seed → the cell of each layer.

    Raises:
        ValueError: a seed has no subsets, or the seeds do not have the same layers and groups.
    """
    found = [_entries(name, seed) for seed in seeds]
    cells = {
        first["layer"]: Cell(first["group"], len(seeds), {k: [] for k in first if k not in ("layer", "group")})
        for first in found[0]
    }
    for entries in found:
        if [e["layer"] for e in entries] != list(cells):
            raise InputError(f"The seeds of {name!r} have different layers: all must have the same model.")
        for entry in entries:
            cell = cells[entry["layer"]]
            if entry["group"] != cell.group or set(entry) - {"layer", "group"} != set(cell.numbers):
                raise InputError(f"The seeds of {name!r} have different groups in {entry['layer']}.")
            for key, values in cell.numbers.items():
                values.append(float(entry[key]))
    return cells


def _entries(name: str, seed: Learned) -> Sequence[Mapping[str, Any]]:
    entries = seed.get("subsets") if isinstance(seed, Mapping) else seed
    if not entries:
        raise InputError(
            f"a seed of {name!r} has no subsets: every name needs a list of results with subsets, or of what "
            "learned_subsets returns for a network with group convolutions."
        )
    return entries


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def share(p: float) -> str:
    """A probability without the leading zero, such as .31; 1 for certainty."""
    return "1" if p == 1 else f"{p:.2f}".removeprefix("0")


def draw_dial(axes: Axes, cell: Cell, tall: float) -> None:
    """Draw a cell; the dial's centre is (0, 0), its radius 1, and the axes are `tall` times as high as wide."""
    axes.set(xlim=(-REACH, REACH), ylim=(REACH - 2 * REACH * tall, REACH), aspect="equal")
    axes.set_axis_off()
    if "theta_deg" in cell.numbers:
        _sector(axes, cell)
    elif not cell.elements:
        _mark(axes, (0, 0), 0.13, [1.0], BLUE)
        _write(axes, 0, -1.3, "identity alone")
    elif cell.elements == ["m"]:
        _pair(axes, cell)
    else:
        _marks(axes, ["e", *(e for e in cell.elements if not e.endswith("m"))], cell, BLUE)
        if mirrored := [e for e in cell.elements if e.endswith("m")]:
            _marks(axes, mirrored, cell, ORANGE, y=-2 * REACH)


def height(cell: Cell) -> float:
    """The height of a cell in units of its width."""
    if "theta_deg" in cell.numbers:
        return 1.26 if cell.elements else 1.13  # two lines of numbers, or one
    if not cell.elements:
        return 1.13
    if cell.elements == ["m"]:
        return 0.68
    return 2.0 if any(e.endswith("m") for e in cell.elements) else 1.0


def explain(cells: Sequence[Cell]) -> list[str]:
    """Lines that explain how to read these cells."""
    turns = [c for c in cells if "theta_deg" in c.numbers]
    notes = []
    if turns:
        notes.append("Blue: the turns a layer keeps, 0° up, counter-clockwise.")
    if any(c.elements for c in turns):
        notes.append("Orange ring: the same turns after a mirroring, as thick as P(m); a full ring is P(m) = 1.")
    if any(c.elements for c in cells if c not in turns):
        notes.append("Marks: the elements, each filled in proportion to its P; blue turns (e up), orange mirrorings.")
    if any(c.seeds > 1 for c in cells):
        notes.append("Filled is the mean over the seeds; thin lines are single seeds.")
    return notes


def _sector(axes: Axes, cell: Cell) -> None:
    """Draw [−θ, θ], about its centre if there is one, as a sector, and mirrorings as a ring of thickness P(m)."""
    thetas = [min(180.0, theta) for theta in cell.numbers["theta_deg"]]
    centres = cell.numbers.get("centre_deg", [0.0] * len(thetas))
    theta, centre, outer = mean(thetas), mean(centres), RING[0] - 0.1 if cell.elements else RING[1]
    axes.add_patch(Circle((0, 0), outer, fc=PALE, ec="none"))
    _wedge(axes, outer, centre, theta, outer, BLUE, "turns")
    _edges(axes, centres, thetas, 0, outer)
    about = f" about {centre:.0f}°" if "centre_deg" in cell.numbers and theta < WHOLE else ""
    lines = [f"±{theta:.{int(179.5 <= theta < 179.95)}f}°{about}"]
    if cell.elements:
        inner, rim = RING
        probabilities = cell.probabilities("m")
        axes.add_patch(Wedge((0, 0), rim, 0, 360, width=rim - inner, fc=PALE, ec="none"))
        thick = (rim - inner) * mean(probabilities)
        _wedge(axes, inner + thick, centre, theta, thick, ORANGE, "mirrored turns")
        for p in probabilities if len(set(probabilities)) > 1 else []:
            _arc(axes, inner + (rim - inner) * p, centre, theta)
        lines.append(f"P(m) {share(mean(probabilities))}")
    axes.plot([0, 0], [1.02, 1.12], color=GREY, lw=0.8, solid_capstyle="butt")
    for i, line in enumerate(lines):
        _write(axes, 0, -1.2 - 0.3 * i, line)


def _wedge(axes: Axes, radius: float, centre: float, theta: float, width: float, color: str, label: str) -> None:
    whole = theta >= WHOLE
    angles = (0, 360) if whole else (90 + centre - theta, 90 + centre + theta)
    axes.add_patch(Wedge((0, 0), radius, *angles, width=width, fc=color, ec="none", alpha=0.85, label=label))


def _edges(axes: Axes, centres: Sequence[float], thetas: Sequence[float], inner: float, outer: float) -> None:
    """Draw the edges of each seed's sector; a whole circle has none."""
    for centre, theta in zip(centres, thetas, strict=True):
        for sign in (-1, 1) if theta < WHOLE else ():
            turn = math.radians(centre + sign * theta)
            x, y = -math.sin(turn), math.cos(turn)
            axes.plot([inner * x, outer * x], [inner * y, outer * y], color=DEEP, lw=0.5, label="seed")


def _arc(axes: Axes, radius: float, centre: float, theta: float) -> None:
    angles = [math.radians(90 + centre - theta + 2 * theta * k / 90) for k in range(91)]
    x, y = [radius * math.cos(a) for a in angles], [radius * math.sin(a) for a in angles]
    axes.plot(x, y, color=DEEP, lw=0.5, label="seed")


def _pair(axes: Axes, cell: Cell) -> None:
    """Draw e and m on the two sides of a mirror line."""
    axes.plot([0, 0], [-0.25, 1.1], color=GREY, lw=0.8, ls=(0, (3, 3)))
    for x, element, color in ((-0.55, "e", BLUE), (0.55, "m", ORANGE)):
        _mark(axes, (x, 0.42), 0.42, cell.probabilities(element), color)
        _write(axes, x, 1.02, element, color=GREY)
        _write(axes, x, -0.22, share(mean(cell.probabilities(element))))


def _marks(axes: Axes, names: Sequence[str], cell: Cell, color: str, y: float = 0.0) -> None:
    """Draw one mark for each element at its angle."""
    radius = min(0.2, 0.85 * ORBIT * math.sin(math.pi / max(2, len(names))))
    for name in names:
        degrees = re.match(r"[\d.]+", name)
        turn = math.radians(float(degrees[0]) if degrees else 0.0)
        x, up = -math.sin(turn), math.cos(turn)
        _mark(axes, (ORBIT * x, ORBIT * up + y), radius, cell.probabilities(name), color)
        if len(names) <= CROWDED:
            text = share(mean(cell.probabilities(name))) if name != "e" else "e"
            _write(axes, 1.03 * x, 0.97 * up + y, text, size=6.5)
    if len(names) > CROWDED:
        means = sorted(mean(cell.probabilities(name)) for name in names if name != "e")
        low, high = share(means[0]), share(means[-1])
        _write(axes, 0, y - 1.05, f"P {low}" if low == high else f"P {low} to {high}", size=7)
    _write(axes, 0, y, "mirrored" if y else "turned", size=6, color=GREY)


def _mark(axes: Axes, at: tuple[float, float], radius: float, probabilities: Sequence[float], color: str) -> None:
    """Draw a circle whose filled area is the mean probability, with a thin circle for each seed."""
    axes.add_patch(Circle(at, radius, fc=PALE, ec="none"))
    filled = radius * math.sqrt(mean(probabilities))
    axes.add_patch(Circle(at, filled, fc=color, ec="none", alpha=0.85, label="element"))
    for p in probabilities if len(set(probabilities)) > 1 else []:
        axes.add_patch(Circle(at, radius * math.sqrt(p), fill=False, ec=DEEP, lw=0.5, label="seed"))


def _write(axes: Axes, x: float, y: float, text: str, *, size: float = 8, color: str = INK) -> None:
    axes.text(x, y, text, size=size, color=color, ha="center", va="center", parse_math=False)
