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

from partialsym.callbacks import AtomicCheckpoints, Bar, Checkpoint
from partialsym.checks import ConfigError
from partialsym.config import Experiment
from partialsym.parallel import SharedSums
from partialsym.run import Run


def trainer(config: Experiment, run: Run, callbacks: Sequence[Callback], progress: bool = False) -> lightning.Trainer:
    """The Trainer of an experiment, of this process's rank where several train together: started by Lightning, or by
    torchrun or SLURM, whose variables it finds.

    Args:
        callbacks: called before the checkpoints are written.
    Raises:
        ConfigError: the devices asked for are not there.
    """
    for name in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    settings, folder = config.training, run.checkpoint.parent
    best = [Checkpoint(folder, "best", best=True)] if settings.select == "best" else []
    try:
        found = lightning.Trainer(
            max_epochs=settings.epochs,
            precision=precision(settings.precision),  # type: ignore[arg-type]
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=config.trainer.devices,
            num_nodes=config.trainer.num_nodes,
            **_processes(config.trainer.processes),
            use_distributed_sampler=False,  # batches are shared by `Order`
            logger=TensorBoardLogger(run.folder, name="tensorboard", version=""),
            # best before last, which keeps its state
            callbacks=[*callbacks, *best, Checkpoint(folder, "last"), *([Bar()] if progress else [])],
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


def _processes(count: int) -> dict[str, Any]:
    """How so many processes train. One is one under SLURM, too."""
    if count == 1:
        return {"plugins": [AtomicCheckpoints(), LightningEnvironment()]}
    return {"strategy": "ddp", "plugins": [AtomicCheckpoints(), SharedSums()]}


def precision(setting: str) -> str:
    """`auto` resolved: bf16-mixed where the processor has it in hardware."""
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if fast else "32"
