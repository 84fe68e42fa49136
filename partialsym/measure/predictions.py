"""Predictions of a model: deterministic and sampled logits, accuracies, and the gap between copies."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from partialsym._utils.precision import double
from partialsym.data import Preprocessing, Split
from partialsym.data.base import Images
from partialsym.errors import InputError
from partialsym.inference import evaluating, recalibrated, sampled, seeds

BATCH = 256


def place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """The device and dtype of a model's first parameter; without parameters, the CPU and torch's default dtype."""
    first = next(model.parameters(), torch.empty(0))
    return first.device, first.dtype


@torch.no_grad()
def logits(model: nn.Module, images: Images, preprocess: Preprocessing) -> Tensor:
    """Deterministic logits [N, classes] of images [N, C, H, W], uint8 or in [0, 1]."""
    device, _ = place(model)
    with evaluating(model):
        return torch.cat([model(preprocess(batch.to(device))).cpu() for batch in images.split(BATCH)])


def predicted(answers: Tensor) -> Tensor:
    """The class with the largest of scores [N, classes, …]; of a single logit, whether it is above 0. [N, …]."""
    return answers.argmax(1) if answers.shape[1] > 1 else answers[:, 0] > 0


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Fraction of rows of scores [N, classes] whose largest entry is at the label [N]."""
    return float(double(scores.argmax(1) == labels).mean())


def confusion(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Number of images of each class (row) with each prediction (column): [classes, classes] int64.

    >>> confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    return (labels * classes + predictions).bincount(minlength=classes**2).view(classes, classes)


def most_confused(counts: Tensor, most: int) -> list[tuple[int, int, float]]:
    """The `most` frequent confusions (class, prediction, share of the images of the class) of `confusion`, by share."""
    wrong = double(counts) / counts.sum(1, keepdim=True).clamp_min(1)
    wrong.fill_diagonal_(0)
    shares, order = wrong.flatten().sort(descending=True, stable=True)
    pairs = zip(order[:most].tolist(), shares[:most].tolist(), strict=True)
    return [(*divmod(i, len(counts)), share) for i, share in pairs if share > 0]


def brier(scores: Tensor, labels: Tensor) -> Tensor:
    """Brier score Σ_k (p_k − 1[k = label])² of each row of logits [N, classes], p their softmax: [N], in [0, 2]."""
    p = double(scores).softmax(1)
    return (p.square().sum(1) - 2 * p.gather(1, labels[:, None])[:, 0] + 1).clamp(0, 2)


def sampled_accuracies(
    model: nn.Module, split: Split, preprocess: Preprocessing, draws: int, seed: int = 0
) -> list[float]:
    """Accuracy of each of `draws` passes on drawn elements.

    Every batch has its own draw, so that the mean has a small variance.
    """
    hits = torch.zeros(draws, dtype=torch.float64)
    for i, (x, labels) in enumerate(_pieces(model, split, preprocess)):
        for k, scores in enumerate(sampled(model, x, draws, seed + BATCH * i)):
            hits[k] += (scores.cpu().argmax(1) == labels).sum()
    return (hits / len(split)).tolist()


def accuracies_of_draws(
    model: nn.Module,
    split: Split,
    preprocess: Preprocessing,
    draws: int,
    seed: int = 0,
    *,
    batches: Sequence[Tensor] | None = None,
) -> list[float]:
    """Accuracy of each of `draws` draws of the elements, each used for all images.

    With `batches`, BatchNorm is recalibrated on them for each draw.
    """
    found = []
    for one in seeds(seed, draws):
        with nullcontext() if batches is None else recalibrated(model, batches, seed=one):
            scores = [sampled(model, x, 1, one)[0].cpu() for x, _ in _pieces(model, split, preprocess)]
        found.append(accuracy(torch.cat(scores), split.labels))
    return found


def _pieces(model: nn.Module, split: Split, preprocess: Preprocessing) -> Iterator[tuple[Tensor, Tensor]]:
    """The model's inputs, BATCH images at a time on its device, and their labels."""
    device, _ = place(model)
    for images, labels in zip(split.images.split(BATCH), split.labels.split(BATCH), strict=True):
        yield preprocess(images.to(device)), labels


def copy_gap(model: nn.Module, split: Split, preprocess: Preprocessing) -> float:
    """Largest |logit| difference between an original and its transformed copy; originals are label 0, copies 1."""
    scores = logits(model, split.images, preprocess)
    order = split.originals.argsort(stable=True)
    labels, scores = split.labels[order], scores[order]
    first, second = scores[labels == 0], scores[labels == 1]
    if len(first) != len(second):
        raise InputError(f"{len(first)} originals but {len(second)} copies: copy_gap compares pairs.")
    return float((first - second).abs().max())
