"""Contexts with seeded generators, on the devices that are used."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn


def devices_of(model: nn.Module, *tensors: Tensor) -> set[torch.device]:
    """The devices of a model's parameters and buffers, and of its inputs."""
    return {tensor.device for tensor in (*model.parameters(), *model.buffers(), *tensors)}


def forked(devices: Iterable[torch.device]) -> AbstractContextManager[None]:
    """A context that restores the generators of the CPU and of these devices. Other devices are not touched."""
    drawing = _drawing(devices)
    return torch.random.fork_rng(drawing, device_type=drawing[0].type if drawing else None)


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device]) -> Iterator[None]:
    """A context in which the CPU and these devices draw from this seed. The generators are restored, as by `forked`."""
    drawing = _drawing(devices)
    with forked(drawing):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        for device in drawing:
            torch.get_device_module(device).set_rng_state(torch.Generator(device).manual_seed(seed).get_state(), device)
        yield


def _drawing(devices: Iterable[torch.device]) -> list[torch.device]:
    """The devices that have a generator: not the CPU, `meta` or emulated devices."""
    others = {device for device in devices if device.type not in ("cpu", "meta")}
    return sorted((d for d in others if torch.get_device_module(d).is_available()), key=str)
