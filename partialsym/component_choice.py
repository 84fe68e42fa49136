"""Choose the components that eval mode retains: those with P > ½, or those that validation images prefer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import Bernoulli
from partialsym.errors import InputError
from partialsym.inference import evaluating, monte_carlo, recalibrate, seeds
from partialsym.models import named_densities

DRAWN_BOTH_WAYS = 0.02  # training saw a component with P in (this, 1 − this) both retained and dropped
MATTERS = 0.005  # half a point of accuracy
ROUNDS = 8  # largest number of changes
SUBSETS = 16  # number of drawn subsets to try if no single change helps


class Choice(NamedTuple):
    """What `choose_components` found on the validation images.

    Attributes:
        by_probability: accuracy in [0, 1] of the deterministic predictions with the components of P > ½.
        drawn: accuracy of the Monte-Carlo predictions.
        chosen: accuracy of the deterministic predictions with the components that were chosen.
        changed: for every component, such as `last P(m)`, that differs from the rule P > ½: whether eval mode now
            retains it.
    """

    by_probability: float
    drawn: float
    chosen: float
    changed: dict[str, bool]


class _Component(NamedTuple):
    """A component other than e that training saw both retained and dropped."""

    name: str
    density: Bernoulli
    which: int
    probability: float

    def choose(self, kept: bool) -> None:
        self.density.choose(self.which, None if kept == (self.probability > 0.5) else kept)


@torch.no_grad()
def choose_components(
    model: nn.Module,
    batches: Iterable[Tensor],
    validation: Iterable[tuple[Tensor, Tensor]],
    *,
    draws: int = 32,
    seed: int = 0,
) -> Choice | None:
    """Choose the components of the group that the layers retain in eval mode, if those with P > ½ predict worse.

    If P is neither near 0 nor near 1, training saw the layer with and without that component, and eval mode must decide
    for one of them. Retaining all components with P > ½ may give a network that training hardly saw: with P = 0.8 in
    eight layers, all of them retain the component in only 0.8⁸ = 17 % of the draws.

    This function therefore compares the deterministic predictions with the mean over `draws` of the predictions on
    drawn elements. If the accuracies agree, the model is left unchanged. If the drawn ones are right more often, by
    more than half a point and two standard errors, it changes one component of one layer at a time: the one that gives
    the lowest cross-entropy. It stops when the accuracies agree, after at most eight changes. If no single change
    lowers the cross-entropy, it tries some subsets drawn from P. BatchNorm is recalibrated in every trial.

    With few images, only a large difference is detected: at least 5 points with 100 images, and 0.6 with 1,000. The
    choice is part of the state dict.

    Args:
        model: images → logits [N, classes].
        batches: training images for `recalibrate`. They and `validation` are read only if there is a choice to make.
        validation: batches of images that were not used for training, and their labels [N].
        draws: number of Monte-Carlo draws, at least 2.
        seed: seed of the draws.
    Returns:
        The choice, or None if training saw no component both retained and dropped.
    Raises:
        ValueError: there are no images, or fewer than 2 draws.
    """
    components = [
        _Component(f"{layer} P({density.group.component_names[i]})", density.component, i, p)
        for layer, density in named_densities(model)
        if isinstance(density.component, Bernoulli)
        for i, p in enumerate(density.component.probabilities().tolist())
        if DRAWN_BOTH_WAYS < p < 1 - DRAWN_BOTH_WAYS  # e has 1
    ]
    if not components:
        return None
    before = {buffer: buffer.clone() for buffer in model.buffers()}
    trials = _Trials(model, components, tuple(batches), tuple(validation))
    subset = likely = tuple(c.probability > 0.5 for c in components)
    start = found = trials.deterministic(subset)
    drawn = trials.drawn(draws, seed)
    if not start.worse_than(drawn):
        for buffer, values in before.items():  # statistics, too
            buffer.copy_(values)
        for component in components:
            component.density.chosen.zero_()
        return Choice(start.accuracy, drawn.accuracy, start.accuracy, {})
    others = trials.subsets(SUBSETS, seed)
    for _ in range(ROUNDS):
        if not found.worse_than(drawn):
            break
        best = min(map(trials.deterministic, trials.neighbours(subset)), key=_loss)
        if best.loss >= found.loss and others:
            best, others = min(map(trials.deterministic, others), key=_loss), []
        if best.loss >= found.loss:
            break
        subset, found = best.subset, best
    trials.set(subset)
    recalibrate(model, trials.batches)
    changed = {c.name: kept for c, kept, was in zip(components, subset, likely, strict=True) if kept != was}
    return Choice(start.accuracy, drawn.accuracy, found.accuracy, changed)


Subset = tuple[bool, ...]  # for each component, whether eval mode retains it


class _Answers(NamedTuple):
    subset: Subset
    right: Tensor  # [N] bool
    loss: float

    @property
    def accuracy(self) -> float:
        return float(self.right.double().mean())

    def worse_than(self, other: "_Answers") -> bool:
        """Whether this is right less often, by more than MATTERS and two standard errors of the paired difference."""
        lost, won = int((other.right & ~self.right).sum()), int((self.right & ~other.right).sum())
        return lost - won > max(MATTERS * len(self.right), 2 * (lost + won) ** 0.5)


def _loss(answers: _Answers) -> float:
    return answers.loss


class _Trials:
    """The model's predictions for the validation images. BatchNorm is recalibrated for each subset."""

    def __init__(
        self,
        model: nn.Module,
        components: Sequence[_Component],
        batches: Sequence[Tensor],
        validation: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        if not validation:
            raise InputError("validation is empty: must hold at least one batch of images and labels.")
        self.model, self.components, self.batches, self.validation = model, components, batches, validation
        self.labels = torch.cat([labels for _, labels in validation]).cpu()

    def set(self, subset: Subset) -> None:
        for component, kept in zip(self.components, subset, strict=True):
            component.choose(kept)

    def deterministic(self, subset: Subset) -> _Answers:
        """Predictions in eval mode with this subset, which remains set afterwards."""
        self.set(subset)
        recalibrate(self.model, self.batches)
        with evaluating(self.model):
            return self._answers(subset, [self.model(images) for images, _ in self.validation])

    def drawn(self, draws: int, seed: int) -> _Answers:
        """The mean over draws, which differ between batches."""
        own = zip(seeds(seed, len(self.validation)), self.validation, strict=True)
        return self._answers((), [monte_carlo(self.model, images, draws, one)[0] for one, (images, _) in own])

    @staticmethod
    def neighbours(subset: Subset) -> list[Subset]:
        """The subsets that differ in one component."""
        return [(*subset[:i], not kept, *subset[i + 1 :]) for i, kept in enumerate(subset)]

    def subsets(self, count: int, seed: int) -> list[Subset]:
        """Subsets drawn from P, without repetition."""
        p = torch.tensor([component.probability for component in self.components])
        drawn = torch.rand(count, len(p), generator=torch.Generator().manual_seed(seed)) < p
        return list(dict.fromkeys(map(tuple, drawn.tolist())))

    def _answers(self, subset: Subset, logits: Sequence[Tensor]) -> _Answers:
        scores = torch.cat(list(logits)).float().cpu()
        return _Answers(subset, scores.argmax(1) == self.labels, float(F.cross_entropy(scores, self.labels)))
