"""The sixes of scikit-learn's digits with rotated or reflected copies: a data set that needs no download."""

import os

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from partialsym.data.base import Dataset
from partialsym.data.reading.download import extra
from partialsym.data.sources.pairs import pair_classes, pairs
from partialsym.data.splitting import Labelled, assemble, split_by_original

TEST_FRACTION, TEST_SEED = 0.25, 0


def enlarge(images: Tensor) -> Tensor:
    """Images [N, C, H, W], scaled bilinearly to float32 [N, C, 28, 28]; commutes with 180° rotation and reflection."""
    # float64, because rounding in float32 breaks the symmetry in the last bits
    return interpolate(images.double(), size=(28, 28), mode="bilinear", align_corners=False).float()


def digits(
    kind: str,
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """181 sixes, 28x28, each with its copy of `kind` ("180", "M"); a fixed quarter of them is the test split.

    `root` is ignored, because scikit-learn contains the images. Statistics are those of the training split. Raises
    ImportError without scikit-learn, and ValueError for an invalid kind, fraction or seed.
    """
    name, classes = f"digits-6-{kind}", pair_classes(kind)
    raw = extra("sklearn.datasets", "demo", name).load_digits()
    sixes = torch.from_numpy(raw.images[raw.target == 6]) / 16
    everything = Labelled(*pairs(enlarge(sixes.unsqueeze(1)), kind))
    pool, test = (
        Labelled(*(field[side] for field in everything))
        for side in split_by_original(everything.originals, TEST_FRACTION, TEST_SEED)
    )
    return assemble(name, classes, pool, test, validation=validation, split_seed=split_seed)
