"""Augerino: any network, averaged over a learned part of a group that transforms its input."""

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
    """The weighted mean of a network's outputs for transformed copies of its input (Benton et al. 2020):

        f̄(x) = Σ_j w_j f(h_j⁻¹·x) / Σ_j w_j.

    The elements h_j are drawn from a learned density on the group, of the same kind as in the layers. θ gets its
    gradient through the positions at which a copy is sampled, and the logit of a component through its weight w_j.
    Copies are interpolated bilinearly; pixels outside the image have the value of the nearest border pixel.

    In eval mode the h_j are deterministic, and copies of weight 0 are not computed. (A compiled graph computes them,
    because its number of copies is fixed.) In train mode the network processes them as well, because their logits
    learn from its output. The BatchNorms of the network then count them: call `recalibrate` before evaluation.

    With the cross-entropy alone, θ has an incentive to decrease and none to increase: add `regularization.width`.

    Args:
        model: images [batch, channels, height, width] → [batch, ...]. It contains no Augerino.
        group: name of the group, any except T2.
        copies: number of elements n: a multiple of the number of the group's components, or all elements of a finite
            group. A step passes n copies through the network. With an odd number per component, one of the copies in
            eval mode is the image itself.
        sampling: `systematic` or `iid`.
        proportional: use ⌈rθ⌉ rotations per component in eval mode instead of r.
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
            raise InputError("the model contains an Augerino already: use one, with the larger group.")
        h = group_named(group)
        count = len(h.components)
        if not h.dim and count == 1:
            raise InputError(f"group is {group!r}: there is nothing to learn; use SE2, E2, Mirror, C<n> or D<n>.")
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
        """Normalised images [batch, channels, height, width] of any size → the mean output of the model, [batch, ...].

        Raises:
            ValueError: images have another number of axes or are not floating-point.
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

        (h·x)(p) = x(h⁻¹p), and the y axis points up. h = exp(90°) therefore rotates x clockwise here, which is how a
        layer reads x at the element h.
        """
        # An element moves all images in the same way: with the images as channels, positions are computed only once.
        stacked = images.flatten(0, 1).expand(len(elements), -1, -1, -1)
        return warp(stacked, elements.matrices.mT, padding="border").unflatten(1, images.shape[:2])


def named_densities(model: nn.Module) -> Iterator[tuple[str, Density]]:
    """Yield the name and the density of every layer that has one.

    An Augerino's own density comes first, as `input`. Convolutions follow in the order of the modules, with their names
    in the wrapped network.
    """
    if isinstance(model, Augerino):
        yield "input", model.density
        model = model.model
    for name, module in model.named_modules():
        if isinstance(module, GroupConv) and module.codomain is not None:
            yield name, module.codomain
