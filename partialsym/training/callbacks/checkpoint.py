"""Lightning checkpoints at the end of every epoch, and within an epoch when the run must stop."""

import io
import signal
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from partialsym._utils.atomic import replace_file
from partialsym._utils.signals import Preemption
from partialsym.runs.checkpoints import read_checkpoint
from partialsym.runs.run import Run


class AtomicCheckpoints(TorchCheckpointIO):
    """Write checkpoints to a temporary file and rename it, so that a full disk or a kill leaves the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        data = io.BytesIO()  # a full disk is then an OSError, where torch raises a RuntimeError of its own
        torch.save(checkpoint, data)
        replace_file(Path(path), lambda temporary: temporary.write_bytes(data.getbuffer()))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(Path(path))


class Checkpoint(ModelCheckpoint):
    """Save a checkpoint at the end of every epoch, or of every better epoch. The run folder may be moved.

    Args:
        folder: folder of the checkpoints.
        name: name of the file.
        best: save only if the validation accuracy is the highest so far.
    """

    def __init__(self, folder: Path, name: str, best: bool = False) -> None:
        what: dict[str, Any] = {"monitor": "validation_accuracy", "mode": "max"} if best else {}
        # At the end of the training epoch: earlier, the logged accuracy is still that of the epoch before.
        super().__init__(folder, name, save_on_train_epoch_end=True, enable_version_counter=False, **what)

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)  # as in older files

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def moved(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        here = {key: moved(state_dict[key]) for key in paths}
        files = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": files, "dirpath": self.dirpath})


class Patience(EarlyStopping):
    """Ends a training whose validation accuracy has not risen for so many epochs, and one resumed just then."""

    def __init__(self, epochs: int) -> None:
        super().__init__("validation_accuracy", mode="max", patience=epochs, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class RunCallback(Callback):
    """Write metrics.csv with every checkpoint, and save one more checkpoint within the epoch when the run must stop."""

    def __init__(self, run: Run, preemption: Preemption) -> None:
        self.run, self.preemption = run, preemption

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        if trainer.is_global_zero:
            self.run.write_history(pl_module.history)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.preemption.listen()  # Lightning has taken SIGTERM for itself

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._asked(trainer):  # during validation: the checkpoint is that of the epoch's end
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        if not trainer.is_last_batch and self._asked(trainer):
            trainer.save_checkpoint(self.run.checkpoint)
            raise KeyboardInterrupt

    def _asked(self, trainer: lightning.Trainer) -> bool:
        """Whether any process must stop. All processes then stop at the same step."""
        asked = trainer.strategy.reduce_boolean_decision(bool(self.preemption.caught), all=False)
        if asked:
            self.preemption.caught = self.preemption.caught or signal.SIGTERM
        return asked  # not what was caught since: no other process knows of that
