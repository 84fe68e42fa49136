"""What lifting a trained network is worth: a plain CNN on CIFAR-10, lifted to E(2), both tuned on turned images.

`python -m studies.lifting` trains the seeds that results/lifting/ lacks, some minutes each on one core, and writes the
table of docs/lifting.md; with `--table` the table alone. All settings were chosen once, before any of these numbers.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import partialsym as ps
from benchmarks.tables import fill
from partialsym._utils.atomic import replace_text
from partialsym.data import Dataset, Preprocessing, Split, load
from partialsym.models import named_densities
from partialsym.reproduction.table import mean_std
from partialsym.runs.provenance import provenance
from partialsym.runs.schema import read_json
from partialsym.warp import warp

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "results" / "lifting", ROOT / "docs" / "lifting.md"
FORMAT, SEEDS = 1, (0, 1, 2)
ANGLES = tuple(range(0, 360, 45))
NETWORKS = {
    "plain": "plain CNN",
    "plain tuned": "plain CNN, tuned on turned images",
    "lifted": "lifted to E(2)",
    "lifted tuned": "lifted to E(2), tuned on turned images",
}


@dataclass(frozen=True)
class Settings:
    """Of one seed; `tuning` images pass in each of the tuning epochs, turned by any angle and mirrored by chance."""

    images: int = 5000
    epochs: int = 8
    tuning: int = 2000
    tuning_epochs: int = 2
    test: int = 400
    width: int = 12
    batch: int = 50
    learning_rate: float = 4e-3
    tuning_rate: float = 1e-3
    samples: int = 8


class PlainCNN(nn.Module):
    """Three pairs of 3×3 convolutions with BatchNorm and ReLU, maxima in between, the mean, a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = 3
        for stage in range(3):
            layers += [nn.MaxPool2d(2)] * bool(stage)
            for _ in range(2):
                out = width << stage
                layers += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                into = out
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(into, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each by an angle of its own, every other mirrored by chance; the border goes on outside."""
    angle = 2 * math.pi * torch.rand(len(images), 1, generator=generator)
    matrices = ps.E2().exp(angle) @ ps.E2().components[torch.randint(2, (len(images),), generator=generator)].float()
    return warp(images, matrices, padding="border")


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every other mirrored left-right by chance."""
    chance = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chance, images.flip(3), images)


def trained(
    model: nn.Module,
    split: Split,
    ready: Preprocessing,
    augmented: Callable[[Tensor, torch.Generator], Tensor],
    *,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
) -> nn.Module:
    """The same model, trained on every image once an epoch, in eval mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(split) / batch)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(split), generator=generator).split(batch):
            images = augmented(ready(split.images[index]), generator)
            optimiser.zero_grad()
            F.cross_entropy(model(images), split.labels[index]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracies(model: nn.Module, split: Split, ready: Preprocessing) -> list[float]:
    """The share of right answers to the images turned by each of ANGLES."""
    found = []
    for angle in ANGLES:
        h = ps.SE2().exp(torch.tensor([[math.radians(angle)]]))
        right = 0
        for index in torch.arange(len(split)).split(100):
            images = warp(ready(split.images[index]), h, padding="border")
            right += int((model(images).argmax(1) == split.labels[index]).sum())
        found.append(right / len(split))
    return found


def result(seed: int, data: Dataset, settings: Settings) -> dict[str, Any]:
    """One seed: a plain network trained on upright images; it and its lifted copy, before and after tuning."""
    ready = Preprocessing(data.mean, data.std)
    train = data.train[torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))]
    test, few = data.test[: settings.test], train[: settings.tuning]
    shared: dict[str, Any] = {"batch": settings.batch, "seed": seed}
    torch.manual_seed(seed)
    plain = PlainCNN(settings.width, len(data.classes))
    upright = train[: settings.images]
    trained(plain, upright, ready, flipped, epochs=settings.epochs, rate=settings.learning_rate, **shared)
    found = {"plain": accuracies(plain, test, ready)}
    tuning: dict[str, Any] = {"epochs": settings.tuning_epochs, "rate": settings.tuning_rate, **shared}
    example = ready(test.images[:20])
    lifted = ps.lift(plain, "E2", example=example, samples=settings.samples)
    found["lifted"] = accuracies(lifted, test, ready)
    longer = trained(copy.deepcopy(plain), few, ready, turned, **tuning)
    found["plain tuned"] = accuracies(longer, test, ready)
    trained(lifted, few, ready, turned, **tuning)
    generator = torch.Generator().manual_seed(seed)
    ps.recalibrate(
        lifted, [turned(ready(few.images[i : i + 100]), generator) for i in range(0, min(len(few), 400), 100)]
    )
    found["lifted tuned"] = accuracies(lifted, test, ready)
    assert lifted.report is not None
    return {
        "format": FORMAT,
        "seed": seed,
        "settings": asdict(settings),
        "angles": list(ANGLES),
        "accuracy": {name: found[name] for name in NETWORKS},
        "parameters": {
            "plain": sum(p.numel() for p in plain.parameters()),
            "lifted": sum(p.numel() for p in lifted.parameters()),
        },
        "subsets": [{"layer": name, **density.support()} for name, density in named_densities(lifted)],
        "identity": lifted.report.identity,
        "moved": [change.place for change in lifted.report.changes],
        **provenance(),
    }


def results(folder: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """Those that there are, by seed."""
    for file in sorted(folder.glob("seed*.json")):
        yield read_json(file)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """A line a network: accuracy upright, at quarter turns, between them, and the mean, in percent over seeds."""
    columns = {
        "upright": lambda angle: angle == 0,
        "at 90°, 180°, 270°": lambda angle: angle % 90 == 0 and angle > 0,
        "at 45°, 135°, …": lambda angle: angle % 90 == 45,
        "all angles": lambda angle: True,
    }
    lines = ["| network | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name, title in NETWORKS.items():
        cells = []
        for chosen in columns.values():
            rows = [
                [a for a, angle in zip(r["accuracy"][name], r["angles"], strict=True) if chosen(angle)] for r in found
            ]
            cells.append(mean_std([100 * sum(row) / len(row) for row in rows], 1) if rows else "")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def texts() -> dict[str, str]:
    """What stands between the marks of the document."""
    return {"lifting": table(list(results()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data; default: PARTIALSYM_DATA")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    missing = [seed for seed in options.seeds if not (options.out / f"seed{seed}.json").exists() and not options.table]
    data = load("CIFAR-10", options.data) if missing else None
    for seed in missing:
        assert data is not None
        text = json.dumps(result(seed, data, Settings()), indent=1, ensure_ascii=False)
        options.out.mkdir(parents=True, exist_ok=True)
        replace_text(options.out / f"seed{seed}.json", text + "\n")
    if options.out == RESULTS:
        for mark, text in texts().items():
            fill(DOCUMENT, mark, text)


if __name__ == "__main__":
    main()
