"""Continuous convolution kernels: small networks from coordinates to channel-mixing matrices."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from partialsym._utils.torch_func import batched
from partialsym._utils.torch_private import has_hooks
from partialsym.errors import InputError, InputTypeError


class Kernel(nn.Module, ABC):
    """k(z) = Σ_h W_h·φ_h(z) + b: coordinates z → matrix [out, in], the last layer linear.

    Args:
        dim: number d of coordinates: the position (x, y) in the unit disc, then the embedded relative element.
        out_channels, in_channels: size of the matrix.
        hidden: number of features φ.
        layers: linear layers in all, the last one included; at least 2.
        bias: whether there is a b.
    Raises:
        ValueError: an argument below its least value.
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

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """φ: coordinates [*n, d] → [*n, hidden]."""

    def forward(self, z: Tensor) -> Tensor:
        """k: coordinates [*n, d] → [*n, out, in]."""
        return self.linear(self.features(z)).unflatten(-1, (self.out_channels, self.in_channels))

    def squared_norm(self, z: Tensor) -> Tensor:
        """Σ over all points and matrix entries of k(z)², by the Gram matrix of the features: tr W G Wᵀ.

        No [*n, out, in] is ever formed. A scalar.
        """
        phi = self.features(z).flatten(0, -2)
        weight, bias = self.last(phi)
        phi = torch.cat([phi, torch.ones_like(phi[:, :1])], 1)
        w = torch.cat([weight, bias[:, None]], 1)
        return ((w.T @ w) * (phi.T @ phi)).sum()

    def last(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """W [out·in, hidden] and b [out·in] of the last layer, as calling it on features phi [*n, hidden] has them.

        What hangs on its call – weight_norm, spectral_norm, pruning, a LoRA – has its effect, as on the hidden layers.

        Raises:
            TypeError: a call is something else than W·φ + b, or the layer is quantised.
        """
        if _is_plain(self.linear):
            weight, bias = self.linear.weight, self.linear.bias
            return weight, weight.new_zeros(len(weight)) if bias is None else bias
        return _asked(self.linear, phi, self.out_channels * self.in_channels)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply the kernel by a constant, once and for good.

        Raises:
            TypeError: the weight is no parameter, but computed by something that hangs on the last layer.
        """
        if not _is_plain(self.linear) or parametrize.is_parametrized(self.linear):
            raise InputTypeError(
                "the kernel's last layer has a weight_norm, pruning or the like already: a GroupConv scales its kernel "
                "when it is made. Hang it on kernel.linear afterwards."
            )
        self.linear.weight.mul_(factor)
        if self.linear.bias is not None:
            self.linear.bias.mul_(factor)


def _is_plain(linear: nn.Module) -> bool:
    """Whether calling a layer is weight and bias, and nothing else."""
    return type(linear).forward is nn.Linear.forward and "forward" not in linear.__dict__ and not has_hooks(linear)


def _asked(linear: nn.Module, phi: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer from its answers to the unit vectors and to 0; one more question shows if it is that.

    Raises:
        TypeError: it is not, or has no weight to be read.
    """
    if not isinstance(getattr(linear, "weight", None), Tensor):
        raise InputTypeError(
            f"the kernel's last layer is a {type(linear).__module__}.{type(linear).__name__}, whose weight cannot be "
            "read: convert the model before it is quantised, partialsym.to_conv2d."
        )
    hidden = phi.shape[-1]
    questions = phi.new_zeros(hidden + 2, hidden)
    questions[:hidden].fill_diagonal_(1)
    questions[-1] = torch.linspace(-1.5, 1, hidden)
    answers = linear(questions)
    if not isinstance(answers, Tensor) or answers.shape != (hidden + 2, outputs):
        raise InputTypeError(f"the kernel's last layer gives no tensor of {outputs} values a row: what hangs on it?")
    bias = answers[hidden]
    weight = (answers[:hidden] - bias).T
    if not (torch.compiler.is_compiling() or answers.is_meta or batched(answers)):
        off = (answers[-1] - (weight @ questions[-1] + bias)).abs().max()
        if not off <= torch.finfo(answers.dtype).eps ** 0.5 * answers.abs().max() * hidden:
            raise InputTypeError(
                "what hangs on the kernel's last layer makes its call something else than weight·φ + bias, which a "
                "GroupConv needs: remove that hook, or hang it on the GroupConv."
            )
    return weight, bias


def uniform_(linear: nn.Linear, bound: float) -> nn.Linear:
    """Weights ~ U[−bound, bound]; the bias keeps torch's initialisation."""
    nn.init.uniform_(linear.weight, -bound, bound)
    return linear
