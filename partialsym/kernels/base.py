"""The base class of continuous kernels, small networks that map coordinates to channel-mixing matrices."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from partialsym._utils.torch_func import batched
from partialsym._utils.torch_private import runs_its_class
from partialsym.errors import InputError, InputTypeError


class Kernel(nn.Module, ABC):
    """A continuous kernel k(z) = Σ_h W_h·φ_h(z) + b, from coordinates z to a matrix [out_channels, in_channels].

    Subclasses define the features φ; the last layer, with W and b, is linear.

    Args:
        dim: number d of coordinates: the position (x, y) in the unit disc, then the embedded relative element.
        out_channels, in_channels: size of the matrix.
        hidden: number of features φ.
        layers: total number of linear layers, including the last one; at least 2.
        bias: add b.
    Raises:
        ValueError: an argument is below its smallest allowed value.
    """

    def __init__(
        self,
        dim: int,
        out_channels: int,
        in_channels: int,
        *,
        hidden: int = 32,
        layers: int = 3,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name, value, least in [
            ("dim", dim, 1),
            ("out_channels", out_channels, 1),
            ("in_channels", in_channels, 1),
            ("hidden", hidden, 1),
            ("layers", layers, 2),
        ]:
            if value < least:
                raise InputError(f"{name} is {value}: must be at least {least}.")
        self.out_channels, self.in_channels = out_channels, in_channels
        self.linear = nn.Linear(hidden, out_channels * in_channels, bias=bias)

    @property
    def batch_key(self) -> Hashable:
        """What kernels of one class need in common for `batched_features`; None if this one is called by itself."""
        return None

    @staticmethod
    def batched_features(kernels: Sequence[Any], z: Tensor) -> Tensor:
        """φ of n kernels with the same `batch_key`: coordinates [n, …, d] → [n, …, hidden].

        Subclasses with a `batch_key` compute them in few operations.
        """
        return torch.stack([kernel.features(each) for kernel, each in zip(kernels, z, strict=True)])

    @property
    def moments(self) -> int | None:
        """How many functions b of the element φ is a product with: φ = b ⊗ `on_plane`. None if φ is no such product.

        With one function, b = 1; with more, b = (1, embedded element).
        """
        return None

    def on_plane(self, position: Tensor) -> Tensor:
        """The factor of φ that depends on the position [*n, 2]: [*n, hidden / moments]."""
        raise NotImplementedError(f"the features of {type(self).__name__} are no products.")

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """φ: coordinates [*n, d] → [*n, hidden]."""

    def forward(self, z: Tensor) -> Tensor:
        """k: coordinates [*n, d] → [*n, out, in]."""
        return self.linear(self.features(z)).unflatten(-1, (self.out_channels, self.in_channels))

    def squared_norm(self, z: Tensor) -> Tensor:
        """Σ over all points and matrix entries of k(z)², a scalar.

        It is computed from the Gram matrix G of the features as tr W G Wᵀ, without a tensor of size [*n, out, in].
        """
        phi = self.features(z).flatten(0, -2)
        weight, bias = self.last(phi)
        phi = torch.cat([phi, torch.ones_like(phi[:, :1])], 1)
        w = torch.cat([weight, bias[:, None]], 1)
        return ((w.T @ w) * (phi.T @ phi)).sum()

    def last(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """The effective W [out·in, hidden] and b [out·in] of the last layer when it is called on phi [*n, hidden].

        Hooks and parametrisations of the layer (weight_norm, spectral_norm, pruning, LoRA) take effect, as they do on
        the hidden layers.

        Raises:
            TypeError: the layer does not compute W·φ + b, or it is quantised.
        """
        if is_plain(self.linear):
            weight, bias = self.linear.weight, self.linear.bias
            return weight, weight.new_zeros(len(weight)) if bias is None else bias
        return _asked(self.linear, phi, self.out_channels * self.in_channels)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply the kernel permanently by a constant.

        Raises:
            TypeError: the weight is not a parameter, but computed by a hook or parametrisation of the last layer.
        """
        if not is_plain(self.linear) or parametrize.is_parametrized(self.linear):
            raise InputTypeError(
                "the kernel's last layer already has a hook or parametrisation, such as weight_norm or pruning, but a "
                "GroupConv scales its kernel in its constructor: add it to kernel.linear afterwards."
            )
        self.linear.weight.mul_(factor)
        if self.linear.bias is not None:
            self.linear.bias.mul_(factor)


def is_plain(linear: nn.Module) -> bool:
    """Whether calling the layer applies its weight and bias and nothing else."""
    return type(linear).forward is nn.Linear.forward and runs_its_class(linear)


def _asked(linear: nn.Module, phi: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer, computed from its outputs for the unit vectors and for 0.

    One more input tests whether the layer is affine.

    Raises:
        TypeError: the layer is not affine, or its weight cannot be read.
    """
    if not isinstance(getattr(linear, "weight", None), Tensor):
        raise InputTypeError(
            f"the kernel's last layer is a {type(linear).__module__}.{type(linear).__name__}, whose weight cannot be "
            "read: convert the model with partialsym.to_conv2d before quantising it."
        )
    hidden = phi.shape[-1]
    questions = phi.new_zeros(hidden + 2, hidden)
    questions[:hidden].fill_diagonal_(1)
    questions[-1] = torch.linspace(-1.5, 1, hidden)
    answers = linear(questions)
    if not isinstance(answers, Tensor) or answers.shape != (hidden + 2, outputs):
        raise InputTypeError(f"the kernel's last layer returned no tensor [n, {outputs}]: check its hooks.")
    bias = answers[hidden]
    weight = (answers[:hidden] - bias).T
    if not (torch.compiler.is_compiling() or answers.is_meta or batched(answers)):
        off = (answers[-1] - (weight @ questions[-1] + bias)).abs().max()
        if not off <= torch.finfo(answers.dtype).eps ** 0.5 * answers.abs().max() * hidden:
            raise InputTypeError(
                "a hook of the kernel's last layer makes it compute something other than weight·φ + bias, which a "
                "GroupConv needs: remove that hook, or add it to the GroupConv."
            )
    return weight, bias


def uniform_(linear: nn.Linear, bound: float) -> nn.Linear:
    """Draw the weights from U[−bound, bound]. The bias retains torch's initialisation."""
    nn.init.uniform_(linear.weight, -bound, bound)
    return linear
