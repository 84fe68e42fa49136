"""Compile a training step if the run is long enough."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from partialsym._utils.torch_private import compiler_errors, mark_dynamic

log = logging.getLogger(__name__)
PAYS = 5000  # steps on a GPU, against minutes of compiling; the gain there is an estimate


class Compiled:
    """A function of tensors, compiled as one graph for every batch size. It runs uncompiled if compiling fails.

    Args:
        function: a function of tensors whose first axis is the batch.
        backend: the backend of `torch.compile`.
    """

    def __init__(self, function: Callable[..., Any], backend: str = "inductor") -> None:
        self.plain, self.proven = function, False
        self.function = torch.compile(function, fullgraph=True, backend=backend)

    def __call__(self, *tensors: Tensor) -> Any:
        for tensor in tensors:
            mark_dynamic(tensor, 0)
        if self.proven:
            return self.function(*tensors)
        try:
            result = self.function(*tensors)
        except compiler_errors() as error:
            log.warning("the training step is not compiled, which is slower: %.300s", " ".join(str(error).split()))
            self.function = self.plain
            result = self.plain(*tensors)
        self.proven = True
        return result


def compiled(function: Callable[..., Any], setting: str, steps: int, device: str) -> Callable[..., Any]:
    """Compile `function` if `setting` is `always`, or if it is `auto` and at least 5,000 steps remain on a GPU.

    On a CPU compilation does not pay: `python -m benchmarks.compiled` measures it.
    """
    pays = device != "cpu" and steps >= PAYS
    return Compiled(function) if setting == "always" or (setting == "auto" and pays) else function
