"""Drawing from a seed for a while, on the devices that take part."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn


def devices_of(model: nn.Module, *tensors: Tensor) -> set[torch.device]:
    """Where a model's parameters and buffers are, and its inputs."""
    return {tensor.device for tensor in (*model.parameters(), *model.buffers(), *tensors)}


def forked(devices: Iterable[torch.device]) -> AbstractContextManager[None]:
    """The generators of the processor and of these devices are afterwards as they were; no other device is touched."""
    drawing = _drawing(devices)
    return torch.random.fork_rng(drawing, device_type=drawing[0].type if drawing else None)


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device]) -> Iterator[None]:
    """What is drawn within, on the processor and on these devices, comes from that seed; see `forked`."""
    drawing = _drawing(devices)
    with forked(drawing):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        for device in drawing:
            torch.get_device_module(device).set_rng_state(torch.Generator(device).manual_seed(seed).get_state(), device)
        yield


def _drawing(devices: Iterable[torch.device]) -> list[torch.device]:
    """Those with a generator of their own: not the processor, `meta`, or what is only imitated."""
    others = {device for device in devices if device.type not in ("cpu", "meta")}
    return sorted((d for d in others if torch.get_device_module(d).is_available()), key=str)
