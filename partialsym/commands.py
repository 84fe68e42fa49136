"""What each command does, once its arguments are known to be good."""

import csv
import io
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from partialsym.config import ConfigError, Experiment, keys_of
from partialsym.cost import beside, costs
from partialsym.densities import set_proportional
from partialsym.evaluation import calibration
from partialsym.files import replace_text
from partialsym.freezing import kept
from partialsym.images import read_images, shown
from partialsym.inference import recalibrate
from partialsym.measure import Preprocessing, accuracy, logits, sampled_accuracies
from partialsym.run import Run, Trained
from partialsym.table import Table, load_table, render
from partialsym.train import build_model, check_size, load_data, precision, run_folder, train

log = logging.getLogger(__name__)
FIGURES = {
    "subsets": "learned subsets per layer",
    "depths": "learned subsets against depth",
    "sizes": "accuracy against the size of the training set",
    "responses": "responses to images turned through 360°",
}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _progress(options: Namespace) -> bool:
    return sys.stderr.isatty() if options.progress is None else options.progress


def _experiment(options: Namespace) -> Experiment:
    return Experiment(**{key: options[key] for key in dict.fromkeys(key.split(".")[0] for key in keys_of(Experiment))})


def fit(options: Namespace) -> None:
    config = _experiment(options)
    run = train(config, options.out, resume=options.resume, progress=_progress(options))
    result = run.result()
    _say(f"test accuracy: {100 * result['accuracy']['test']:.1f} %")
    _say_subsets(result)
    _say(f"run: {run.folder}")


