"""What Lightning is told about processes that train together."""

import torch.distributed
from lightning.pytorch.plugins import LayerSync
from torch import nn

from partialsym.nn.sync import share_statistics


class SyncStatistics(LayerSync):
    """While they train, BatchNorms take the statistics of all processes, and the bounds of θ look at the gradient of
    all."""

    def apply(self, model: nn.Module) -> nn.Module:
        return share_statistics(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return share_statistics(model, False)


def lost(error: RuntimeError) -> bool:
    """Whether it says that another process no longer answers."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
