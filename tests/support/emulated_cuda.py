"""A GPU that is none: tensors that say they are on `cuda:0` and compute on the processor, by cuda_guard.py.

Operators refuse tensors of different devices as CUDA does, and what makes the processor wait for the GPU is counted.
"""

import sys
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
WAITS = {  # the size or the value of what they give is known on the GPU alone
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount, aten._unique2,
    aten.unique_consecutive, aten.unique_dim, aten.histc,
}  # fmt: skip
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
DEVICE = torch.device("cuda:0")


class OnCuda(Tensor):
    """A tensor on `cuda:0`; `held` is what it holds, on the processor."""

    @staticmethod
    def __new__(cls, held):
        options = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return Tensor._make_wrapper_subclass(cls, held.shape, device=DEVICE, **options)

    def __init__(self, held):
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on an emulated GPU that is switched off")

    def tolist(self):  # torch refuses subclasses
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol):  # torch.save
        return self.cpu().__reduce_ex__(protocol)

    def __repr__(self, **options):
        return f"OnCuda({self.held})"


class Emulation(TorchDispatchMode):
    """Within it `cuda` is the emulated device. `waits` lists what waited for it: (kind, operator, where)."""

    def __init__(self, own=()):
        super().__init__()
        self.waits, self.own = [], {str(op._opoverload): op._init_fn for op in own}

    @classmethod
    def _should_skip_dynamo(cls):  # nothing is compiled here; guards take a fifth of the time
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors, options = [], kwargs or {}
        held = _held(args, tensors)
        options_held = {name: _held(value, tensors) for name, value in options.items()}
        there = [isinstance(tensor, OnCuda) for tensor in tensors]
        asked = options.get("device")
        if func is aten._pin_memory.default:
            return args[0].clone()
        to = any(there) if asked is None else torch.device(asked).type == "cuda"
        if not to and not any(there):
            return func(*args, **options)
        about = _about(func)
        if own := self.own.get(about.name):  # its body, operator by operator
            with self, torch._C._AutoDispatchBelowAutograd():
                return own(*args, **options)
        if asked is not None:
            options_held["device"] = "cpu"
        packet = func.overloadpacket
        if packet is aten._to_copy or packet is aten.copy_:
            to = to if packet is aten._to_copy else there[0]
            if any(one != to for one in there):
                blocking = not (options.get("non_blocking") or (packet is aten.copy_ and len(args) > 2 and args[2]))
                self._note("blocking copy" if blocking else "copy", func)
        else:
            self._check(func, about, tensors, there, args)
        out = func(*held, **options_held)
        if about.writes:
            return args[0] if args else options["out"]
        return _on_cuda(out) if to else out

    @contextmanager
    def noted(self):
        """A list, which holds in the end what waited within."""
        start, waits = len(self.waits), []
        yield waits
        waits += self.waits[start:]

    def _check(self, func, about, tensors, there, args):
        """Raise where CUDA would; note where it would wait."""
        if about.waits:
            self._note("wait", func)
        if about.indexes:
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self._note("wait", func)
                elif index is not None and not isinstance(index, OnCuda):
                    self._note("blocking copy", func)  # CUDA takes these
            return
        if all(there):
            return
        if wrong := [t for t, on in zip(tensors, there, strict=True) if not on and (t.ndim or not about.numbers)]:
            shapes = [list(tensor.shape) for tensor in wrong]
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {shapes} on the CPU")

    def _note(self, kind, func):
        frame, frames = sys._getframe(1), []
        while frame is not None:  # from the innermost on
            if (name := frame.f_code.co_filename) != __file__:
                frames.append((name, frame.f_lineno))
            frame = frame.f_back
        ours = [f for f in frames if "/partialsym/" in f[0]] or [f for f in frames if "/torch/" not in f[0]]
        self.waits.append((kind, str(func), f"{Path(ours[0][0]).name}:{ours[0][1]}"))


def _held(value, tensors):
    """`value` with what is held in place of tensors on the GPU; all tensors in it are added to `tensors`."""
    if type(value) is OnCuda:
        tensors.append(value)
        return value.held
    if type(value) in (list, tuple):
        return type(value)([_held(one, tensors) for one in value])
    if isinstance(value, Tensor):
        tensors.append(value)
    return value


def _on_cuda(value):
    if isinstance(value, Tensor):
        return OnCuda(value)
    return type(value)(map(_on_cuda, value)) if type(value) in (list, tuple) else value


class About(NamedTuple):
    """An operator: whether it waits, indexes, gives back a tensor that it was given, and takes numbers of the CPU."""

    name: str
    waits: bool
    indexes: bool
    writes: bool
    numbers: bool


@cache
def _about(func):
    packet = func.overloadpacket
    waits = packet in WAITS or func is aten.repeat_interleave.Tensor
    writes = any(r.alias_info is not None and r.alias_info.is_write for r in func._schema.returns)
    numbers = torch.Tag.pointwise in func.tags or packet.__name__.startswith("_foreach")
    return About(str(func), waits, packet in INDEXED, writes, numbers)


@contextmanager
def emulated(*own):
    """A process with one GPU that is emulated. `own`: operators written in Python, to be looked into."""
    with ExitStack() as stack:
        mode = Emulation(own)

        def synchronize(*args):
            mode._note("wait", "synchronize")

        there = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda *args: None,
            "get_device_name": lambda *args: "emulated",
            "get_device_capability": lambda *args: (7, 0),
            "is_bf16_supported": lambda *args, **options: True,
            "is_current_stream_capturing": lambda: False,
            "get_rng_state": lambda *args: torch.get_rng_state(),
            "set_rng_state": lambda state, *args: torch.set_rng_state(state),
            "empty_cache": lambda: None,
            "synchronize": synchronize,
        }
        for name, function in there.items():
            stack.enter_context(patch.object(torch.cuda, name, function))
        generator = torch.Generator
        stack.enter_context(patch.object(torch, "Generator", lambda device="cpu": generator("cpu")))
        stack.enter_context(patch.object(optimizer, "_foreach_supported_types", [Tensor, torch.nn.Parameter, OnCuda]))
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") is made here, and copied
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        torch.__future__.set_swap_module_params_on_conversion(True)  # Module.cpu would leave the old type
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, False)
        yield stack.enter_context(mode)


def devices(values):
    """The names of the devices that tensors, or tuples of them, are on."""
    return [str(one.device) for value in values for one in (value if isinstance(value, list | tuple) else [value])]
