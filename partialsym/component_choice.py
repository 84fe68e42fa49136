"""Which components eval mode keeps: those of P > ½, or where these answer worse than draws what validation chooses."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import Bernoulli
from partialsym.errors import InputError
from partialsym.inference import evaluating, monte_carlo, recalibrate, seeds
from partialsym.models import named_densities

DRAWN_BOTH_WAYS = 0.02  # a component with P in (this, 1 − this) was both in and out in training
MATTERS = 0.005  # half a point of accuracy
ROUNDS = 8  # changes, at most
SUBSETS = 16  # drawn ones that are tried where no single change helps


class Choice(NamedTuple):
    """What `choose_components` found on the validation images.

    Attributes:
        by_probability: accuracy in [0, 1] of the deterministic answers with the components of P > ½.
        drawn: that of the Monte-Carlo answers.
        chosen: that of the deterministic answers as they are now.
        changed: by layer and component, such as `last P(m)`, whether eval mode keeps what it would not by P > ½.
    """

    by_probability: float
    drawn: float
    chosen: float
    changed: dict[str, bool]


class _Component(NamedTuple):
    """A component other than e that training saw both in and out."""

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
    """Choose which components of the group the layers keep in eval mode, where those of P > ½ answer worse than draws.

    Where a P is neither near 0 nor near 1, training knows the layer with and without that component, and eval mode has
    to take one of them. To take all of P > ½ may be a network that training hardly saw: with P = .8 in eight layers all
    keep the component in 0.8⁸ = 17 % of the draws. So the deterministic answers are compared with those under drawn
    elements, the mean over `draws`. Where the drawn ones are right more often, by more than half a point and two
    standard errors, one component of one layer after another is kept or dropped instead: each time the one whose change
    leaves the lowest cross-entropy, until the accuracies agree, in at most eight changes. Where no change lowers it,
    some subsets that P draws are tried. BatchNorm is recalibrated in every trial. Where the accuracies agree from the
    start the model is left as it was. With few images only a large difference shows: with 100 none below five points,
    with 1,000 none below 0.6. The choice is part of the state dict.

    Args:
        model: images → logits [N, classes].
        batches: training images, to `recalibrate` on; read only where there is something to choose, as the next.
        validation: images that it was not trained on, and their labels [N], in batches.
        draws: of the drawn answers, at least 2.
        seed: of the draws.
    Returns:
        What was found; None where training saw no component both in and out.
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


Subset = tuple[bool, ...]  # of the components, which ones eval mode keeps


class _Answers(NamedTuple):
    subset: Subset
    right: Tensor  # [N] bool
    loss: float

    @property
    def accuracy(self) -> float:
        return float(self.right.double().mean())

    def worse_than(self, other: "_Answers") -> bool:
        """Right less often, by more than what matters and two standard errors of the paired difference."""
        lost, won = int((other.right & ~self.right).sum()), int((self.right & ~other.right).sum())
        return lost - won > max(MATTERS * len(self.right), 2 * (lost + won) ** 0.5)


def _loss(answers: _Answers) -> float:
    return answers.loss


class _Trials:
    """The model's answers to the validation images, with BatchNorm statistics of their own for each subset."""

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
        """In eval mode with that subset, which stays set."""
        self.set(subset)
        recalibrate(self.model, self.batches)
        with evaluating(self.model):
            return self._answers(subset, [self.model(images) for images, _ in self.validation])

    def drawn(self, draws: int, seed: int) -> _Answers:
        """The mean over draws, other ones for each batch."""
        own = zip(seeds(seed, len(self.validation)), self.validation, strict=True)
        return self._answers((), [monte_carlo(self.model, images, draws, one)[0] for one, (images, _) in own])

    @staticmethod
    def neighbours(subset: Subset) -> list[Subset]:
        """Those that differ in one component."""
        return [(*subset[:i], not kept, *subset[i + 1 :]) for i, kept in enumerate(subset)]

    def subsets(self, count: int, seed: int) -> list[Subset]:
        """Some that P draws."""
        p = torch.tensor([component.probability for component in self.components])
        drawn = torch.rand(count, len(p), generator=torch.Generator().manual_seed(seed)) < p
        return list(dict.fromkeys(map(tuple, drawn.tolist())))

    def _answers(self, subset: Subset, logits: Sequence[Tensor]) -> _Answers:
        scores = torch.cat(list(logits)).float().cpu()
        return _Answers(subset, scores.argmax(1) == self.labels, float(F.cross_entropy(scores, self.labels)))
