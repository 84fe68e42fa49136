"""The private names of torch that partialsym uses, each with a fallback for versions of torch without it.

The requirement `torch>=2.11` has no upper bound, and torch may rename private names. No other module uses private names
of torch; a test checks this, and tests each fallback by removing the name.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

Node = tuple[Callable[[Any], tuple[list[Any], Any]], Callable[[Any, Any], Any]]

_nodes: dict[type, Node] = {}


def _find(name: str) -> Any:
    """The object `module:attribute`, or the module `module`; None if this version of torch lacks it."""
    module, _, attribute = name.partition(":")
    found = sys.modules.get(module)  # in a fifth of the time of an import
    if found is None:
        try:
            found = import_module(module)
        except ImportError:
            return None
    return getattr(found, attribute, None) if attribute else found


# Transforms of torch.func, and forward-mode derivatives.


def functorch_active() -> bool:
    """Whether a transform of torch.func is active; True if this is unknown, which is correct but slower."""
    active = _find("torch._C:_are_functorch_transforms_active")
    return True if active is None else bool(active())


def unwrap_level(tensor: Tensor) -> Tensor:
    """The tensor that the innermost transform of torch.func wraps; the tensor itself if it is not wrapped."""
    wrapped = _find("torch._C._functorch:is_functorch_wrapped_tensor")
    unwrap = _find("torch._C._functorch:get_unwrapped")
    if wrapped is None or unwrap is None:
        return torch.func.debug_unwrap(tensor, recurse=False)
    return unwrap(tensor) if wrapped(tensor) else tensor


def is_batched_level(tensor: Tensor) -> bool:
    """Whether the innermost transform is a vmap, which hides an axis."""
    batched = _find("torch._C._functorch:is_batchedtensor")
    return unwrap_level(tensor).dim() > tensor.dim() if batched is None else bool(batched(tensor))


def of_many_gradients(grad: Tensor) -> bool:
    """Whether a gradient is one of a batch (`is_grads_batched`); True if this is unknown."""
    batched = _find("torch._C._functorch:is_legacy_batchedtensor")
    return True if batched is None else bool(batched(grad)) or is_batched_level(grad)


def dispatch_watched() -> bool:
    """Whether a mode, such as a counter of operations or a tracer, sees every operator; True if this is unknown."""
    stacks = ("torch._C:_len_torch_dispatch_stack", "torch._ops:_len_torch_dispatch_stack_pre_dispatch")
    counts = [_find(stack) for stack in stacks]
    return any(count is None or count() > 0 for count in counts)


def in_forward_mode() -> bool:
    """Whether forward-mode differentiation is active: `forward_ad.dual_level`, or a jvp of torch.func."""
    level = _find("torch.autograd.forward_ad:_current_level")
    if level is not None:
        return bool(level >= 0)
    try:
        with forward_ad.dual_level():  # levels cannot be nested
            return False
    except RuntimeError:
        return True


# The precision of float32.


def get_fp32_precision(backend: str, op: str) -> str:
    """The setting of an operation (`all` of them, `matmul`, `conv`, `rnn`) of `generic`, `cuda` or `mkldnn`."""
    get = _find("torch._C:_get_fp32_precision_getter")
    if get is not None:
        return str(get(backend, op))
    return str(_public_setting(backend, op).fp32_precision)


def set_fp32_precision(backend: str, op: str, value: str) -> None:
    """Set what `get_fp32_precision` returns. The fallback skips mkldnn's `all`: its public name sets all backends."""
    put = _find("torch._C:_set_fp32_precision_setter")
    if put is not None:
        put(backend, op, value)
    elif (backend, op) != ("mkldnn", "all"):
        _public_setting(backend, op).fp32_precision = value


def _public_setting(backend: str, op: str) -> Any:
    if (backend, op) == ("cuda", "matmul"):
        return torch.backends.cuda.matmul
    whole = {"generic": torch.backends, "cuda": torch.backends.cudnn, "mkldnn": torch.backends.mkldnn}[backend]
    return whole if op == "all" else getattr(whole, op)


# The compiler.


def mark_dynamic(tensor: Tensor, axis: int) -> None:
    """Compile for every size of the axis. Without torch's function, the first different size is compiled again."""
    mark = _find("torch._dynamo:maybe_mark_dynamic")
    if mark is not None:
        mark(tensor, axis)


