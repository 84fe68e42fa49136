"""Float32 that is float32: without the shorter mantissas that a GPU or oneDNN may take for it."""

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
    """Convolutions and products of float32 tensors are computed in float32, on every device; then all is set as before.

    Otherwise cuDNN convolves them in TF32, with 10 bits of mantissa for 23, unless it is told not to; the products of
    a GPU, and both in oneDNN, do where `torch.set_float32_matmul_precision` or `fp32_precision` say so. The settings
    are the process's: other threads see them, too. Within, `torch.backends.cudnn.allow_tf32` may not be read, as after
    any use of `fp32_precision`; torch.export does.
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
    """A model computes in its own dtype, whatever is set round it: `full_float32`, and no autocast where it is."""
    device = next(model.parameters(), torch.empty(0)).device.type
    available = torch.amp.is_autocast_available(device)  # not on `meta`
    with full_float32(), torch.autocast(device, enabled=False) if available else nullcontext():
        yield


def double(tensor: Tensor) -> Tensor:
    """In float64; on the processor where its device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _write(settings: dict[tuple[str, str], str]) -> None:
    for key, value in settings.items():
        set_fp32_precision(*key, value)
