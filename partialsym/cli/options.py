"""The commands and their options. This module imports neither torch nor lightning, so that `--help` is fast."""

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
    "fit": (*_BOTH, "from", "out", "resume", "budget", "progress"),
    "cost": (*_BOTH, "pairs"),
    "ask": (*_DATA, "help", "data", "group", "network", "budget", "seeds", "workers", "margin", "out"),
}


def _fit(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below")
    parser.add_argument(
        "--from",
        type=str | None,
        default=None,
        help="folder of an answer (ask --out): train the recommended network longer; other options change its settings",
    )
    parser.add_class_arguments(Experiment)
    parser.add_argument("--out", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument(
        "--budget", type=str | None, default=None, help="train as many epochs as fit into this time: 90s, 10m or 2h"
    )
    _progress(parser)


def _progress(parser: ArgumentParser) -> None:
    parser.add_argument("--progress", type=bool | None, default=None, help="show a progress bar; default on a terminal")


def _ask(parser: ArgumentParser) -> None:
    parser.add_class_arguments(DataConfig, "data")
    parser.add_argument(
        "--group", type=str, default="E2", help="symmetry to ask about: SE2 (rotations), Mirror, or E2 (both)"
    )
    parser.add_argument(
        "--network",
        type=str,
        default="CNN3",
        help="CNN3, ResNet, a preset such as gresnet18_cifar, or a registered network",
    )
    parser.add_argument("--budget", type=str, default="10m", help="time for the whole command, such as 90s, 10m or 2h")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method, at least; a verdict needs 3")
    parser.add_argument(
        "--workers", type=int | None, default=None, help="runs at the same time; default one per core, or one on a GPU"
    )
    parser.add_argument("--margin", type=float, default=1.0, help="difference in percentage points that counts as none")
    parser.add_argument("--out", type=str, default="ask", help="folder of this question; the same command continues it")


def _check(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0, finished or not")


def _cost(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below")
    parser.add_class_arguments(Experiment)
    parser.set_defaults(name="cost")
    parser.add_argument("--pairs", type=int, default=5, help="training steps to time of each network, in turn")


def _evaluate(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0")
    parser.add_argument(
        "--split", type=Literal["train", "validation", "test"], default="test", help="images to evaluate"
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=0,
        help="passes of Monte-Carlo inference over all images, at least 2; 0 for none",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument(
        "--confusion",
        action="store_true",
        help="print which classes are confused: a matrix for up to 10 classes, else the most frequent confusions",
    )
    parser.add_argument(
        "--recalibrate",
        action="store_true",
        help="compute BatchNorm statistics for each draw separately, on the run's training images",
    )
    parser.add_argument(
        "--data.root", type=str | None, default=None, help="folder of the data; default that of the run"
    )


def _report(parser: ArgumentParser) -> None:
    parser.add_argument("runs", type=str, nargs="+", help="run folders; seeds of one experiment form one method")
    parser.add_argument(
        "--out", type=str, default="report", help="folder for index.html, figures and tables; or one file, NAME.html"
    )
    parser.add_argument(
        "--data.root", type=str | None, default=None, help="folder of the data; default that of the run"
    )


def _predict(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0")
    parser.add_argument("images", type=str, nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--format",
        type=Literal["text", "csv", "json"] | None,
        default=None,
        help="csv and json print all probabilities; default text, or csv for folders",
    )


def _export(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder, such as runs/NAME/seed0")
    parser.add_argument("--out", type=str, default="model.onnx", help="file to write: .onnx, or .pt2 for torch.export")
    parser.add_argument("--softmax", action="store_true", help="write a file that returns probabilities, not logits")
    parser.add_argument(
        "--proportional",
        action="store_true",
        help="use ⌈rθ⌉ of r rotations per component, even if the run did not; recalibrate BatchNorm on training images",
    )
    parser.add_argument(
        "--data.root", type=str | None, default=None, help="folder of the data; default that of the run"
    )


def _reproduce(parser: ArgumentParser) -> None:
    parser.add_argument("table", type=str, help="name of a table of the paper, such as mnist6")
    parser.add_argument("--rows", type=str, default="*", help="rows to run: shell patterns, separated by commas")
    parser.add_argument(
        "--seeds",
        type=str | None,
        default=None,
        help="seeds to run, separated by commas; default 0,1,2, or 0 for tiny",
    )
    parser.add_argument(
        "--budget",
        type=str | None,
        default=None,
        help="length of training, such as short or paper; default the first budget of the table. tiny is a first look: "
        "small networks and few images, seconds to minutes per row, in a separate table",
    )
    parser.add_argument(
        "--data.root", type=str | None, default=None, help="folder of the data; default PARTIALSYM_DATA"
    )
    parser.add_argument("--out", type=str, default="runs", help="folder of all runs; interrupted runs are resumed")
    parser.add_argument(
        "--publish",
        type=str | None,
        default=None,
        help="also copy results to this folder; runs that it already contains are skipped",
    )
    _progress(parser)


def _table(parser: ArgumentParser) -> None:
    parser.add_argument("table", type=str, help="name of a table of the paper, such as mnist6")
    parser.add_argument(
        "--results", type=str | None, default=None, help="folder of the results; default `results`, else the checkout's"
    )
    parser.add_argument("--out", type=str | None, default=None, help="folder for table.md and the figures")


def _demo(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="demo", help="folder for runs and figures")
    parser.add_argument("--seed", type=int, default=0, help="seed of both networks")
    _progress(parser)


COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "fit": (_fit, "Train one experiment and evaluate it on the test split."),
    "ask": (_ask, "Find which symmetries images have: train plain, full and partial networks and compare them."),
    "cost": (_cost, "Measure the cost of a training step of a config, beside a plain CNN of the same shapes."),
    "check": (_check, "Check that the files of a run folder are unchanged and consistent."),
    "evaluate": (_evaluate, "Measure the accuracy of a run, by deterministic or Monte-Carlo inference."),
    "report": (
        _report,
        "Write one page about some runs: verdict, accuracies, answers to turned images, learned subsets.",
    ),
    "predict": (_predict, "Predict class probabilities of image files."),
    "export": (
        _export,
        "Write the network of a run as plain convolutions, in one file for onnxruntime or torch.export.",
    ),
    "reproduce": (_reproduce, "Run a table of the paper and print our results beside it."),
    "table": (_table, "Print a table of the paper from existing results."),
    "demo": (_demo, "Train a G-CNN and a Partial G-CNN to tell a 6 from a 6 turned by 180°, in about a minute."),
}
