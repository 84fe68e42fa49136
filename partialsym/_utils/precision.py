"""Full float32 precision, without the shorter mantissas that a GPU or oneDNN may use."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from partialsym._utils.torch_private import get_fp32_precision, set_fp32_precision

FULL, INHERITED = "ieee", "none"
WHOLE = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))  # what an operation without a setting inherits
MATMUL = (("cuda", "matmul"), ("mkldnn", "matmul"))
OPERATIONS = (*MATMUL, *((backend, op) for backend in ("cuda", "mkldnn") for op in ("conv", "rnn")))


@contextmanager
def full_float32() -> Iterator[None]:
    """A context in which convolutions and products of float32 tensors are computed in float32, on every device.

    By default cuDNN computes convolutions in TF32, with 10 instead of 23 bits of mantissa. Products on a GPU, and both
    in oneDNN, have reduced precision if `torch.set_float32_matmul_precision` or `fp32_precision` is set so. The
    settings are restored afterwards. They belong to the process, so other threads are affected. Within the context,
    `torch.backends.cudnn.allow_tf32` must not be read, as after any use of `fp32_precision`; torch.export reads it.
    """
    whole = {}
    for key in WHOLE:  # from the outside in: read with nothing to inherit
        whole[key] = get_fp32_precision(*key)
        set_fp32_precision(*key, INHERITED)
    own = {key: get_fp32_precision(*key) for key in OPERATIONS}
    _write(dict.fromkeys(WHOLE, FULL))
    # An operation that inherits is left alone: cuDNN's own default, once written over, could not be set again.
    changed = {key: own[key] for key in OPERATIONS if get_fp32_precision(*key) != FULL}
    _write(dict.fromkeys(changed, FULL))
    products = torch.get_float32_matmul_precision()
    if products != "highest":  # or reading it would fail within
        torch.set_float32_matmul_precision("highest")  # writes both of MATMUL
        changed |= {key: own[key] for key in MATMUL}
    try:
        yield
    finally:
        if products != "highest":
            torch.set_float32_matmul_precision(products)
        _write(changed | whole)


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """A context in which a model computes in its own dtype: `full_float32`, and no autocast on its device."""
    device = next(model.parameters(), torch.empty(0)).device.type
    available = torch.amp.is_autocast_available(device)  # not on `meta`
    with full_float32(), torch.autocast(device, enabled=False) if available else nullcontext():
        yield


def double(tensor: Tensor) -> Tensor:
    """Convert a tensor to float64, on the CPU if its device does not support float64."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _write(settings: dict[tuple[str, str], str]) -> None:
    for key, value in settings.items():
        set_fp32_precision(*key, value)
