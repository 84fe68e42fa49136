"""What a model answers: deterministic and sampled logits, accuracies, the gap between copies."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from partialsym.data import Split, normalise
from partialsym.data.base import Images
from partialsym.inference import evaluating, sampled

BATCH = 256


@dataclass(frozen=True)
class Preprocessing:
    """What lies between pixels (uint8, or in [0, 1]) and the model: per-channel mean and standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std)


def place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a model computes and in what: those of its first parameter; without one the CPU and torch's default."""
    first = next(model.parameters(), torch.empty(0))
    return first.device, first.dtype


@torch.no_grad()
def logits(model: nn.Module, images: Images, preprocess: Preprocessing) -> Tensor:
    """Deterministic logits [N, classes] of images [N, C, H, W], uint8 or in [0, 1]."""
    device, _ = place(model)
    with evaluating(model), torch.autocast(device.type, enabled=False):
        return torch.cat([model(preprocess(batch.to(device))).cpu() for batch in images.split(BATCH)])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of rows of scores [N, classes] whose largest is at the label [N]."""
    return float((scores.argmax(1) == labels).double().mean())


def sampled_accuracies(
    model: nn.Module, split: Split, preprocess: Preprocessing, draws: int, seed: int = 0
) -> list[float]:
    """Accuracy of each of `draws` passes under drawn elements, new ones every batch."""
    device, _ = place(model)
    hits = torch.zeros(draws, dtype=torch.float64)
    for i, (images, labels) in enumerate(zip(split.images.split(BATCH), split.labels.split(BATCH), strict=True)):
        for k, scores in enumerate(sampled(model, preprocess(images.to(device)), draws, seed + BATCH * i)):
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
