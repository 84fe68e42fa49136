"""What a model has learned and how it behaves: numbers, no pictures. Evaluation is in float32, in eval mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from partialsym.data import Split, as_float, normalise
from partialsym.groups.base import rotation
from partialsym.inference import evaluating, sampled
from partialsym.models import named_densities
from partialsym.warp import warp

BATCH = 256
ANGLES = tuple(range(0, 360, 15))


@dataclass(frozen=True)
class Preprocessing:
    """What lies between pixels (uint8, or in [0, 1]) and the model: per-channel mean and standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std)


def learned_subsets(model: nn.Module) -> list[dict[str, Any]]:
    """What every layer with a density keeps, in the order of the modules, an Augerino's `input` first.

    Each is {"layer": name, "group": name, "theta_deg": …, "P(c)": …}: see `Density.support`.
    """
    return [
        {"layer": name, "group": density.group.name, **density.support()} for name, density in named_densities(model)
    ]


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, preprocess: Preprocessing) -> Tensor:
    """Deterministic logits [N, classes] of images [N, C, H, W], uint8 or in [0, 1]."""
    device = next(model.parameters()).device
    with evaluating(model), torch.autocast(device.type, enabled=False):
        return torch.cat([model(preprocess(batch.to(device))).cpu() for batch in images.split(BATCH)])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of rows of scores [N, classes] whose largest is at the label [N]."""
    return float((scores.argmax(1) == labels).double().mean())


def sampled_accuracies(
    model: nn.Module, split: Split, preprocess: Preprocessing, draws: int, seed: int = 0
) -> list[float]:
    """Accuracy of each of `draws` passes under drawn elements, new ones every batch."""
    device = next(model.parameters()).device
    hits = torch.zeros(draws, dtype=torch.float64)
    for start in range(0, len(split), BATCH):
        batch = preprocess(split.images[start : start + BATCH].to(device))
        labels = split.labels[start : start + BATCH]
        for k, scores in enumerate(sampled(model, batch, draws, seed + start)):
            hits[k] += (scores.cpu().argmax(1) == labels).sum()
    return (hits / len(split)).tolist()


def copy_gap(model: nn.Module, split: Split, preprocess: Preprocessing) -> float:
    """Largest |logit| difference between an original and its transformed copy; originals are label 0, copies 1."""
    scores = logits(model, split.images, preprocess)
    order = split.originals.argsort(stable=True)
    labels, scores = split.labels[order], scores[order]
    first, second = scores[labels == 0], scores[labels == 1]
    if len(first) != len(second):
        raise ValueError(f"{len(first)} originals but {len(second)} copies: copy_gap compares pairs.")
    return float((first - second).abs().max())


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Float images [N, C, H, W] turned counter-clockwise: exact on quarter turns of squares, else bilinear on black."""
    if degrees % 90 == 0 and (images.shape[-1] == images.shape[-2] or degrees % 180 == 0):
        return images.rot90(int(degrees // 90), (-2, -1))
    angle = torch.deg2rad(torch.tensor([degrees], dtype=images.dtype, device=images.device))
    return warp(images, rotation(angle))


def response(
    model: nn.Module, images: Tensor, preprocess: Preprocessing, angles: Sequence[float] = ANGLES, label: int = 0
) -> dict[str, list[float]]:
    """The answer to images, uint8 or in [0, 1], turned through a circle (Romero & Lohit 2022, figure 4).

    Returns:
        "angles" in degrees; "share", that of images with P(label) > ½; "mean" of P(label).
    """
    images = as_float(images)
    share, mean = [], []
    for angle in angles:
        p = logits(model, rotate(images, angle), preprocess).softmax(1)[:, label].double()
        share.append(float((p > 0.5).double().mean()))
        mean.append(float(p.mean()))
    return {"angles": [float(a) for a in angles], "share": share, "mean": mean}
