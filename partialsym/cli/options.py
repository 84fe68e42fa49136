"""The commands, and the options of each. Imports neither torch nor lightning, so that `--help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from partialsym.config import DataConfig, Experiment, keys_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_KEYS = tuple(keys_of(Experiment))
_BOTH = (*_KEYS, "config", "help", "print_config", "data", "model", "training", "trainer")
_DATA = tuple(key for key in _KEYS if key.startswith("data."))
OPTIONS = {
    "fit": (*_BOTH, "out", "resume", "progress"),
    "cost": (*_BOTH, "pairs"),
    "ask": (*_DATA, "help", "data", "group", "network", "budget", "seeds", "workers", "margin", "out"),
}


def _fit(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below")
    parser.add_class_arguments(Experiment)
    parser.add_argument("--out", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    _progress(parser)


def _progress(parser: ArgumentParser) -> None:
    parser.add_argument("--progress", type=bool | None, default=None, help="show a progress bar; default on a terminal")


def _ask(parser: ArgumentParser) -> None:
    parser.add_class_arguments(DataConfig, "data")
    parser.add_argument("--group", type=str, default="E2", help="SE2 (rotations), Mirror, or E2 (both)")
    parser.add_argument("--network", type=str, default="ResNet", help="ResNet, or a network that was registered")
    parser.add_argument("--budget", type=str, default="10m", help="time for everything: 90s, 10m, 2h")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method; fewer than 3 give no verdict")
    parser.add_argument("--workers", type=int | None, default=None, help="runs at a time; default one a core")
    parser.add_argument("--margin", type=float, default=1.0, help="points of accuracy below which a difference is none")
    parser.add_argument("--out", type=str, default="ask", help="folder of this question; the same command goes on")


def _check(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0, finished or not")


def _cost(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below")
    parser.add_class_arguments(Experiment)
    parser.set_defaults(name="cost")
    parser.add_argument("--pairs", type=int, default=5, help="training steps to time, of each network in turn")


def _evaluate(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0")
    parser.add_argument("--split", type=Literal["train", "validation", "test"], default="test", help="which images")
    parser.add_argument(
        "--draws",
        type=int,
        default=0,
        help="draws of Monte-Carlo inference, at least 2, each for all images; 0 for none",
    )
    parser.add_argument("--seed", type=int, default=0, help="that draws come from")
    parser.add_argument(
        "--recalibrate",
        action="store_true",
        help="with BatchNorm statistics of each draw's own elements, on the run's training images",
    )
    parser.add_argument("--data.root", type=str | None, default=None, help="where the data are; default as trained")


def _report(parser: ArgumentParser) -> None:
    parser.add_argument("runs", type=str, nargs="+", help="run folders; seeds of one experiment are put together")
    parser.add_argument(
        "--out", type=str, default="report", help="folder for index.html, figures and tables; or one file, NAME.html"
    )
    parser.add_argument("--data.root", type=str | None, default=None, help="where the data are; default as trained")


def _predict(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0")
    parser.add_argument("images", type=str, nargs="+", help="image files")
    parser.add_argument(
        "--format", type=Literal["text", "csv", "json"], default="text", help="csv and json give all probabilities"
    )


def _export(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0")
    parser.add_argument("--out", type=str, default="model.onnx", help="file to write: .onnx, or .pt2 for torch.export")
    parser.add_argument(
        "--proportional",
        action="store_true",
        help="keep ⌈rθ⌉ rotations a component, also where the run did not; recalibrates BatchNorm on training images",
    )
    parser.add_argument("--data.root", type=str | None, default=None, help="where the data are; default as trained")


def _reproduce(parser: ArgumentParser) -> None:
    parser.add_argument("table", type=str, help="name of a table of the paper, such as mnist6")
    parser.add_argument("--rows", type=str, default="*", help="shell patterns of the rows to run, by commas")
    parser.add_argument("--seeds", type=str, default="0,1,2", help="comma-separated")
    parser.add_argument(
        "--budget", type=str | None, default=None, help="paper, short, …: how long to train; default the table's first"
    )
    parser.add_argument("--data.root", type=str | None, default=None, help="where the data are; else PARTIALSYM_DATA")
    parser.add_argument("--out", type=str, default="runs", help="folder of all runs; interrupted ones are resumed")
    parser.add_argument(
        "--publish", type=str | None, default=None, help="copy results to this folder, too; what it holds is not run"
    )
    _progress(parser)


def _table(parser: ArgumentParser) -> None:
    parser.add_argument("table", type=str, help="name of a table of the paper, such as mnist6")
    parser.add_argument("--results", type=str, default="results", help="folder of the results")
    parser.add_argument("--out", type=str | None, default=None, help="folder for table.md and the figures")


def _demo(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="demo", help="folder for runs and figures")
    parser.add_argument("--seed", type=int, default=0, help="of both networks")
    _progress(parser)


COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "fit": (_fit, "Train one experiment and evaluate it on the test split."),
    "ask": (_ask, "Which symmetries do these images have? Trains plain, full and partial networks and compares them."),
    "cost": (_cost, "What a training step of a config costs, beside its dense twin; trains nothing."),
    "check": (_check, "Whether a run folder is as it was written: hashes, formats, and that its files agree."),
    "evaluate": (_evaluate, "Accuracy of a run, deterministic or by Monte-Carlo inference."),
    "report": (_report, "One page on some runs: the verdict, accuracies, answers to turned images, learned subsets."),
    "predict": (_predict, "Class probabilities of image files."),
    "export": (_export, "Write a run's network as plain convolutions: one file for onnxruntime or torch.export."),
    "reproduce": (_reproduce, "Run a table of the paper and print ours beside it."),
    "table": (_table, "Print a table of the paper from results that are there."),
    "demo": (_demo, "Train a G-CNN and a Partial G-CNN to tell a 6 from one turned by 180°, in a minute."),
}