def compiler_errors() -> tuple[type[Exception], ...]:
    """The errors of a missing or failing compiler; RuntimeError, their common base, for each that torch lacks."""
    names = (
        "torch._dynamo.exc:BackendCompilerFailed",
        "torch._inductor.exc:TritonMissing",
        "torch._inductor.exc:GPUTooOldForTriton",
    )
    return tuple(_find(name) or RuntimeError for name in names)


# Lists of tensors.


def foreach_norm(tensors: Sequence[Tensor], order: float) -> Sequence[Tensor]:
    """The norm of each tensor, in one kernel launch on a GPU; the fallback needs one launch per tensor."""
    norm = _find("torch:_foreach_norm")
    return [torch.linalg.vector_norm(t, order) for t in tensors] if norm is None else norm(tensors, order)


def foreach_copy(to: Sequence[Tensor], of: Sequence[Tensor]) -> None:
    """Copy each tensor of `of` into that of `to`, in one kernel launch on a GPU; the fallback needs one per tensor."""
    copy = _find("torch:_foreach_copy_")
    if copy is not None:
        copy(to, of)
        return
    for target, source in zip(to, of, strict=True):
        target.copy_(source)


# Modules.


def has_hooks(module: nn.Module) -> bool:
    """Whether calling the module runs hooks, or a compiled `forward`; True if this is unknown."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks", "_compiled_call_impl")
    return any(getattr(module, kind, True) for kind in kinds)


def runs_its_class(module: nn.Module) -> bool:
    """Whether calling the module runs its class's `forward` and, but for hooks on all modules, nothing else."""
    return "forward" not in vars(module) and not has_hooks(module)


def hooks_on_all() -> bool:
    """Whether hooks are registered for all modules; True if this is unknown."""
    found = _find("torch.nn.modules.module:_has_any_global_hook")
    return True if found is None else bool(found())


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children by name. The fallback omits the second name of a child that has two."""
    found = getattr(module, "_modules", None)
    return dict(module.named_children() if found is None else found)


def _batch_norm_base() -> type[nn.Module]:
    return _find("torch.nn.modules.batchnorm:_BatchNorm") or nn.BatchNorm2d.__bases__[0]


def norm_bases() -> tuple[type[nn.Module], ...]:
    """The classes of torch's batch and instance norms."""
    base = _find("torch.nn.modules.batchnorm:_NormBase")
    return (BatchNormBase, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d) if base is None else (base,)


def conv_bases() -> tuple[type[nn.Module], ...]:
    """The classes of torch's convolutions."""
    base = _find("torch.nn.modules.conv:_ConvNd")
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d, *transposed) if base is None else (base,)


if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm as BatchNormBase
else:
    BatchNormBase = _batch_norm_base()


# Trees of tensors.


def register_node(kind: type, node: Node, name: str) -> None:
    """Register a class as a node of trees: `flatten` returns (children, rest), from which `unflatten` rebuilds it.

    Without torch's registry, torch.func and torch.export do not accept such instances as arguments.
    """
    _nodes[kind] = node
    pytree = _find("torch.utils._pytree")
    if pytree is not None:
        pytree.register_pytree_node(kind, *node, serialized_type_name=name)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves in order: everything that is not a tuple, list, dict or registered node."""
    pytree = _find("torch.utils._pytree")
    if pytree is not None:
        return list(pytree.tree_leaves(tree, is_leaf=is_leaf))
    node = None if is_leaf is not None and is_leaf(tree) else _node(tree)
    return [tree] if node is None else [leaf for child in node[0] for leaf in tree_leaves(child, is_leaf)]


def tree_map_only(kind: type, function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `function` applied to each leaf that is an instance of `kind`."""
    pytree = _find("torch.utils._pytree")
    if pytree is not None:
        return pytree.tree_map_only(kind, function, tree)
    node = _node(tree)
    if node is None:
        return function(tree) if isinstance(tree, kind) else tree
    return node[1](tree_map_only(kind, function, child) for child in node[0])


def _node(tree: Any) -> tuple[Iterable[Any], Callable[[Iterable[Any]], Any]] | None:
    """The children of a node, and a function that builds such a node from new children; None for a leaf."""
    if type(tree) in _nodes:
        flatten, unflatten = _nodes[type(tree)]
        children, rest = flatten(tree)
        return children, lambda new: unflatten(new, rest)
    if isinstance(tree, dict):
        return tree.values(), lambda new: type(tree)(zip(tree, new, strict=True))
    if isinstance(tree, tuple | list):
        return tree, getattr(tree, "_make", type(tree))
    return None
