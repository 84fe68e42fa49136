"""Which images an experiment is on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from partialsym._utils.validation import check, one_of
from partialsym.registry import DATASETS

AUGMENTATIONS = ("crop", "flip")
OWN, HF = ("test", "size", "fit", "channels", "range", "stream", "workers"), ("subset", "image", "label")


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Args:
        name: digits-6-180, digits-6-M (embedded), MNIST, MNIST6-180, MNIST6-M, rotMNIST, sectors-<K> with K of 2, 3, 4,
            6, CIFAR-10, CIFAR-100, PCam or one that was registered. A Hugging Face data set has its own name. A folder
            has the name that you give it. Default: MNIST6-180, or the folder's name.
        source: named, folder (DIR/train/CLASS/*, or DIR/CLASS/*) or hf (a Hugging Face data set); `--data folder` for
            short.
        root: directory that holds the files; else PARTIALSYM_DATA, else a download. Of a folder, that.
        validation: share of the training originals held out for validation, in (0, 0.5], where there is no validation
            split (rotMNIST and PCam have one).
        test: of own images, the share held out for the test, in (0, 0.5], where there is no test split.
        split_seed: seed of that split; the same for every training seed, so that seeds differ in training alone.
        size: of own images, height and width in pixels, or one number for both; default theirs, if all have the same.
        fit: how own images get that size: resize, or crop (scaled until the shorter side fits, then the centre).
        channels: of own images, 1 for grey or 3 for RGB; default 1 if all are grey.
        range: of own images of 16 bits, the values that are black and white, such as 0 4095; default the least and the
            largest of the training images.
        subset, image, label: of a Hugging Face data set, its configuration, and its columns of images and of labels;
            default the only ones there are.
        stream: of own images, leave them where they are and read them when they are needed: for more than memory holds.
            A folder trains as it would in memory, bit for bit; of a Hugging Face data set only validation and test
            images are read beforehand, and it must have both.
        workers: of own images that are streamed, processes that read them, for each process that trains; may be another
            when a run is resumed.
        train_images: the first so many images of the training split, in an order of their own; default all.
        augment: of training batches: crop (4 pixels of zeros, shifted at random), flip (left-right, half of them).
    """

    name: str | None = None
    source: Literal["named", "folder", "hf"] = "named"
    root: str | None = None
    validation: float = 0.1
    test: float = 0.2
    split_seed: int = 0
    size: int | tuple[int, int] | None = None
    fit: Literal["resize", "crop"] = "resize"
    channels: Literal[1, 3] | None = None
    range: tuple[int, int] | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
    stream: bool = False
    workers: int = 2
    train_images: int | None = None
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.source == "named" and self.name is not None:
            one_of("data.name", self.name, DATASETS)
        for keys, source in ((OWN, "named"), (HF, "named"), (HF, "folder")):
            for key in keys if source == self.source else ():
                value, default = getattr(self, key), getattr(DataConfig, key)
                others = "own images (--data folder)" if keys is OWN else "a Hugging Face data set (--data hf)"
                check(f"data.{key}", value, value == default, f"left out: it is for {others}")
        for key in ("validation", "test"):
            check(f"data.{key}", getattr(self, key), 0 < getattr(self, key) <= 0.5, "in (0, 0.5]")
        check("data.split_seed", self.split_seed, self.split_seed >= 0, "at least 0")
        sides = self.size if isinstance(self.size, tuple) else (self.size or 1,)
        check("data.size", self.size, all(side >= 1 for side in sides), "at least 1")
        low, high = self.range or (0, 1)
        check("data.range", self.range, 0 <= low < high <= 65535, "two numbers, 0 <= low < high <= 65535")
        least = self.train_images is None or self.train_images >= 2
        check("data.train_images", self.train_images, least, "at least 2")
        whole = self.train_images is None or not self.stream or self.source != "hf"
        check("data.train_images", self.train_images, whole, "left out: a Hugging Face data set is streamed whole")
        check("data.workers", self.workers, self.workers >= 0, "at least 0")
        for name in self.augment:
            one_of("data.augment", name, AUGMENTATIONS)

    def complete(self) -> "DataConfig":
        """With a name: of a saved Hugging Face data set its whole path, which holds wherever it is read from."""
        if self.source == "hf":
            check("data.name", self.name, bool(self.name), "that of the Hugging Face data set")
            place = Path(str(self.name)).expanduser()
            return replace(self, name=str(place.resolve())) if place.is_dir() else self
        if self.name is not None:
            return self
        check("data.root", self.root, self.source == "named" or bool(self.root), "the folder of the images")
        return replace(self, name="MNIST6-180" if self.source == "named" else Path(str(self.root)).resolve().name)
