"""What an experiment is trained on."""

from dataclasses import dataclass
from typing import Literal

from partialsym._utils.validation import check


@dataclass(frozen=True)
class TrainerConfig:
    """What it is trained on, with the names of Lightning's Trainer; may be another when a run is resumed.

    Args:
        devices: GPUs of a machine, or processes where it has none.
        num_nodes: machines.
        strategy: ddp, the one for several processes, which auto takes too. The batch is shared among them and the
            statistics of BatchNorm are those of all, so that their number changes no result but by rounding.
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes"):
            check(f"trainer.{name}", getattr(self, name), getattr(self, name) >= 1, "at least 1")

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.devices * self.num_nodes
