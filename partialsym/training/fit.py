"""Run one experiment: from a config to a run with its result."""

import gc
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from torch import nn

from partialsym._utils.precision import full_float32
from partialsym._utils.signals import GO_ON, Preemption
from partialsym._utils.validation import check
from partialsym.config import ConfigError, DataConfig, Experiment, ModelConfig
from partialsym.data import Dataset, Preprocessing, augmentation, batched, load, trained_on
from partialsym.data.reading import Range
from partialsym.data.sources.folder import folder
from partialsym.data.sources.hf import hf
from partialsym.groups import group as group_named
from partialsym.inference import evaluating
from partialsym.lifting import Lifted
from partialsym.models import Augerino, exact_symmetries, symmetries_of
from partialsym.models.saving import save_model
from partialsym.registry import NETWORKS, takes
from partialsym.runs.checkpoints import read_checkpoint
from partialsym.runs.lock import locked
from partialsym.runs.provenance import provenance
from partialsym.runs.run import Run
from partialsym.runs.schema import FORMAT
from partialsym.training.callbacks.divergence import DivergenceCallback
from partialsym.training.callbacks.progress import WatchCallback
from partialsym.training.dataloaders import loaders
from partialsym.training.determinism import algorithms, prepare
from partialsym.training.distributed import lost
from partialsym.training.evaluation import DRAWS, calibration, choose, evaluation, images_evaluated
from partialsym.training.module import ClassifierModule, balanced, random_state
from partialsym.training.pretrained import fingerprint, load_pretrained, normalised_alike, pretrained_network, starting
from partialsym.training.progress import log_images
from partialsym.training.trainer import precision, trainer as trainer_of

log = logging.getLogger(__name__)


class Ablation(NamedTuple):
    """An in-place change to a network that no config describes, for ablations. The result records the name."""

    name: str
    apply: Callable[[nn.Module], object]


def train(
    config: Experiment,
    out: str | Path = "runs",
    *,
    root: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    alter: Ablation | None = None,
    data: Dataset | None = None,
    draws: int = DRAWS,
    watch: Callable[[int, int], object] | None = None,
) -> Run:
    """Run one experiment: train, evaluate once on the test split, and write everything to OUT/NAME/seed<seed>.

    Args:
        config: the experiment.
        out: folder of all runs.
        root: folder of the data. It overrides the config's.
        resume: continue an interrupted run. A finished run is returned unchanged.
        progress: show a progress bar.
        alter: a change to the network before it is trained. The saved model cannot be rebuilt.
        data: the config's data set, if it is loaded already.
        draws: passes over test images on drawn elements, at least 1.
        watch: called after every training step with the number of completed steps and the total. If it raises
            KeyboardInterrupt, the training is stopped.
    Returns:
        The finished run. Only rank 0 writes the run; in the other processes it may not have finished.
    Raises:
        ConfigError: the config cannot be run, or the folder exists already or is in use.
        Diverged: a step was not finite, or a kernel exploded. The previous checkpoint is retained.
        ConnectionError: another process of the same training has died.
        Stopped: the user stopped the training. The checkpoint of the last epoch is retained. SIGTERM and SIGUSR1, in
            the main thread, raise the subclass `Preempted`; the checkpoint is then of the step during which the signal
            arrived.
    """
    prepare(config.training.deterministic)
    run = run_folder(config, out)
    with Preemption(run.folder) as preemption:
        start = starting(run, config.model)
        record = _checked(start)  # before any data is read
        guard = DivergenceCallback(config.training.diverged == "skip")
        callbacks = [guard] if watch is None else [guard, WatchCallback(watch)]
        trainer = trainer_of(config, run, preemption, callbacks, progress)
    leads = trainer.is_global_zero
    if run.finished if not leads else _finished(run, config, resume, alter):
        return run
    with preemption, algorithms(config.training.deterministic):
        gc.collect()  # reference cycles of Lightning retain an earlier run and its images
        data = load_data(config.data, root) if data is None else data
        lightning.seed_everything(config.seed, verbose=False)
        model = build_model(start, data.channels, len(data.classes))
        data = normalised_alike(data, record)
        if alter is not None:
            alter.apply(model)
        check_size(model, data)
        if leads and (caveat := inexact(config.model, model, data.size)):
            log.info("%s", caveat)
        with locked(run.folder) if leads else nullcontext():
            if leads:
                if _finished(run, config, resume, alter):  # another process may have finished it
                    return run
                run.begin(config)
            origin = provenance()  # before training, because the repository may change during it
            fit = _fit(config, run, model, data, preemption, trainer)
            if leads:
                result = _result(config, model, data, fit, draws) | {"diverged": guard.skipped} | origin
                about: dict[str, Any] = {"classes": data.classes, "mean": data.mean, "std": data.std}
                about |= {"size": data.size, "fit": config.data.fit, "range": data.range}
                if alter is not None:
                    result["altered"] = alter.name
                if start.pretrained is not None:
                    result["pretrained"] = {"sha256": fingerprint(run.pretrained)}
                save_model(model.cpu(), run.folder / "model", altered=alter.name if alter else None, **about)
                run.write_result(result)
    return run


