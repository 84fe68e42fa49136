"""Folders of image files with known answers, made from MNIST and CIFAR-10: what `partialsym ask` is tried on.

`python -m benchmarks.folders KIND DIR --train 500 --test 1000` writes DIR/train/CLASS/*.png and DIR/test/CLASS/*.png.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from partialsym._utils.atomic import replace_file
from partialsym.data import Split, load
from partialsym.data.reading.png import png
from partialsym.data.sources.rotmnist import turned

CIFAR = ("airplane", "automobile", "bird", "cat")
SEED = 0
Labelled = tuple[Tensor, list[str]]  # uint8 images [N, C, H, W], and the class of each


def digits_69(split: Split, generator: torch.Generator) -> Labelled:
    """Upright 6 against 9: a full turn makes one the other."""
    images, labels = _only(split, (6, 9))
    return images, [str(int(k)) for k in labels]


def digits_turned(split: Split, generator: torch.Generator) -> Labelled:
    """0 to 8, each turned by a random angle of the whole circle: no orientation is special."""
    images, labels = _only(split, tuple(range(9)))
    angles = 2 * torch.pi * torch.rand(len(images), generator=generator, dtype=torch.float64)
    return turned(images, angles), [str(int(k)) for k in labels]


def digits_tilted(split: Split, generator: torch.Generator) -> Labelled:
    """0 to 8, each turned by up to 20° either way."""
    images, labels = _only(split, tuple(range(9)))
    angles = torch.pi / 9 * (2 * torch.rand(len(images), generator=generator, dtype=torch.float64) - 1)
    return turned(images, angles), [str(int(k)) for k in labels]


def sixes_turned(split: Split, generator: torch.Generator) -> Labelled:
    """Sixes, half of them turned by 180°: together they have no up and down, but that is the class."""
    images, _ = _only(split, (6,))
    half = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(half[:, None, None, None], images.rot90(2, (2, 3)), images)
    return images, ["turned" if t else "original" for t in half]


def sevens_mirrored(split: Split, generator: torch.Generator) -> Labelled:
    """Sevens, half of them mirrored."""
    images, _ = _only(split, (7,))
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    return images, ["mirrored" if f else "original" for f in flip]


def digits_mirrored(split: Split, generator: torch.Generator) -> Labelled:
    """Any digit but 0, 1 and 8, and mirrored ones: which of both is all there is to tell."""
    images, _ = _only(split, (2, 3, 4, 5, 6, 7, 9))
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    return images, ["mirrored" if f else "original" for f in flip]


def digits_shuffled(split: Split, generator: torch.Generator) -> Labelled:
    """Digits with labels that no image tells."""
    labels = torch.randint(0, 2, (len(split),), generator=generator)
    return split.images[:], ["heads" if k else "tails" for k in labels]


def cifar_4(split: Split, generator: torch.Generator) -> Labelled:
    """Four classes of photographs."""
    images, labels = _only(split, tuple(range(len(CIFAR))))
    return images, [CIFAR[int(k)] for k in labels]


KINDS: dict[str, tuple[str, Callable[[Split, torch.Generator], Labelled]]] = {
    "digits-69": ("MNIST", digits_69),
    "digits-turned": ("MNIST", digits_turned),
    "digits-tilted": ("MNIST", digits_tilted),
    "sixes-turned": ("MNIST", sixes_turned),
    "sevens-mirrored": ("MNIST", sevens_mirrored),
    "digits-mirrored": ("MNIST", digits_mirrored),
    "digits-shuffled": ("MNIST", digits_shuffled),
    "cifar-4": ("CIFAR-10", cifar_4),
}


def write_folder(kind: str, folder: Path, train: int, test: int, seed: int = SEED, root: str | None = None) -> None:
    """Write the images; raises ValueError where there are not so many."""
    name, make = KINDS[kind]
    data, generator = load(name, root), torch.Generator().manual_seed(seed)
    for which, split, count in (("train", data.train, train), ("test", data.test, test)):
        images, classes = make(split[torch.randperm(len(split), generator=generator)[: 20 * count]], generator)
        if len(images) < count:
            raise ValueError(f"{kind} has {len(images)} {which} images, not {count}.")
        for i, (image, label) in enumerate(zip(images[:count], classes[:count], strict=True)):
            content = png(image)
            replace_file(folder / which / label / f"{i:05}.png", partial(Path.write_bytes, data=content))


def _only(split: Split, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    chosen = torch.isin(split.labels, torch.tensor(labels))
    return split.images[chosen], split.labels[chosen]


def _main() -> Iterator[str]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    write_folder(options.kind, options.folder, options.train, options.test, options.seed)
    yield f"{options.train} and {options.test} images: {options.folder}"


if __name__ == "__main__":
    for line in _main():
        sys.stdout.write(f"{line}\n")
