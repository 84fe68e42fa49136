"""What training does beside the steps, on Lightning: checkpoints, stopping when asked to, the progress bar."""

import io
import signal
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar

from partialsym.files import replace_file
from partialsym.fitting import FORMAT, Fit
from partialsym.measure import learned_subsets
from partialsym.run import Run
from partialsym.stopping import Preemption

EVERY = 20  # steps: how often the progress bar reads what it shows


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written aside and renamed: a full disk or a kill leaves the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        data = io.BytesIO()  # a full disk is then an OSError, where torch raises a RuntimeError of its own
        torch.save(checkpoint, data)
        replace_file(Path(path), lambda temporary: temporary.write_bytes(data.getbuffer()))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, on the processor.

    Raises:
        ValueError: it is damaged, or of another format version.
    """
    data = io.BytesIO(path.read_bytes())
    try:
        checkpoint: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
        version = dict(checkpoint["partialsym"]).get("format", 1)  # the first release wrote none
    except (RuntimeError, UnpicklingError, EOFError, OSError, LookupError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())[:100]}).") from None
    if version != FORMAT:
        raise ValueError(f"{path} has format version {version!r}: this version reads {FORMAT}.")
    return checkpoint


class Checkpoint(ModelCheckpoint):
    """A checkpoint at the end of every epoch, or of every one that is better; its run folder may be moved.

    Args:
        folder: of the checkpoints.
        name: of the file.
        best: only at the highest validation accuracy so far.
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


class Keeper(Callback):
    """Writes metrics.csv with every checkpoint; takes one more within the epoch when the run is to stop."""

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
        """Whether any process is to stop: then all do, at the same step."""
        asked = trainer.strategy.reduce_boolean_decision(bool(self.preemption.caught), all=False)
        if asked:
            self.preemption.caught = self.preemption.caught or signal.SIGTERM
        return asked  # not what was caught since: no other process knows of that


class Bar(TQDMProgressBar):
    """Loss, accuracies in percent and what the layers keep, from lifting to the last: of every EVERY-th step and of the
    last one of an epoch, since a GPU has to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, Any] = {}

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, Fit)
        if not self.shown or trainer.is_last_batch or trainer.global_step % EVERY == 0:
            self.shown = self._read(trainer, pl_module)
        return self.shown

    def _read(self, trainer: lightning.Trainer, pl_module: Fit) -> dict[str, Any]:
        shown: dict[str, Any] = {"loss": f"{float(trainer.callback_metrics.get('loss', torch.nan)):.3f}"}
        if pl_module.history:
            last = pl_module.history[-1]
            kinds = (("train", "train_accuracy"), ("val", "validation_accuracy"))
            shown |= {name: f"{100 * last[key]:.1f}%" for name, key in kinds}
        subsets = learned_subsets(pl_module.model)
        if any("theta_deg" in subset for subset in subsets):
            shown["θ"] = " ".join(f"{s['theta_deg']:.0f}°" for s in subsets if "theta_deg" in s)
        if any("centre_deg" in subset for subset in subsets):
            shown["centre"] = " ".join(f"{s['centre_deg']:.0f}°" for s in subsets if "centre_deg" in s)
        least = [min((v for k, v in subset.items() if k.startswith("P(")), default=1.0) for subset in subsets]
        if min(least) < 1:
            shown["least P"] = " ".join(f"{p:.2f}" for p in least)
        return shown