def _finished(run: Run, config: Experiment, resume: bool, alter: Ablation | None) -> bool:
    """Whether the run has finished. Raises ConfigError if the folder belongs to another run."""
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


def _checked(config: ModelConfig) -> Mapping[str, Any]:
    """Raise ConfigError at invalid settings; return the record of the pretrained model, or an empty one."""
    if config.pretrained is not None:
        return load_pretrained(config)[1]
    build_model(config, channels=1, num_classes=2)
    return {}


def build_model(config: ModelConfig, channels: int, num_classes: int) -> nn.Module:
    """The network of a config, wrapped in Augerino and with pretrained weights if the config asks for it.

    Raises:
        ConfigError: invalid settings, or those of another network than the pretrained one.
    """
    config = config.complete()
    if config.pretrained is None:
        return _fresh(config, channels, num_classes)
    return pretrained_network(config, channels, num_classes, lambda: _fresh(config, channels, num_classes))


def _fresh(config: ModelConfig, channels: int, num_classes: int) -> nn.Module:
    other = ("network", "options", "copies", "augerino", "pretrained")  # not settings of the network
    settings = {key: value for key, value in vars(config).items() if value is not None and key not in other}
    for key in [key for key in settings if not takes(config.network, key)]:
        right = f"left out: {config.network} has no such setting"
        check(f"model.{key}", value := settings.pop(key), value == getattr(ModelConfig(), key), right)
    copies, around = config.copies, config.augerino
    try:
        model = NETWORKS[config.network](in_channels=channels, num_classes=num_classes, **settings, **config.options)
        if around is None:
            return model
        return Augerino(model, around, copies=copies, sampling=config.sampling, proportional=config.proportional)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from None


def load_data(config: DataConfig, root: str | Path | None = None, range: Range | None = None) -> Dataset:
    """The data set of a config.

    `root` overrides the config's folder, and `range` (for 16-bit images, usually a model's) the config's range.
    """
    config, root = config.complete(), root or config.root
    name, size = str(config.name), (config.size, config.size) if isinstance(config.size, int) else config.size
    split: dict[str, Any] = {"validation": config.validation, "split_seed": config.split_seed}
    own = {"size": size, "fit": config.fit, "channels": config.channels, "test": config.test, **split}
    own |= {"folds": config.folds, "fold": config.fold, "split_by": config.split_by}
    own |= {"range": range or config.range, "stream": config.stream, "workers": config.workers}
    if config.source == "named":
        data = load(name, root, **split)
    elif config.source == "folder":
        check("data.root", root, bool(root), "the folder of the images")
        data = replace(folder(str(root), **own), name=name)
    else:
        data = hf(name, root=root, config=config.subset, image=config.image, label=config.label, **own)
    if config.test_images is not None:
        data = data.with_test(config.test_images, config.split_seed)
    return data if config.train_images is None else data.with_train(config.train_images, config.split_seed)


@torch.no_grad()
def check_size(model: nn.Module, data: Dataset) -> None:
    """Raise ConfigError if the model cannot process images of this size."""
    try:
        with evaluating(model):
            model(torch.zeros(1, data.channels, *data.size))
    except ValueError as error:
        raise ConfigError(f"{data.name} images of {data.size} pixels do not fit the model: {error}") from None


