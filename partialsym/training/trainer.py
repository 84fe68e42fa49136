"""Lightning's Trainer for an experiment: on which devices, in how many processes, in what precision."""

import logging
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from partialsym._utils.signals import Preemption
from partialsym.config import Experiment
from partialsym.errors import ConfigError
from partialsym.runs.run import Run
from partialsym.training.callbacks.checkpoint import AtomicCheckpoints, Checkpoint, Patience, RunCallback
from partialsym.training.callbacks.progress import ProgressBar
from partialsym.training.distributed import SyncStatistics


class StoppableDDP(DDPStrategy):
    """DDP that takes the signals back before it waits for the other processes: Lightning, which has taken SIGTERM just
    before they meet first, would talk to them from within the signal."""

    def __init__(self, preemption: Preemption) -> None:
        super().__init__()
        self.preemption = preemption

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        self.preemption.listen()
        super().barrier(*args, **kwargs)


def trainer(
    config: Experiment, run: Run, preemption: Preemption, callbacks: Sequence[Callback], progress: bool = False
) -> lightning.Trainer:
    """The Trainer of an experiment, of this process's rank where several train together: started by Lightning, or by
    torchrun or SLURM, whose variables it finds.

    Args:
        preemption: what stops it.
        callbacks: called before the checkpoints are written.
    Raises:
        ConfigError: the devices asked for are not there, or have no such precision.
    """
    for name in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    settings, folder = config.training, run.checkpoint.parent
    written = [Checkpoint(folder, "last")]
    if settings.select == "best":
        written = [Checkpoint(folder, "best", best=True), *written]  # before the last, which keeps its state
    if settings.patience is not None:
        callbacks = [*callbacks, Patience(settings.patience)]
    try:
        found = lightning.Trainer(
            max_epochs=settings.epochs,
            precision=precision(settings.precision),  # type: ignore[arg-type]
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=config.trainer.devices,
            num_nodes=config.trainer.num_nodes,
            **_processes(config.trainer.processes, preemption),
            use_distributed_sampler=False,  # batches are shared by `EpochBatchSampler`
            logger=TensorBoardLogger(run.folder, name="tensorboard", version=""),
            callbacks=[*callbacks, RunCallback(run, preemption), *written, *([ProgressBar()] if progress else [])],
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        if isinstance(found.strategy, DDPStrategy) and (launcher := found.strategy.cluster_environment) is not None:
            launcher.validate_settings(config.trainer.devices, config.trainer.num_nodes)
    except (ValueError, RuntimeError) as error:  # Lightning's own is one of these
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None
    return found


def _processes(count: int, preemption: Preemption) -> dict[str, Any]:
    """How so many processes train. One is one under SLURM, too."""
    if count == 1:
        return {"plugins": [AtomicCheckpoints(), LightningEnvironment()]}
    return {"strategy": StoppableDDP(preemption), "plugins": [AtomicCheckpoints(), SyncStatistics()]}


def precision(setting: str) -> str:
    """`auto` resolved: bf16-mixed where the processor has it in hardware.

    Raises:
        ConfigError: 16-mixed without a GPU, where Lightning would take bf16-mixed for it.
    """
    if setting == "16-mixed" and not torch.cuda.is_available():
        raise ConfigError("training.precision is '16-mixed': must be bf16-mixed, 32 or auto where there is no GPU.")
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    processor = torch.cpu.get_capabilities()
    return "bf16-mixed" if processor.get("amx_tile") or processor.get("avx512_bf16") else "32"
