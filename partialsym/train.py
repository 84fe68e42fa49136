"""config → Run: one experiment from its data to its result."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from partialsym.callbacks import AtomicCheckpoints, Bar, Checkpoint, Keeper, read_checkpoint
from partialsym.checks import check
from partialsym.config import ConfigError, DataConfig, Experiment, ModelConfig
from partialsym.data import Dataset, Resident, augmentation, load
from partialsym.data.folder import folder
from partialsym.data.hf import hf
from partialsym.determinism import algorithms
from partialsym.divergence import Guard
from partialsym.evaluation import DRAWS, calibration, evaluation
from partialsym.fitting import Fit, loaders
from partialsym.inference import evaluating
from partialsym.locking import locked
from partialsym.measure import Preprocessing
from partialsym.models import NETWORKS, Augerino
from partialsym.provenance import provenance
from partialsym.results import FORMAT
from partialsym.run import Run
from partialsym.stopping import Preemption, Stopped
from partialsym.store import save_model

log = logging.getLogger(__name__)


class Alteration(NamedTuple):
    """A change to a network, in place, in a way no config describes: for ablations. The name stands in the result."""

    name: str
    apply: Callable[[nn.Module], object]


def train(
    config: Experiment,
    out: str | Path = "runs",
    *,
    root: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    alter: Alteration | None = None,
    data: Dataset | None = None,
    draws: int = DRAWS,
) -> Run:
    """Run one experiment: train, evaluate once on the test split, write everything to OUT/NAME/seed<seed>.

    Args:
        config: the experiment.
        out: folder of all runs.
        root: where the data are, if not where the config says.
        resume: go on with an interrupted run; a finished one is returned as it is.
        progress: show a progress bar.
        alter: what to change in the network before it is trained. The saved model cannot be rebuilt.
        data: the config's data set, where it is at hand already.
        draws: passes over test images under drawn elements, at least 1.
    Raises:
        ConfigError: the config cannot be run, or the folder exists already or is in use.
        Diverged: a step was not finite, or a kernel exploded; the checkpoint before it is kept.
        Stopped: by the user; the last epoch's checkpoint is kept. By SIGTERM or SIGUSR1, in the main thread, it is
            `Preempted`, and the checkpoint is of the step it came in.
    """
    run = run_folder(config, out)
    build_model(config.model, channels=1, classes=2)  # settings that do not fit are found before any data is read
    if _finished(run, config, resume, alter):
        return run
    with Preemption(run.folder) as preemption, algorithms(config.training.deterministic):
        data = load_data(config.data, root) if data is None else data
        lightning.seed_everything(config.seed, verbose=False)
        model = build_model(config.model, data.channels, len(data.classes))
        if alter is not None:
            alter.apply(model)
        check_size(model, data)
        with locked(run.folder):
            if _finished(run, config, resume, alter):  # meanwhile
                return run
            run.begin(config)
            origin = provenance()  # of the code that trains, not of what is committed meanwhile
            fit, guard = _fit(config, run, model, data, preemption, progress)
            result = _result(config, model, data, fit, draws) | {"diverged": guard.skipped} | origin
            about: dict[str, Any] = {"classes": data.classes, "mean": data.mean, "std": data.std, "size": data.size}
            about["fit"] = config.data.fit
            if alter is not None:
                about["altered"] = result["altered"] = alter.name
            save_model(model.cpu(), run.folder / "model", **about)
            run.write_result(result)
    return run


def _finished(run: Run, config: Experiment, resume: bool, alter: Alteration | None) -> bool:
    """Whether there is nothing left to do; raises ConfigError where the folder is of another run."""
    run.check(config, resume)
    if not run.finished:
        return False
    held, given = run.result().get("altered"), alter.name if alter else None
    if held != given:
        raise ConfigError(f"{run.folder} holds a run altered by {held!r}, not by {given!r}.")
    log.info("%s has finished already", run.folder)
    return True


def run_folder(config: Experiment, out: str | Path) -> Run:
    """OUT/NAME/seed<seed>."""
    return Run(Path(out) / config.name / f"seed{config.seed}")


def build_model(config: ModelConfig, channels: int, classes: int) -> nn.Module:
    """The network of a config, in an Augerino if it names one; a setting they refuse becomes a ConfigError."""
    settings = {key: value for key, value in vars(config.complete()).items() if value is not None}
    network, copies, around = NETWORKS[settings.pop("network")], settings.pop("copies"), settings.pop("augerino", None)
    try:
        model = network(in_channels=channels, classes=classes, **settings)
        if around is None:
            return model
        return Augerino(model, around, copies=copies, sampling=config.sampling, proportional=config.proportional)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from None


def load_data(config: DataConfig, root: str | Path | None = None) -> Dataset:
    """The data set of a config, from `root` if given."""
    config, root = config.complete(), root or config.root
    name, size = str(config.name), (config.size, config.size) if isinstance(config.size, int) else config.size
    split: dict[str, Any] = {"validation": config.validation, "split_seed": config.split_seed}
    own = {"size": size, "fit": config.fit, "channels": config.channels, "test": config.test, **split}
    if config.source == "named":
        data = load(name, root, **split)
    elif config.source == "folder":
        check("data.root", root, bool(root), "the folder of the images")
        data = folder(str(root), **own)
    else:
        data = hf(name, root=root, config=config.subset, image=config.image, label=config.label, **own)
    return data if config.train_images is None else data.with_train(config.train_images, config.split_seed)


@torch.no_grad()
def check_size(model: nn.Module, data: Dataset) -> None:
    """Raise ConfigError where the images do not pass through the model."""
    try:
        with evaluating(model):
            model(torch.zeros(1, data.channels, *data.size))
    except ValueError as error:
        raise ConfigError(f"{data.name} images of {data.size} pixels do not fit the model: {error}") from None


def precision(setting: str) -> str:
    """`auto` resolved: bf16-mixed where the processor has it in hardware."""
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if fast else "32"


def _fit(
    config: Experiment, run: Run, model: nn.Module, data: Dataset, preemption: Preemption, progress: bool
) -> tuple[Fit, Guard]:
    """Train `model` in place, from the run's checkpoint if there is one; returns what counted the steps."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    settings, preprocess = config.training, Preprocessing(data.mean, data.std)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fit = Fit(model, settings, calibration(config, data, preprocess), len(data.classes))
    guard, best = Guard(settings.diverged == "skip"), settings.select == "best"
    folder = run.checkpoint.parent
    trainer = lightning.Trainer(
        max_epochs=settings.epochs,
        precision=precision(settings.precision),  # type: ignore[arg-type]
        accelerator=device,
        devices=1,
        logger=TensorBoardLogger(run.folder, name="tensorboard", version=""),
        callbacks=[
            guard,
            Keeper(run, preemption),
            *([Checkpoint(folder, "best", best=True)] if best else []),  # before last, which keeps its state
            Checkpoint(folder, "last"),
            *([Bar()] if progress else []),
        ],
        plugins=[AtomicCheckpoints(), LightningEnvironment()],  # under SLURM, too, it is one process
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    train = Resident(data.train, preprocess, device, augmentation(config.data.augment))
    validation = Resident(data.validation, preprocess, device)
    batches = loaders(train, validation, settings.batch_size, config.seed, settings.repeats)
    with warnings.catch_warnings():
        # Lightning's advice on workers (the images are in memory) and on resuming, from within an epoch or not.
        advice = "num_workers|Checkpoint directory|dataloader is not resumable|LeafSpec"
        warnings.filterwarnings("ignore", message=f".*({advice}).*")
        try:
            with preemption.deferred():
                last = run.checkpoint if run.checkpoint.exists() else None
                trainer.fit(fit, *batches, ckpt_path=last, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C, and ours to a signal
            if preemption.caught:
                raise preemption.error() from None
            raise Stopped(f"{run.folder} is stopped; with --resume it goes on after its last epoch.") from None
    if best:
        fit.load_state_dict(read_checkpoint(folder / "best.ckpt")["state_dict"])
    model.to(device).eval()  # Lightning takes it off at the end
    return fit, guard


def _result(config: Experiment, model: nn.Module, data: Dataset, fit: Fit, draws: int) -> dict[str, Any]:
    """What result.json holds."""
    seconds = fit.seconds  # before the evaluation, which is no part of them
    return {
        "format": FORMAT,
        "config": replace(config, data=replace(config.data, root=None)).to_dict(),  # a path says nothing elsewhere
        **evaluation(config, model, data, draws),
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": len(fit.history),
        "history": fit.history,
        "seconds": round(seconds, 1),
        "loader_share": round(fit.loader_share, 4),
        "precision": precision(config.training.precision),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
