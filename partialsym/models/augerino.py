"""Augerino: a learned part of a group at the input, round any network."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import batched
from partialsym.densities import Density, Sampling, learned
from partialsym.errors import InputError
from partialsym.groups import group as group_named
from partialsym.nn.conv import GroupConv
from partialsym.signal import Elements
from partialsym.warp import warp


class Augerino(nn.Module):
    """The mean of a network's answers to transformed copies of its input (Benton et al. 2020):

        f̄(x) = Σ_j w_j f(h_j⁻¹·x) / Σ_j w_j,

    h_j from a learned density on the group, the same as in the layers: θ learns through the positions that a copy is
    sampled at, a component's logit through its weight. Copies are bilinear, and what lies outside the image is its
    border. In eval mode h_j is deterministic, and copies of weight 0 are not made, except in a compiled graph, which
    has as many for any weights. In train mode the model sees them too, since their logits learn from what it answers,
    so its BatchNorms count them: `recalibrate` before evaluating.

    With the cross-entropy alone θ has a reason to shrink and none to grow: add `regularization.width`.

    Args:
        model: images [batch, channels, height, width] → [batch, ...]. It holds no Augerino.
        group: name of the group, any but T2.
        copies: elements n, and passes of the model in the cost of a step: a multiple of the group's components, and
            all elements of a finite group. In eval mode an odd number a component has the image itself among them.
        sampling: `systematic` or `iid`.
        proportional: in eval mode take ⌈rθ⌉ rotations a component instead of r.
    Raises:
        ValueError: an argument out of range.

    >>> import torch
    >>> from partialsym import GResNet
    >>> Augerino(GResNet("T2", width=4, kernel_size=3), "SE2")(torch.randn(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        model: nn.Module,
        group: str = "SE2",
        *,
        copies: int = 4,
        sampling: Sampling = "systematic",
        proportional: bool = False,
    ) -> None:
        super().__init__()
        if any(isinstance(module, Augerino) for module in model.modules()):
            raise InputError("the model holds an Augerino already: one is enough, with the larger group.")
        h = group_named(group)
        count = len(h.components)
        if not h.dim and count == 1:
            raise InputError(f"group is {group!r}: there is nothing to learn, take SE2, E2, Mirror, C<n> or D<n>.")
        if h.dim and (copies < count or copies % count):
            raise InputError(f"copies is {copies}: must be a positive multiple of {count}, the components of {h}.")
        if not h.dim and copies != count:
            raise InputError(f"copies is {copies}: must be {count}, all elements of {h}.")
        self.settings = {
            "model": type(model).__name__,
            "settings": getattr(model, "settings", None),
            "group": group,
            "copies": copies,
            "sampling": sampling,
            "proportional": proportional,
        }
        self.density = learned(h, copies, sampling=sampling, proportional=proportional)
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, channels, height, width] of any size → what the model gives, [batch, ...].

        Raises:
            ValueError: images are not that, or not floating-point.
        """
        if images.ndim != 4:
            raise InputError(f"images has shape {tuple(images.shape)}: must be [batch, channels, height, width].")
        if not images.is_floating_point():
            raise InputError(f"images are {images.dtype}: must be floating-point, normalised.")
        elements = self.density.sample()
        weights = elements.weights
        known = not (torch.compiler.is_compiling() or weights is None or weights.is_meta or batched(weights))
        if weights is not None and known and not self.density.training:
            elements = Elements(elements.group, elements.matrices[weights > 0])  # 0 or 1
        answers = self.model(self.transformed(images, elements).flatten(0, 1)).unflatten(0, (len(elements), -1))
        mean = elements.mean_weights()
        if mean is None:
            return answers.mean(0)
        return (mean.view(-1, *[1] * (answers.ndim - 1)) * answers).sum(0).to(answers.dtype)

    @staticmethod
    def transformed(images: Tensor, elements: Elements) -> Tensor:
        """h_j⁻¹·x for images x [batch, channels, height, width] and n elements: [n, batch, channels, height, width].

        (h·x)(p) = x(h⁻¹p), with y up: h = exp(90°) turns x clockwise here, as the layers see it at h.
        """
        # All images of an element move alike: they are its channels, and the positions are computed once.
        stacked = images.flatten(0, 1).expand(len(elements), -1, -1, -1)
        return warp(stacked, elements.matrices.mT, padding="border").unflatten(1, images.shape[:2])


def named_densities(model: nn.Module) -> Iterator[tuple[str, Density]]:
    """Every layer with a density, and that: `input` for an Augerino, then convolutions as the network inside names
    them, in the order of the modules."""
    if isinstance(model, Augerino):
        yield "input", model.density
        model = model.model
    for name, module in model.named_modules():
        if isinstance(module, GroupConv) and module.codomain is not None:
            yield name, module.codomain
