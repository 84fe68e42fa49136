"""CIFAR-10 and CIFAR-100: 60,000 small colour photographs in 10 or 100 classes."""

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from partialsym.data.base import Dataset, check_validation
from partialsym.data.sources.cifar_files import LAYOUTS, MIRRORS, Part, read_cifar
from partialsym.data.splitting import Labelled, assemble
from partialsym.errors import InputError

HUNDRED = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = {
    "CIFAR-10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "CIFAR-100": tuple(HUNDRED.split()),
}
STATISTICS = {  # the commonly used values, of the 50,000 training images
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
CONTENT_SHA256 = {  # `digest` of the splits in canonical order, whatever file they come from
    "CIFAR-10": {
        "train": "1bfc07133540c0f75b30d4288f9236001091c26c9886b9f37d46a8bc66fdcc6c",
        "test": "af1227671396612a0e2c37fb8b7aa96c0301f0463487e1afc591a17a607e58b2",
    },
    "CIFAR-100": {
        "train": "e8f89626d393adb13d7dab801c95b724b752e5795feae69b118bd34678f1b0ea",
        "test": "461341e8dcb42e44fd081b6a6d746918b70aa3e9b284d99eccc1bdfc670d4b60",
    },
}


def cifar(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
    mirrors: Sequence[str] = MIRRORS,
    archive_md5: str | None = None,
    batch_md5: Mapping[str, str] | None = None,
    content_sha256: Mapping[str, str] | None = None,
) -> Dataset:
    """CIFAR-10 or CIFAR-100 (fine labels), 32x32 RGB, with the official test split.

    The validation split is split off from the training images. The images are in canonical order, so that every source
    results in the same data set, including the validation split. `originals` numbers the training images, then the test
    images. The published CIFAR-100 has 10 images in both splits; they are retained with two numbers each.

    `content_sha256`: the expected `digest` of each split; a split without one is not checked. `archive_md5` is the
    expected MD5 of the archive, and `batch_md5` those of its batch files by name. A file with another MD5 is not
    unpickled. By default all three are the official ones. Raises ValueError for another name, and as `read_cifar` does.
    """
    if name not in LAYOUTS:
        raise ValueError(f"name is {name!r}: it must be one of {', '.join(map(repr, LAYOUTS))}")
    check_validation(validation, split_seed)
    layout = LAYOUTS[name]
    if archive_md5 is not None:
        layout = layout._replace(archive_md5=archive_md5)
    if batch_md5 is not None:
        given = {split: {name: batch_md5[name] for name in names} for split, names in layout.batches.items()}
        layout = layout._replace(batches=given)
    path, found = read_cifar(layout, CLASSES[name], root, mirrors=mirrors)
    splits = {split: canonical(part) for split, part in found.items()}
    for split, expected in (CONTENT_SHA256[name] if content_sha256 is None else content_sha256).items():
        if (got := digest(splits[split])) != expected:
            raise InputError(
                f"{path}: not the official {split} split: SHA-256 of its content {got}, expected {expected}"
            )
    start, parts = 0, {}
    for split, (images, labels) in splits.items():
        originals = torch.arange(start, start := start + len(images))
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        parts[split] = Labelled(pixels, torch.from_numpy(labels).long(), originals)
    pool, test, known = parts["train"], parts["test"], STATISTICS[name]
    return assemble(name, CLASSES[name], pool, test, validation=validation, split_seed=split_seed, mean_std=known)


def canonical(part: Part) -> Part:
    """The same images and labels, sorted by (SHA-256 of an image's 3,072 bytes, label)."""
    hashes = [hashlib.sha256(image).digest() for image in np.ascontiguousarray(part.images)]
    order = sorted(range(len(hashes)), key=lambda i: (hashes[i], part.labels[i]))
    return Part(part.images[order], part.labels[order])


def digest(part: Part) -> str:
    """SHA-256 of the images [N, 32, 32, 3] followed by the labels, one byte per label."""
    both = hashlib.sha256(np.ascontiguousarray(part.images).data)
    both.update(np.ascontiguousarray(part.labels).data)
    return both.hexdigest()
