"""Distributed training with Lightning."""

import torch.distributed
from lightning.pytorch.plugins import LayerSync
from torch import nn

from partialsym.nn.sync import share_statistics


class SyncStatistics(LayerSync):
    """During training, BatchNorms use the statistics of all processes, and the bounds of θ use the summed gradient."""

    def apply(self, model: nn.Module) -> nn.Module:
        return share_statistics(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return share_statistics(model, False)


def lost(error: RuntimeError) -> bool:
    """Whether the error means that another process has stopped responding."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
