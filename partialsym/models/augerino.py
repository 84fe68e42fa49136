"""Augerino: a learned part of a group, applied to the input of any network."""

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
    """The mean of a network's outputs for transformed copies of its input (Benton et al. 2020):

        f̄(x) = Σ_j w_j f(h_j⁻¹·x) / Σ_j w_j.

    The elements h_j are from a learned density on the group, as in the layers. θ learns through the sampling positions
    of the copies, and the logits of the components learn through the weights w_j. Copies are interpolated bilinearly
    and repeat the border of the image outside it.

    In eval mode, the h_j are deterministic, and copies of weight 0 are skipped, except in a compiled graph, whose
    number of copies is fixed. In train mode, the model also processes copies of weight 0, because their logits learn
    from its outputs. The BatchNorms of the model include these copies: call `recalibrate` before evaluating.

    The cross-entropy alone lets θ shrink, but not grow: subtract a multiple of `regularization.width` from the loss.

    Args:
        model: a network, images [batch, channels, height, width] → [batch, ...], without an Augerino in it.
        group: name of the group, any but T2.
        copies: number of elements n; a step costs as many passes of the model. It is a multiple of the number of the
            group's components, and for a finite group the number of its elements. In eval mode, an odd number per
            component includes the original image.
        sampling: `systematic` or `iid`.
        proportional: in eval mode, use ⌈rθ⌉ rotations per component instead of r.
    Raises:
        ValueError: an argument is out of range.

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
            raise InputError("the model contains an Augerino already: use a single one, with the larger group.")
        h = group_named(group)
        count = len(h.components)
        if not h.dim and count == 1:
            raise InputError(f"group is {group!r}: there is nothing to learn; must be SE2, E2, Mirror, C<n> or D<n>.")
        if h.dim and (copies < count or copies % count):
            raise InputError(f"copies is {copies}: must be a positive multiple of {count}, the components of {h}.")
        if not h.dim and copies != count:
            raise InputError(f"copies is {copies}: must be {count}, the number of elements of {h}.")
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
        """Normalised images [batch, channels, height, width] of any size → the mean output [batch, ...].

        Raises:
            ValueError: images have another number of axes, or are not floating-point.
        """
        if images.ndim != 4:
            raise InputError(f"images has shape {tuple(images.shape)}: must be [batch, channels, height, width].")
        if not images.is_floating_point():
            raise InputError(f"images are {images.dtype}: must be floating-point and normalised.")
        elements = self.density.sample()
        weights = elements.weights
        known = not (torch.compiler.is_compiling() or weights is None or weights.is_meta or batched(weights))
        if weights is not None and known and not self.density.training:
            elements = Elements(elements.group, elements.matrices[weights > 0])  # weights are 0 or 1
        answers = self.model(self.transformed(images, elements).flatten(0, 1)).unflatten(0, (len(elements), -1))
        mean = elements.mean_weights()
        if mean is None:
            return answers.mean(0)
        return (mean.view(-1, *[1] * (answers.ndim - 1)) * answers).sum(0).to(answers.dtype)

    @staticmethod
    def transformed(images: Tensor, elements: Elements) -> Tensor:
        """h_j⁻¹·x for images x [batch, channels, height, width] and n elements: [n, batch, channels, height, width].

        (h·x)(p) = x(h⁻¹p), with y up. For h = exp(90°) this turns x clockwise, as a layer does at the element h.
        """
        # The images of an element become channels of one image, so that positions are computed once.
        stacked = images.flatten(0, 1).expand(len(elements), -1, -1, -1)
        return warp(stacked, elements.matrices.mT, padding="border").unflatten(1, images.shape[:2])


def named_densities(model: nn.Module) -> Iterator[tuple[str, Density]]:
    """The name and the density of every layer that has one, in the order of the modules.

    For an Augerino, its own density comes first, with the name `input`. The others have their names in the network
    inside it.
    """
    if isinstance(model, Augerino):
        yield "input", model.density
        model = model.model
    for name, module in model.named_modules():
        if isinstance(module, GroupConv) and module.codomain is not None:
            yield name, module.codomain
