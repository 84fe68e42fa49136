"""Which images an experiment is on."""

from dataclasses import dataclass

from partialsym.checks import check, one_of

DATASETS = (
    "digits-6-180",
    "digits-6-M",
    "MNIST",
    "MNIST6-180",
    "MNIST6-M",
    "rotMNIST",
    "CIFAR-10",
    "CIFAR-100",
    "PCam",
)
AUGMENTATIONS = ("crop", "flip")


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Args:
        name: digits-6-180, digits-6-M (embedded), MNIST, MNIST6-180, MNIST6-M, rotMNIST, CIFAR-10, CIFAR-100 or PCam.
        root: directory that holds the files; else PARTIALSYM_DATA, else a download.
        validation: share of the training originals held out for validation, in (0, 0.5]; rotMNIST and PCam have a
            validation split of their own.
        split_seed: seed of that split; the same for every training seed, so that seeds differ in training alone.
        train_images: the first so many images of the training split, in an order of their own; default all.
        augment: of training batches: crop (4 pixels of zeros, shifted at random), flip (left-right, half of them).
    """

    name: str = "MNIST6-180"
    root: str | None = None
    validation: float = 0.1
    split_seed: int = 0
    train_images: int | None = None
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("data.name", self.name, DATASETS)
        check("data.validation", self.validation, 0 < self.validation <= 0.5, "in (0, 0.5]")
        check("data.split_seed", self.split_seed, self.split_seed >= 0, "at least 0")
        least = self.train_images is None or self.train_images >= 2
        check("data.train_images", self.train_images, least, "at least 2")
        for name in self.augment:
            one_of("data.augment", name, AUGMENTATIONS)
