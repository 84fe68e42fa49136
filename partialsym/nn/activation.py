"""Pointwise layers: activations and dropout."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError, InputTypeError
from partialsym.signal import Signal, check_pointwise, check_signal


class Activation(nn.Module):
    """A pointwise function of a signal's values as a layer, for example in `nn.Sequential`.

    Args:
        fn: a function of tensors, such as `torch.tanh`, or a module, such as `nn.GELU()` or `nn.PReLU()`.
    Raises:
        TypeError: fn is not callable, is a class, or is a normalisation layer of torch, which is not pointwise.

    >>> from torch import nn
    >>> Activation(nn.GELU())
    Activation(
      (fn): GELU(approximate='none')
    )
    """

    def __init__(self, fn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if isinstance(fn, type):
            raise InputTypeError(f"fn is the class {fn.__name__}: must be an instance, such as {fn.__name__}().")
        if not callable(fn):
            raise InputTypeError(f"fn is {fn!r}: must be a function of tensors or a module.")
        check_pointwise(fn)
        self.fn = fn

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        check_signal(f)
        return f.map(self.fn)

    def extra_repr(self) -> str:
        return "" if isinstance(self.fn, nn.Module) else getattr(self.fn, "__name__", repr(self.fn))


class ReLU(nn.Module):
    """Rectified linear unit: max(f, 0) at every point."""

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        check_signal(f)
        return f.map(F.relu)


class Dropout(nn.Module):
    """Dropout: in train mode, values become 0 with probability p and the others are scaled by 1/(1 − p).

    Args:
        p: probability in [0, 1).
        channels: drop whole channels of an image, over all elements and pixels, instead of single values. After
            convolutions this regularises more, because neighbouring values are similar. It also commutes with the
            group exactly; dropping single values does so only in distribution.
    Raises:
        ValueError: p is out of range.
    """

    def __init__(self, p: float = 0.5, *, channels: bool = False) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"p is {p}: must be in [0, 1).")
        self.p, self.channels = p, channels

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        check_signal(f)
        drop = F.dropout3d if self.channels else F.dropout
        return f.map(lambda values: drop(values, self.p, self.training))

    def extra_repr(self) -> str:
        return f"p={self.p}, channels={self.channels}"
