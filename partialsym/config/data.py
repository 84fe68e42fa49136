"""Which images an experiment uses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from partialsym._utils.validation import check, one_of
from partialsym.registry import DATASETS

AUGMENTATIONS = ("crop", "flip", "rotate")
PAIRED = ("-180", "-M")  # endings of named data sets of images and their copies
OWN = ("test", "folds", "fold", "split_by", "size", "fit", "channels", "range", "stream", "workers")
HF = ("subset", "image", "label")


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Args:
        name: digits-6-180, digits-6-M (embedded), MNIST, MNIST6-180, MNIST6-M, the same two with resplit- before them
            (another test split), rotMNIST, sectors-<K> with K of 2, 3, 4, 6, CIFAR-10, CIFAR-100, PCam or a registered
            one; for a Hugging Face data set, its name; for a folder, any name. Default MNIST6-180, or the name of the
            folder.
        source: named, folder (DIR/train/CLASS/*, or DIR/CLASS/*) or hf (a Hugging Face data set). The short form is
            `--data folder`.
        root: directory of the files; default PARTIALSYM_DATA, else they are downloaded. For a folder of images, that
            folder.
        validation: share of the training originals that forms the validation split, in (0, 0.5], if the data have none
            (rotMNIST and PCam have one).
        test: for own images, the share that forms the test split, in (0, 0.5], if the data have none.
        split_seed: seed of these splits. It is the same for every training seed, so that seeds differ only in training.
        folds: for own images without a test split, divide them into this number of equal folds, at least 2; the test
            split is the fold with the number `fold`, not the share `test`.
        fold: which fold is the test split, counted from 0.
        split_by: for own images, what belongs together (a patient, a slide, a place) and so is never divided between
            two splits or folds. For a folder, a regular expression that is searched in the name of each file, such as
            p[0-9]+; its first group counts, if it has one. For a Hugging Face data set, a column.
        size: for own images, height and width in pixels, or one number for both; default their own size, if all are
            equal.
        fit: how own images are brought to that size: resize; crop (scale until the shorter side fits, then cut out the
            centre); or centre (cut out the centre without rescaling).
        channels: for own images, 1 for grey or 3 for RGB; default 1 if all are grey.
        range: for own 16-bit images, the values that become black and white, such as 0 4095; default the smallest and
            the largest value of the training images.
        subset, image, label: for a Hugging Face data set, its configuration, and its columns of images and of labels;
            default the only ones that exist.
        stream: for own images, read them from their files when a batch needs them, if they do not fit into memory.
            Training on a folder gives the same result as in memory, bit for bit. A Hugging Face data set must have
            validation and test images; only those are read before training.
        workers: for streamed images, the number of processes that read them for each training process. A resumed run
            may use another number.
        train_images: use only this number of training images, selected in a fixed order; default all.
        test_images: use only this number of test images, selected at random by split_seed, with equally many of every
            class if there are enough; default all.
        augment: changes to training batches: crop (pad by 4 pixels of zeros, shift at random), flip (left-right, half
            of the images), rotate (half of the images by any angle, the others by a multiple of 90 degrees).
    """

    name: str | None = None
    source: Literal["named", "folder", "hf"] = "named"
    root: str | None = None
    validation: float = 0.1
    test: float = 0.2
    split_seed: int = 0
    folds: int | None = None
    fold: int = 0
    split_by: str | None = None
    size: int | tuple[int, int] | None = None
    fit: Literal["resize", "crop", "centre"] = "resize"
    channels: Literal[1, 3] | None = None
    range: tuple[int, int] | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
    stream: bool = False
    workers: int = 2
    train_images: int | None = None
    test_images: int | None = None
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
        check("data.folds", self.folds, self.folds is None or self.folds >= 2, "at least 2")
        right = "0 without folds" if self.folds is None else f"in [0, {self.folds}), one of the folds"
        check("data.fold", self.fold, 0 <= self.fold < (self.folds or 1), right)
        check("data.split_seed", self.split_seed, self.split_seed >= 0, "at least 0")
        sides = self.size if isinstance(self.size, tuple) else (self.size or 1,)
        check("data.size", self.size, all(side >= 1 for side in sides), "at least 1")
        low, high = self.range or (0, 1)
        check("data.range", self.range, 0 <= low < high <= 65535, "two numbers, 0 <= low < high <= 65535")
        least = self.train_images is None or self.train_images >= 2
        check("data.train_images", self.train_images, least, "at least 2")
        whole = self.train_images is None or not self.stream or self.source != "hf"
        check("data.train_images", self.train_images, whole, "left out: a Hugging Face data set is streamed whole")
        least = self.test_images is None or self.test_images >= 1
        check("data.test_images", self.test_images, least, "at least 1")
        paired = self.source == "named" and str(self.name).endswith(PAIRED)
        whole = not paired or (self.test_images or 0) % 2 == 0
        check("data.test_images", self.test_images, whole, "even, so that images and their copies stay together")
        check("data.workers", self.workers, self.workers >= 0, "at least 0")
        for name in self.augment:
            one_of("data.augment", name, AUGMENTATIONS)

    def complete(self) -> "DataConfig":
        """The config with its name filled in.

        The name of a saved Hugging Face data set becomes its absolute path, which is valid from any directory.

        Raises:
            ConfigError: the name of a Hugging Face data set, or the root of a folder, is missing.
        """
        if self.source == "hf":
            check("data.name", self.name, bool(self.name), "that of the Hugging Face data set")
            place = Path(str(self.name)).expanduser()
            return replace(self, name=str(place.resolve())) if place.is_dir() else self
        if self.name is not None:
            return self
        check("data.root", self.root, self.source == "named" or bool(self.root), "the folder of the images")
        return replace(self, name="MNIST6-180" if self.source == "named" else Path(str(self.root)).resolve().name)