def inexact(config: ModelConfig, model: nn.Module, size: tuple[int, int]) -> str:
    """A message if a full network is not exactly invariant to all symmetries of its group, with the reason; else ""."""
    wanted = symmetries_of(group_named(config.group))
    exact, square = exact_symmetries(model, size), exact_symmetries(model, (size[0], size[0]))
    if config.partial or exact == wanted:
        return ""
    lost = ", ".join(name for name in wanted if name not in exact)
    if square == wanted:
        why = f"images of {size[0]}×{size[1]} pixels are not square (--data.size makes them)"
    elif isinstance(model, Lifted):
        why = f"it was lifted with partial={model.settings['partial']!r}, resampling={model.settings['resampling']!r}"
    elif config.complete().head not in (None, "group"):
        why = f"the head {config.head!r} breaks the symmetry by design"
    else:
        why = f"the symmetry does not permute its {config.samples} elements (use a multiple of 4 per component)"
    return f"the full network of {config.group} is only approximately invariant to {lost}: {why}."


def _fit(
    config: Experiment, run: Run, model: nn.Module, data: Dataset, preemption: Preemption, trainer: lightning.Trainer
) -> ClassifierModule:
    """Train `model` in place, starting from the run's checkpoint if there is one."""
    settings, preprocess, device = config.training, Preprocessing(data.mean, data.std), trainer.strategy.root_device
    rank, processes = trainer.global_rank, trainer.world_size
    if device.type == "cuda":
        torch.cuda.set_device(device)
    weights = balanced(data.train.labels, len(data.classes)) if settings.class_weights == "balanced" else None
    fit = ClassifierModule(model, settings, calibration(config, data, preprocess), len(data.classes), weights)
    fit.rng = random_state()  # DDP sets the seed again
    train = batched(trained_on(data), preprocess, device, augmentation(config.data.augment, rank, processes))
    validation = batched(data.validation, preprocess, device)
    batches = loaders(train, validation, settings.batch_size, config.seed, settings.repeats, rank, processes)
    with warnings.catch_warnings():
        # Ignore Lightning's advice on workers (the images are in memory) and on resuming, and torch's warning about the
        # schedule, which advances although 16-mixed skips the first step.
        advice = "num_workers|Checkpoint directory|dataloader is not resumable|LeafSpec|lr_scheduler.step"
        warnings.filterwarnings("ignore", message=f".*({advice}).*")
        try:
            with preemption.deferred(), nullcontext() if settings.tf32 else full_float32():
                last = run.checkpoint if run.checkpoint.exists() else None
                trainer.fit(fit, *batches, ckpt_path=last, weights_only=True)
        except SystemExit:  # raised by Lightning on Ctrl-C, and by our handler on a signal
            raise preemption.error() from None
        except RuntimeError as error:
            if "DataLoader worker" in str(error):
                what = "a process that reads images has died, perhaps because memory was exhausted"
                raise OSError(f"{run.folder}: {what}; {GO_ON} after its last epoch.") from None
            if not lost(error):
                raise
            raise ConnectionError(
                f"{run.folder}: another process of the training has ended ({str(error)[:80]}…); {GO_ON} after its "
                "last epoch, also with another number of processes."
            ) from None
    if settings.select == "best":
        fit.load_state_dict(read_checkpoint(run.checkpoint.with_stem("best"))["state_dict"])
    model.to(device).eval()  # Lightning moves it to the CPU at the end
    return fit


def _result(config: Experiment, model: nn.Module, data: Dataset, fit: ClassifierModule, draws: int) -> dict[str, Any]:
    """The content of result.json."""
    seconds = fit.seconds  # without the evaluation
    with log_images(model, "choosing the components"):
        components = choose(config, model, data)  # before the test split is evaluated
    most = images_evaluated(config.data, data, draws) + len(data.validation)
    most += 2 * min(config.training.recalibration_images, len(data.train))  # for all elements, and for ⌈nθ⌉
    with log_images(model, "evaluation", most):
        evaluated = evaluation(config, model, data, draws)
    return {
        "format": FORMAT,
        "config": replace(config, data=replace(config.data, root=None)).to_dict(),  # a path is meaningless elsewhere
        "components": components,
        **evaluated,
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": len(fit.history),
        "history": fit.history,
        "seconds": round(seconds, 1),
        "loader_share": round(fit.loader_share, 4),
        "precision": precision(config.training.precision),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
