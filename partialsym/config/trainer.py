"""The machines and processes that train an experiment."""

from dataclasses import dataclass
from typing import Literal

from partialsym._utils.validation import check


@dataclass(frozen=True)
class TrainerConfig:
    """The machines and processes, with the names of Lightning's Trainer. A resumed run may use others.

    Args:
        devices: number of GPUs per machine, or of processes if it has no GPU.
        num_nodes: number of machines.
        strategy: ddp, for several processes; auto selects it too. The processes share each batch and the statistics of
            BatchNorm, so their number changes results only by rounding.
    """

    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes"):
            check(f"trainer.{name}", getattr(self, name), getattr(self, name) >= 1, "at least 1")

    @property
    def processes(self) -> int:
        """The number of processes that train together."""
        return self.devices * self.num_nodes
