"""Support for the transforms of `torch.func`: the tensors that they wrap, and errors for unsupported derivatives."""

from typing import Any, Never

import torch
from torch import Tensor

from partialsym._utils.torch_private import functorch_active, in_forward_mode, is_batched_level, unwrap_level
from partialsym.errors import UnsupportedError


def transformed() -> bool:
    """Whether a transform of torch.func is active, outside of a compiler."""
    return not torch.compiler.is_compiling() and functorch_active()


def eager_on_cpu(tensor: Tensor) -> bool:
    """Whether operators on the tensor run eagerly on the CPU and need no derivative other than their backward pass.

    Our own functions may then replace torch's, because no compiler, tracer, transform or forward mode inspects them.
    """
    return tensor.device.type == "cpu" and not (
        torch.compiler.is_compiling() or torch.jit.is_tracing() or functorch_active() or in_forward_mode()
    )


def unwrapped(tensor: Tensor) -> Tensor:
    """The tensor inside all wrappers of grad and vmap, including the axes that `vmap` hides."""
    while (held := unwrap_level(tensor)) is not tensor:
        tensor = held
    return tensor


def batched(tensor: Tensor) -> bool:
    """Whether `torch.vmap` hides an axis of the tensor, at any level."""
    if not transformed():
        return False
    while not is_batched_level(tensor):
        held = unwrap_level(tensor)
        if held is tensor:
            return False
        tensor = held
    return True


def refuse_second(what: str) -> Never:
    """Raise NotImplementedError: `what` has no second derivative."""
    raise UnsupportedError(
        f"partialsym's {what} has no second derivative. A model from partialsym.to_conv2d has one for images."
    )


def refuse_forward(what: str) -> None:
    """Raise NotImplementedError within forward-mode differentiation, in which torch might use a derivative of 0."""
    if not torch.compiler.is_compiling() and in_forward_mode():
        raise UnsupportedError(
            f"partialsym's {what} has no forward-mode derivative: use the backward pass (torch.func.vjp, jacrev). A "
            "model from partialsym.to_conv2d has one with respect to images."
        )


class FirstOnly(torch.autograd.Function):
    """A gradient that cannot be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, what: str) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        ctx.what = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        refuse_second(ctx.what)


def first_only(what: str, gradient: Tensor) -> Tensor:
    """`gradient`, computed in the backward pass of `what`, such that differentiating it again raises an error.

    Without `create_graph` it is returned unchanged.
    """
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and gradient.requires_grad):
        return gradient
    return FirstOnly.apply(gradient, what)
