"""Verify a run folder: every file is unchanged, and all files belong to the same run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from partialsym._utils.atomic import leftovers
from partialsym.config import Experiment
from partialsym.models.saving import load_model
from partialsym.runs.checkpoints import read_checkpoint
from partialsym.runs.lock import in_use
from partialsym.runs.run import MANIFEST, Run, identity


@dataclass
class VerificationReport:
    """Notes about a run folder and faults found in it, one line each."""

    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read(self, reader: Callable[[], Any]) -> Any:
        """Return the value of `reader`. If the file is missing or damaged, return None and record a fault."""
        try:
            return reader()
        except (OSError, ValueError, TypeError, KeyError) as error:
            self.faults.append(str(error))
            return None


def examine(run: Run) -> VerificationReport:
    """Read every file of a run, finished or not, and compare them with the manifest and with each other.

    Raises:
        FileNotFoundError, ConfigError: the folder is not a run folder, or its config is invalid.
    """
    config, found = run.config(), VerificationReport()
    if f"seed{config.seed}" != run.folder.resolve().name:
        found.faults.append(f"config.yaml has seed {config.seed}, but the folder is called {run.folder.name}")
    if half := leftovers(run.folder):
        found.notes.append(f"{len(half)} half-written file(s) of a process that was killed: --resume removes them")
    history = found.read(run.history)
    files = [path for path in (run.checkpoint, run.checkpoint.with_name("best.ckpt")) if path.is_file()]
    saved = {path.stem: found.read(partial(read_checkpoint, path)) for path in files}
    if run.finished:
        _hashes(run, found)
        _finished(run, config, history, saved, found)
    else:
        _unfinished(run, config, history, saved.get("last"), found)
    return found


def _hashes(run: Run, found: VerificationReport) -> None:
    held = found.read(run.manifest)
    if held is None:
        if not (run.folder / MANIFEST).is_file():
            found.notes.append(
                f"no {MANIFEST}: the run is of an earlier version, and changes of its files cannot be detected"
            )
        return
    now = run.hashes()
    found.faults += [f"{name} is missing" for name in held if name not in now]
    found.faults += [
        f"{name} was changed: its sha256 differs from that in {MANIFEST}" for name in held if _other(name, held, now)
    ]
    found.notes += [f"{name} was added after the run" for name in now if name not in held]
    found.notes.append(f"{sum(now.get(name) == value for name, value in held.items())} files are unchanged")


def _other(name: str, held: dict[str, str], now: dict[str, str]) -> bool:
    return name in now and now[name] != held[name]


def _finished(run: Run, config: Experiment, history: Any, saved: dict[str, Any], found: VerificationReport) -> None:
    result = found.read(run.result)
    if result is None:
        return
    there = found.read(lambda: identity(Experiment.from_dict(result["config"])))
    for key, value in identity(config).items():
        if there and there[key] != value:
            found.faults.append(f"config.yaml has {key} = {value!r}, but result.json has {there[key]!r}")
    early = config.training.patience is not None and result["epochs"] < config.training.epochs
    if result["epochs"] != config.training.epochs and not early:
        found.faults.append(f"result.json has {result['epochs']} epochs, but config.yaml has {config.training.epochs}")
    if history is not None and history != result.get("history"):
        found.faults.append("metrics.csv and the history in result.json differ")
    if "altered" not in result:  # such a network cannot be rebuilt
        loaded = found.read(lambda: load_model(run.folder / "model"))
        checkpoint = saved.get("best" if config.training.select == "best" else "last")
        if loaded and checkpoint and not _same(loaded[0].state_dict(), checkpoint["state_dict"]):
            found.faults.append("the weights in model/ differ from those of the checkpoint")
    accuracy = 100 * result["accuracy"]["test"]
    found.notes.append(f"finished: {result['epochs']} epochs, test accuracy {accuracy:.1f} %")


def _unfinished(run: Run, config: Experiment, history: Any, last: Any, found: VerificationReport) -> None:
    done = last["partialsym"]["history"] if last else []
    if history is not None and history[: len(done)] != done:  # it may have rows written after the checkpoint
        found.faults.append("metrics.csv and the history in checkpoints/last.ckpt differ")
    state = "in training" if in_use(run.folder) else "not finished, --resume continues it"
    found.notes.append(f"{state}: {len(done)} of {config.training.epochs} epochs are saved")


def _same(weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state.get(f"model.{key}", value.new_zeros(0))) for key, value in weights.items())
