"""MNIST, and its sixes with rotated or reflected copies (MNIST6-180, MNIST6-M)."""

import os
from collections.abc import Mapping, Sequence

import torch

from partialsym.data.base import Dataset, check_validation
from partialsym.data.sources.mnist_files import CONTENT_MD5, MIRRORS, read_mnist
from partialsym.data.sources.pairs import pair_classes, pairs
from partialsym.data.splitting import Labelled, assemble, split_by_original

RESPLIT_SEED = 1  # of the test split of `resplit`
STATISTICS = (0.1307, 0.3081)  # the commonly used values, of the 60,000 training images


def mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
    mirrors: Sequence[str] = MIRRORS,
    content_md5: Mapping[str, str] = CONTENT_MD5,
) -> Dataset:
    """The 70,000 digits, with the official test split; `validation` of the 60,000 training images are held out.

    `originals` numbers the training images, then the test images. For `mirrors`, `content_md5` and errors see
    `read_mnist`.
    """
    check_validation(validation, split_seed)
    pool, test = _digits(root, mirrors, content_md5)
    classes, known = tuple(str(digit) for digit in range(10)), (STATISTICS[:1], STATISTICS[1:])
    return assemble("MNIST", classes, pool, test, validation=validation, split_seed=split_seed, mean_std=known)


def mnist6(
    kind: str,
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
    resplit: bool = False,
    mirrors: Sequence[str] = MIRRORS,
    content_md5: Mapping[str, str] = CONTENT_MD5,
) -> Dataset:
    """Every "6" (5,918 training, 958 test) with its copy of `kind` ("180" rotated, "M" reflected); see `mnist`.

    `originals` are the numbers of those sixes in `mnist`. With `resplit`, the test split is not the official one: as
    many sixes are drawn from all 6,876, the same for every `split_seed`.
    """
    check_validation(validation, split_seed)
    name, classes = f"MNIST6-{kind}", pair_classes(kind)
    pool, test = (_paired(part, kind) for part in _digits(root, mirrors, content_md5))
    if resplit:
        name, both = f"resplit-{name}", Labelled(*map(torch.cat, zip(pool, test, strict=True)))
        kept, held = split_by_original(both.originals, len(test.images) / len(both.images), RESPLIT_SEED)
        pool, test = (Labelled(*(part[index] for part in both)) for index in (kept, held))
    known = STATISTICS[:1], STATISTICS[1:]
    return assemble(name, classes, pool, test, validation=validation, split_seed=split_seed, mean_std=known)


def _digits(
    root: str | os.PathLike[str] | None, mirrors: Sequence[str], content_md5: Mapping[str, str]
) -> tuple[Labelled, Labelled]:
    arrays = read_mnist(root, mirrors=mirrors, content_md5=content_md5)
    parts, start = [], 0
    for images, labels in ((arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])):
        originals = torch.arange(start, start := start + len(images))
        pixels = torch.from_numpy(images).unsqueeze(1)
        parts.append(Labelled(pixels, torch.from_numpy(labels).long(), originals))
    return parts[0], parts[1]


def _paired(part: Labelled, kind: str) -> Labelled:
    six = part.labels == 6
    images, labels, index = pairs(part.images[six], kind)
    return Labelled(images, labels, part.originals[six][index])
