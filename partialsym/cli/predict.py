"""Classes of image files, in three formats."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from partialsym.data.reading import read_images, shown
from partialsym.measure import logits
from partialsym.runs.run import Run


def run(options: Namespace) -> None:
    trained = Run(Path(options.run)).model()
    files, channels = [Path(f) for f in options.images], len(trained.preprocess.mean)
    images = read_images(files, trained.size, channels, trained.fit, trained.range)
    shares = logits(trained.model, images, trained.preprocess).softmax(1).tolist()
    sys.stdout.write(WRITERS[options.format](options.images, trained.classes, shares))


def _as_text(files: Sequence[str], classes: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    rows = zip(files, _best(classes, shares), shares, strict=True)
    return "".join(f"{shown(file)}\t{shown(name)}\t{max(p):.4f}\n" for file, name, p in rows)


def _as_csv(files: Sequence[str], classes: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", "class", *classes])
    for file, name, p in zip(files, _best(classes, shares), shares, strict=True):
        rows.writerow([file, name, *(f"{share:.6f}" for share in p)])
    return text.getvalue()


def _as_json(files: Sequence[str], classes: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    rows = [
        {"file": file, "class": name, "probabilities": dict(zip(classes, p, strict=True))}
        for file, name, p in zip(files, _best(classes, shares), shares, strict=True)
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _best(classes: Sequence[str], shares: Sequence[Sequence[float]]) -> list[str]:
    return [classes[p.index(max(p))] for p in shares]


WRITERS = {"text": _as_text, "csv": _as_csv, "json": _as_json}
