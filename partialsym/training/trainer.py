"""Lightning's Trainer for an experiment: its devices, processes and precision."""

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
    """DDP that restores our signal handlers before it waits for the other processes.

    Lightning installs its own SIGTERM handler just before the first barrier. It would communicate with the other
    processes from within the handler.
    """

    def __init__(self, preemption: Preemption) -> None:
        super().__init__()
        self.preemption = preemption

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        self.preemption.listen()
        super().barrier(*args, **kwargs)


def trainer(
    config: Experiment, run: Run, preemption: Preemption, callbacks: Sequence[Callback], progress: bool = False
) -> lightning.Trainer:
    """The Trainer of an experiment, with the rank of this process if several processes train together.

    Lightning starts the processes, unless torchrun or SLURM has started them; it detects their environment variables.

    Args:
        preemption: stops the training on a signal.
        callbacks: called before the checkpoints are written.
    Raises:
        ConfigError: the requested devices do not exist, or do not support the precision.
    """
    for name in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    settings, folder = config.training, run.checkpoint.parent
    written = [Checkpoint(folder, "last")]
    if settings.select == "best":
        written = [Checkpoint(folder, "best", best=True), *written]  # "last" saves the state of "best"
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
            use_distributed_sampler=False,  # `EpochBatchSampler` distributes the batches
            logger=TensorBoardLogger(run.folder, name="tensorboard", version=""),
            callbacks=[*callbacks, RunCallback(run, preemption), *written, *([ProgressBar()] if progress else [])],
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        if isinstance(found.strategy, DDPStrategy) and (launcher := found.strategy.cluster_environment) is not None:
            launcher.validate_settings(config.trainer.devices, config.trainer.num_nodes)
    except (ValueError, RuntimeError) as error:  # Lightning's MisconfigurationException is a subclass of one of these
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None
    return found


def _processes(count: int, preemption: Preemption) -> dict[str, Any]:
    """The strategy and plugins for `count` processes. A single process stays single under SLURM, too."""
    if count == 1:
        return {"plugins": [AtomicCheckpoints(), LightningEnvironment()]}
    return {"strategy": StoppableDDP(preemption), "plugins": [AtomicCheckpoints(), SyncStatistics()]}


def precision(setting: str) -> str:
    """The precision to use; `auto` becomes bf16-mixed if the hardware supports it, else 32.

    Raises:
        ConfigError: 16-mixed without a GPU, which Lightning would silently replace by bf16-mixed.
    """
    if setting == "16-mixed" and not torch.cuda.is_available():
        raise ConfigError("training.precision is '16-mixed': must be bf16-mixed, 32 or auto without a GPU.")
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    processor = torch.cpu.get_capabilities()
    return "bf16-mixed" if processor.get("amx_tile") or processor.get("avx512_bf16") else "32"
