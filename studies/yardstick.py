"""The networks of `ask` beside a plain CNN of torch's layers, in equal processor time.

`python -m studies.yardstick --train` trains them. Without `--train`, the table of docs/ask.md is written from
results/yardstick/. All images are training images of MNIST and CIFAR-10, so that no test image had a part in the choice
of the networks of `ask`.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import partialsym as ps
from benchmarks.folders import KINDS
from benchmarks.tables import fill
from partialsym._utils.atomic import replace_text
from partialsym.ask.methods import AUGMENTATIONS, AUGMENTED, Shape, methods
from partialsym.ask.planning import BATCH, RATE, RATES, RECALIBRATION
from partialsym.data import Preprocessing, as_float, load
from partialsym.data.transforms import augmentation
from partialsym.reproduction.table import mean_std
from partialsym.runs.provenance import provenance
from partialsym.runs.schema import read_json
from partialsym.training.fit import build_model

FORMAT = 1
HERE = Path(__file__).resolve().parents[1]
RESULT, DOCUMENT = HERE / "results" / "yardstick" / "yardstick.json", HERE / "docs" / "ask.md"
GROUP, SIDE, SECONDS, SEEDS = "E2", 32, 15.0, (0, 1, 2)
IMAGES = {"digits-turned": 500, "cifar-4": 700}  # kind → training images
ANSWERED = 2000  # other images
TITLES = {"digits-turned": "digits turned within ±180°", "cifar-4": "four classes of CIFAR-10"}
DENSITY_RATE = 1e-2
PLAIN_RATE = 1e-2  # of 3e-3, 1e-2 and 3e-2 the best for the plain CNN in trials


class PlainCNN(nn.Module):
    """Three stages of a 3×3 convolution, BatchNorm, ReLU and 2×2 maxima; the mean; a linear layer."""

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean((2, 3)))


class Images(NamedTuple):
    """Training images [N, C, SIDE, SIDE] in [0, 1] with labels [N]; test images `answered` with labels `truth`."""

    learned: Tensor
    labels: Tensor
    answered: Tensor
    truth: Tensor
    classes: int


def images(kind: str) -> Images:
    """Images of one kind of `benchmarks.folders`, all from the training images of its data set."""
    name, make = KINDS[kind]
    split, generator = load(name).train, torch.Generator().manual_seed(77)
    pixels, classes = make(split[torch.randperm(len(split), generator=generator)[:20_000]], generator)
    names = sorted(set(classes))
    pixels = as_float(pixels[: IMAGES[kind] + ANSWERED])
    if pixels.shape[-1] != SIDE:
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    labels = torch.tensor([names.index(c) for c in classes[: len(pixels)]])
    n = IMAGES[kind]
    return Images(pixels[:n], labels[:n], pixels[n:], labels[n:], len(names))


def networks(found: Images) -> dict[str, tuple[Callable[[], nn.Module], bool, float]]:
    """Title → what makes the network, whether its images are augmented, its learning rate."""
    channels, classes = found.learned.shape[1], found.classes
    made: dict[str, tuple[Callable[[], nn.Module], bool, float]] = {
        f"plain CNN of torch, {'-'.join(map(str, widths))}, augmented": (
            partial(PlainCNN, channels, classes, widths),
            True,
            PLAIN_RATE,
        )
        for widths in ((16, 32, 64), (32, 64, 128))
    }
    for width, names in ((16, (AUGMENTED,)), (8, (AUGMENTED, "SE2-full", "E2-full", "E2-partial"))):
        for name in names:
            config = methods(GROUP, Shape((SIDE, SIDE), channels, classes), width)[name]
            made[f"ask's {name}, width {width}"] = (
                partial(build_model, config, channels, classes),
                name == AUGMENTED,
                RATES.get(config.kernel, RATE),
            )
    siren = replace(methods(GROUP, Shape((SIDE, SIDE), channels, classes), 8)["SE2-full"], kernel="SIREN")
    for rate in (RATE, PLAIN_RATE):
        title = f"SE2-full, width 8, with a SIREN, rate {rate:g}"
        made[title] = partial(build_model, siren, channels, classes), False, rate
    return made


def trained(make: Callable[[], nn.Module], augmented: bool, rate: float, found: Images, seed: int) -> dict[str, float]:
    """Train a network for SECONDS of processor time on one thread; return its steps, seconds and accuracy."""
    torch.manual_seed(seed)
    net, dims = make(), (0, 2, 3)
    ready = Preprocessing(tuple(found.learned.mean(dims).tolist()), tuple(found.learned.std(dims).tolist()))
    augment = augmentation(AUGMENTATIONS[GROUP]) if augmented else None
    groups = ps.parameter_groups(net, lr=rate, density_lr=DENSITY_RATE)
    optimiser = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimiser.param_groups]

    def step() -> None:
        index = torch.randint(len(found.learned), (BATCH,))
        batch = found.learned[index] if augment is None else augment(found.learned[index])
        optimiser.zero_grad()
        F.cross_entropy(net(ready(batch)), found.labels[index]).backward()
        optimiser.step()

    for _ in range(5):  # the first steps are slower
        step()
    start = time.process_time()
    for _ in range(10):
        step()
    steps = int(SECONDS / (time.process_time() - start) * 10)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps + 1)
    start = time.process_time()
    for _ in range(steps):
        step()
        schedule.step()
    seconds = time.process_time() - start
    if any(isinstance(module, ps.BatchNorm) for module in net.modules()):
        ps.recalibrate(net, [ready(found.learned[:RECALIBRATION])])
    net.eval()
    with torch.no_grad():
        answers = torch.cat([net(ready(batch)) for batch in found.answered.split(250)]).argmax(1)
    right = float((answers == found.truth).double().mean())
    return {"steps": steps, "seconds": seconds, "accuracy": right}


def measured(kinds: list[str]) -> dict[str, Any]:
    """Everything in the result, of these kinds of images."""
    torch.set_num_threads(1)
    origin, found = provenance(), {}
    for kind in kinds:
        data = images(kind)
        found[kind] = {
            title: [trained(*terms, data, seed) for seed in SEEDS] for title, terms in networks(data).items()
        }
    return {"format": FORMAT, **origin, "seconds": SECONDS, "kinds": found}


def texts() -> dict[str, str]:
    """Mark of the document → the text between its marks."""
    kinds = read_json(RESULT)["kinds"] if RESULT.exists() else {}
    lines = [
        "| network | " + " | ".join(f"{TITLES[kind]}, % | steps" for kind in kinds) + " |",
        "| --- |" + " --- | --- |" * len(kinds),
    ]
    for title in next(iter(kinds.values()), {}):
        cells = [title]
        for found in kinds.values():
            cells.append(mean_std([100 * one["accuracy"] for one in found[title]], 1))
            cells.append(f"{sorted(one['steps'] for one in found[title])[len(SEEDS) // 2]:,}")
        lines.append("| " + " | ".join(cells) + " |")
    return {"yardstick": "\n".join(lines) if kinds else ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true", help="train anew, about fifteen minutes on one core")
    if parser.parse_args().train:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        replace_text(RESULT, json.dumps(measured(list(IMAGES)), indent=1) + "\n")
    for mark, text in texts().items():
        fill(DOCUMENT, mark, text)


if __name__ == "__main__":
    main()
