"""Rows of made-up results, and what figures of them show."""

from partialsym.config import Experiment


def row(*shares, size=100, data="rotMNIST", shown=None, subsets=(), training=None, **model):
    """The results of a row, a seed a share of right answers."""
    tree = {"data": {"name": data}, "model": {"samples": 4, **model}, "training": training or {}}
    config = Experiment.from_dict({"name": "x", **tree}).to_dict()
    about = {"images": {"train": size}, "subsets": list(subsets), **({"data": shown} if shown else {})}
    return [{"config": config | {"seed": i}, "accuracy": {"test": s}, **about} for i, s in enumerate(shares)]


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def texts(figure):
    return [text.get_text() for text in figure.texts]


def panel(figure, name):
    (axes,) = [axes for axes in figure.axes if axes.get_gid() == name]
    return axes


def inside(figure):
    """As `save` draws it no text and no legend leaves the figure, and no two of its own texts overlap."""
    figure.dpi = 150
    boxes = [text.get_window_extent() for text in figure.texts]
    placed = [*boxes, *(legend.get_tightbbox() for legend in figure.legends)]
    assert all(min(b.x0, b.y0) >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in placed)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.shrunk(1, 0.8).overlaps(b.shrunk(1, 0.8))]
