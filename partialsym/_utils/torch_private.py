"""The private names of torch that partialsym uses, each with a fallback for a torch that no longer has it.

The requirement `torch>=2.11` has no upper bound, and torch may rename what is private. No other module names anything
private of torch; a test searches for it, and takes each name away.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

Node = tuple[Callable[[Any], tuple[list[Any], Any]], Callable[[Any, Any], Any]]

_nodes: dict[type, Node] = {}


def _find(name: str) -> Any:
    """What `module:attribute` names, or `module` alone; None where this torch does not have it."""
    module, _, attribute = name.partition(":")
    try:
        found = import_module(module)
    except ImportError:
        return None
    return getattr(found, attribute, None) if attribute else found


# Transforms of torch.func, and forward-mode derivatives.


def functorch_active() -> bool:
    """Whether a transform of torch.func is active; True where torch does not tell, which is correct but slower."""
    active = _find("torch._C:_are_functorch_transforms_active")
    return True if active is None else bool(active())


def unwrap_level(tensor: Tensor) -> Tensor:
    """What the innermost transform of torch.func wraps; the tensor itself where none does."""
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
    """Whether a gradient is one of many taken at a time, `is_grads_batched`; True where torch does not tell."""
    batched = _find("torch._C._functorch:is_legacy_batchedtensor")
    return True if batched is None else bool(batched(grad)) or is_batched_level(grad)


def in_forward_mode() -> bool:
    """Whether this runs within `forward_ad.dual_level`, or a jvp of torch.func."""
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
    """Write what `get_fp32_precision` reads. The fallback leaves mkldnn's `all`: the public name sets all backends."""
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
    """Compile for every size of the axis; without it the first other size compiles once more."""
    mark = _find("torch._dynamo:maybe_mark_dynamic")
    if mark is not None:
        mark(tensor, axis)


def compiler_errors() -> tuple[type[Exception], ...]:
    """What a missing or failing compiler raises; RuntimeError, their common base, for one that has another name."""
    names = (
        "torch._dynamo.exc:BackendCompilerFailed",
        "torch._inductor.exc:TritonMissing",
        "torch._inductor.exc:GPUTooOldForTriton",
    )
    return tuple(_find(name) or RuntimeError for name in names)


# Lists of tensors.


def foreach_norm(tensors: Sequence[Tensor], order: float) -> Sequence[Tensor]:
    """The norm of each tensor, in one launch on a GPU; the fallback needs one for each."""
    norm = _find("torch:_foreach_norm")
    return [torch.linalg.vector_norm(t, order) for t in tensors] if norm is None else norm(tensors, order)


def foreach_copy(to: Sequence[Tensor], of: Sequence[Tensor]) -> None:
    """Copy each tensor into its own, in one launch on a GPU; the fallback needs one for each."""
    copy = _find("torch:_foreach_copy_")
    if copy is not None:
        copy(to, of)
        return
    for target, source in zip(to, of, strict=True):
        target.copy_(source)


# Modules.


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module runs hooks besides `forward`; True where torch does not tell."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(module, kind, True) for kind in kinds)


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children by name; the fallback leaves out the second name of a child that has two."""
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
    """Make instances of a class nodes of trees: `flatten` gives (children, rest), `unflatten` takes them.

    Without torch's registry, torch.func and torch.export take no such instances as arguments.
    """
    _nodes[kind] = node
    pytree = _find("torch.utils._pytree")
    if pytree is not None:
        pytree.register_pytree_node(kind, *node, serialized_type_name=name)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """What is no tuple, list, dict or registered node, in order."""
    pytree = _find("torch.utils._pytree")
    if pytree is not None:
        return list(pytree.tree_leaves(tree, is_leaf=is_leaf))
    node = None if is_leaf is not None and is_leaf(tree) else _node(tree)
    return [tree] if node is None else [leaf for child in node[0] for leaf in tree_leaves(child, is_leaf)]


def tree_map_only(kind: type, function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `function` of each leaf that is an instance of `kind`."""
    pytree = _find("torch.utils._pytree")
    if pytree is not None:
        return pytree.tree_map_only(kind, function, tree)
    node = _node(tree)
    if node is None:
        return function(tree) if isinstance(tree, kind) else tree
    return node[1](tree_map_only(kind, function, child) for child in node[0])


def _node(tree: Any) -> tuple[Iterable[Any], Callable[[Iterable[Any]], Any]] | None:
    """The children of a node, and what makes such a node of others; None for a leaf."""
    if type(tree) in _nodes:
        flatten, unflatten = _nodes[type(tree)]
        children, rest = flatten(tree)
        return children, lambda new: unflatten(new, rest)
    if isinstance(tree, dict):
        return tree.values(), lambda new: type(tree)(zip(tree, new, strict=True))
    if isinstance(tree, tuple | list):
        return tree, getattr(tree, "_make", type(tree))
    return None
