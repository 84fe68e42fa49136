"""What `ask` sees of images whose symmetries are known: `python -m studies.visibility --look` looks anew, in minutes.

Without it, the table of docs/ask.md is written from results/visibility/.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.tables import fill
from partialsym._utils.atomic import replace_text
from partialsym.ask import TRANSFORMATIONS, visibility
from partialsym.ask.look import plain
from partialsym.data import load
from partialsym.data.sources.rotmnist import turned
from partialsym.runs.provenance import provenance
from partialsym.runs.schema import read_json

FORMAT = 1
HERE = Path(__file__).resolve().parents[1]
RESULT, DOCUMENT = HERE / "results" / "visibility" / "visibility.json", HERE / "docs" / "ask.md"
IMAGES = 1000
SHOWN = TRANSFORMATIONS["E2"]


def digits(spread: float, *, mirrored: bool = False, count: int = IMAGES) -> Tensor:
    """Digits of MNIST, each turned by an angle uniform within ±spread degrees; half of them mirrored first."""
    generator = torch.Generator().manual_seed(1)
    split = load("MNIST").train
    images = split.images[torch.randperm(len(split), generator=generator)[:count]]
    if mirrored:
        flip = torch.rand(count, generator=generator) < 0.5
        images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    angles = torch.deg2rad(spread * (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1))
    return turned(images, angles) if spread else images


def photographs() -> Tensor:
    """Of CIFAR-10."""
    split = load("CIFAR-10").train
    return split.images[torch.randperm(len(split), generator=torch.Generator().manual_seed(1))[:IMAGES]]


def noise() -> Tensor:
    """Every pixel by itself."""
    return torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


KINDS: dict[str, Callable[[], Tensor]] = {
    "digits turned within ±180°": lambda: digits(180),
    "the same, half of them mirrored": lambda: digits(180, mirrored=True),
    "digits turned within ±60°": lambda: digits(60),
    "digits turned within ±20°": lambda: digits(20),
    "the same, 200 images": lambda: digits(20, count=200),
    "CIFAR-10": photographs,
    "white noise": noise,
}


def looked() -> dict[str, Any]:
    """Everything in visibility.json."""
    origin = provenance()  # before the minutes that follow
    found = {name: [plain(one) for one in visibility(make(), SHOWN)] for name, make in KINDS.items()}
    return {"format": FORMAT, **origin, "kinds": found}


def texts() -> dict[str, str]:
    """What stands between the marks of the document."""
    lines = [
        "| images | pairs | " + " | ".join(one.name for one in SHOWN) + " |",
        "| --- | --- |" + " --- |" * len(SHOWN),
    ]
    for name, seen in read_json(RESULT)["kinds"].items():
        shares = [f"{100 * one['share']['mean']:.0f} %, {one['answer']}" for one in seen]
        lines.append("| " + " | ".join([name, f"{seen[0]['pairs']:,}", *shares]) + " |")
    return {"visibility": "\n".join(lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--look", action="store_true", help="train all networks anew")
    if parser.parse_args().look:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        replace_text(RESULT, json.dumps(looked(), indent=1, ensure_ascii=False) + "\n")
    for mark, text in texts().items():
        fill(DOCUMENT, mark, text)


if __name__ == "__main__":
    main()