def cost(options: Namespace) -> None:
    if options.pairs < 1:
        raise ConfigError(f"pairs is {options.pairs}: must be at least 1.")
    config = _experiment(options)
    data, size = load_data(config.data), config.training.batch_size
    model = build_model(config.model, data.channels, len(data.classes))
    check_size(model, data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = Preprocessing(data.mean, data.std)(data.train.images[:size].to(device))
    used = precision(config.training.precision)
    labels = data.train.labels[:size].to(device)
    ours, twin = costs(model.to(device), images, labels, bf16=used == "bf16-mixed", pairs=options.pairs)
    for line in beside(ours, twin):
        _say(line)
    steps = len(data.train) // len(images)
    where = f"{device}, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()
    _say(
        f"batch {len(images)}, {used}, {where}, median of {options.pairs} steps; an epoch is {steps} steps, "
        f"{steps * ours.seconds / 60:.3g} minutes without the optimiser"
    )
    _say("plain CNN: ordinary convolutions with the same channels times elements; neither is compiled")


def _say_subsets(result: dict[str, Any]) -> None:
    for subset in result["subsets"]:
        _say(f"  {subset['layer']:<14} {describe(subset)}")


def describe(subset: dict[str, Any]) -> str:
    """A learned subset in words: `±171°, P(m) 0.31`."""
    parts = [f"±{subset['theta_deg']:.0f}°"] if "theta_deg" in subset else []
    parts += [f"{key} {value:.2f}" for key, value in subset.items() if key.startswith("P(")]
    return ", ".join(parts) or "translations"


def evaluate(options: Namespace) -> None:
    if options.draws < 0 or options.draws == 1:
        raise ConfigError(f"draws is {options.draws}: must be 0, or at least 2 for a spread.")
    run = Run(Path(options.run))
    config, trained = run.config(), run.model()
    split = getattr(load_data(config.data, options.data.root), options.split)
    deterministic = accuracy(logits(trained.model, split.images, trained.preprocess), split.labels)
    _say(f"{options.split} accuracy: {100 * deterministic:.2f} % (n = {len(split)} images, deterministic)")
    if options.draws:
        shares = sampled_accuracies(trained.model, split, trained.preprocess, options.draws, options.seed)
        drawn = [100 * share for share in shares]
        spread = statistics.stdev(drawn)
        _say(f"{options.split} accuracy: {statistics.mean(drawn):.2f} ± {spread:.2f} % ({options.draws} draws)")


def report(options: Namespace) -> None:
    from partialsym.report import report as write

    page = write([Run(Path(folder)) for folder in options.runs], Path(options.out))
    _say(f"report: {page}")


def predict(options: Namespace) -> None:
    trained = Run(Path(options.run)).model()
    images = read_images([Path(f) for f in options.images], trained.size, len(trained.preprocess.mean), trained.fit)
    shares = logits(trained.model, images, trained.preprocess).softmax(1).tolist()
    sys.stdout.write(WRITERS[options.format](options.images, trained.classes, shares))


def _as_text(files: Sequence[str], classes: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    rows = zip(files, _best(classes, shares), shares, strict=True)
    return "".join(f"{shown(file)}\t{shown(name)}\t{max(p):.4f}\n" for file, name, p in rows)


def _as_csv(files: Sequence[str], classes: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", "class", *classes])
    for file, name, p in zip(files, _best(classes, shares), shares, strict=True):
        rows.writerow([file, name, *(f"{share:.6f}" for share in p)])
    return text.getvalue()


def _as_json(files: Sequence[str], classes: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    rows = [
        {"file": file, "class": name, "probabilities": dict(zip(classes, p, strict=True))}
        for file, name, p in zip(files, _best(classes, shares), shares, strict=True)
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _best(classes: Sequence[str], shares: Sequence[Sequence[float]]) -> list[str]:
    return [classes[p.index(max(p))] for p in shares]


WRITERS = {"text": _as_text, "csv": _as_csv, "json": _as_json}


def freeze(options: Namespace) -> None:
    from partialsym.exporting import check_target, export

    run, path = Run(Path(options.run)), Path(options.out)
    check_target(path)
    trained = run.model()
    if options.proportional:
        _make_proportional(trained, run.config(), options.data.root)
    mean, std = trained.preprocess.mean, trained.preprocess.std
    difference = export(trained.model, path, mean=mean, std=std, classes=trained.classes, size=trained.size)
    for layer, (taken, samples) in kept(trained.model).items():
        _say(f"  {layer:<14} {taken} of {samples} elements")
    _say(f"largest difference of a logit from the run's: {difference:.1e}")
    _say(f"file: {path} ({path.stat().st_size / 1e6:.2f} MB)")


def _make_proportional(trained: Trained, config: Experiment, root: str | None) -> None:
    """Fewer elements where a layer keeps less of the group; BatchNorm's statistics are taken anew on them."""
    before = kept(trained.model)
    set_proportional(trained.model, True)
    if kept(trained.model) == before:
        return
    recalibrate(trained.model, calibration(config, load_data(config.data, root), trained.preprocess))


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` → [0, 1, 2]."""
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds is {text!r}: must be distinct whole numbers ≥ 0, such as 0,1,2.")
    return seeds


def reproduce(options: Namespace) -> None:
    table = load_table(options.table)
    rows, seeds = table.select(options.rows), parse_seeds(options.seeds)
    out = Path(options.out)
    budget = table.budget(options.budget)
    queue = [(row, table.experiment(row, seed, budget)) for seed in seeds for row in rows]
    for _, config in queue:
        run_folder(config, out).check(config, resume=True)  # a conflict shows now, not hours later
    for row, config in queue:
        log.info("%s, seed %d, budget %s", row, config.seed, budget)
        run = train(config, out, resume=True, progress=_progress(options), root=options.data.root)
        if options.publish:
            run.publish(Path(options.publish) / table.name / table.place(row, budget) / f"seed{config.seed}.json")
    _say(render(table, out / table.name, rows, [budget]))


def table(options: Namespace) -> None:
    chosen = load_table(options.table)
    if not Path(options.results).is_dir():
        raise FileNotFoundError(f"{options.results} does not exist: `reproduce --publish {options.results}` makes it.")
    folder = Path(options.results) / chosen.name
    text = render(chosen, folder)
    _say(text)
    if options.out:
        replace_text(Path(options.out) / "table.md", text + "\n")
        _figures(chosen, folder, Path(options.out))


def _figures(table: Table, folder: Path, out: Path) -> None:
    from partialsym.figures import of_table, save

    for name, figure in of_table(table.longest(folder)).items():
        _say(f"{FIGURES[name]}: {save(figure, out / f'{name}.png')}")


def demo(options: Namespace) -> None:
    from partialsym.demo import demo as run

    for line in run(Path(options.out), options.seed, _progress(options)):
        _say(line)
