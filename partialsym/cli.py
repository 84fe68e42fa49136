"""The command line. Imports neither torch nor lightning, so that `--help` answers at once."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partialsym import __version__
from partialsym.config import ConfigError, DataConfig, Experiment, check_keys, keys_of, read_yaml, unknown_key
from partialsym.config.short import in_full
from partialsym.stopping import STOPPED, Interruption

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for an error of the user's, 130 where it was stopped by Ctrl-C, or 75
    where training was stopped by SIGTERM or SIGUSR1 and the same command (`fit`: with `--resume`) goes on."""
    try:
        with Interruption():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "stopped.", getattr(stop, "status", STOPPED))


def _run(args: list[str]) -> int:
    debug = "--debug" in args
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # it logs what it raises
    try:
        return _dispatch([arg for arg in args if arg != "--debug"])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError) as error:
        if debug:
            raise
        return _complain(_readable(error), 1)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"partialsym: {message}\n")
    return status


def _readable(error: Exception) -> str:
    """One line, without errno; jsonargparse's `fit.name` is our `--name`."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ConfigError):  # jsonargparse breaks lines; a list of files has a line for each
        text = " ".join(text.split())
    return re.sub(r"arguments are required: \w+\.(\w+)", r"keys are missing: give --\1 or put it in the config", text)


def _dispatch(args: list[str]) -> int:
    try:
        from jsonargparse import ArgumentError, ArgumentParser
    except ImportError:
        raise ImportError("the command line needs the extra `train`: pip install 'partialsym[train]'.") from None

    parser = ArgumentParser(
        prog="partialsym",
        description="Convolutional networks that learn which symmetries to keep, layer by layer.",
        epilog="Also: --version; and --debug, with any command, to see where an error came from.",
        exit_on_error=False,
    )
    commands = parser.add_subcommands(required=False, metavar="COMMAND", dest="command")
    for name, (add_options, text) in COMMANDS.items():
        sub = ArgumentParser(description=text, exit_on_error=False)
        if args[:1] == [name]:  # those of the others would take as long again
            add_options(sub)
        commands.add_subcommand(name, sub, help=text)
    if args == ["--version"]:
        sys.stdout.write(f"partialsym {__version__}\n")
        return 0
    if not args:
        parser.print_help()
        return 0
    args = in_full(args)
    if args[0] in OPTIONS:
        _check_keys(args[1:], OPTIONS[args[0]])
    try:
        parsed = parser.parse_args(args)
        options = parser.instantiate(parsed)[parsed.command]
    except ArgumentError as error:
        raise ConfigError(str(error)) from None

    from partialsym import commands as run  # imports torch: not before the arguments are known to be good

    getattr(run, parsed.command)(options)
    return 0


def _check_keys(args: list[str], options: Sequence[str]) -> None:
    """Name the nearest valid key for a misspelt one, on the command line or in the file."""
    for i, arg in enumerate(args):
        option, _, value = arg.removeprefix("--").partition("=")
        if arg.startswith("--") and option not in options:
            raise ConfigError(unknown_key(option, options))
        if option == "config" and arg.startswith("--"):
            if not value and i + 1 == len(args):
                raise ConfigError("--config needs a file.")
            check_keys(Experiment, read_yaml(Path(value or args[i + 1])))


_KEYS = tuple(keys_of(Experiment))
_BOTH = (*_KEYS, "config", "help", "print_config", "data", "model", "training", "trainer")
_DATA = tuple(key for key in _KEYS if key.startswith("data."))
OPTIONS = {
    "fit": (*_BOTH, "out", "resume", "progress"),
    "cost": (*_BOTH, "pairs"),
    "ask": (*_DATA, "help", "data", "group", "budget", "seeds", "workers", "out"),
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
    parser.add_argument("--budget", type=str, default="10m", help="time for everything: 90s, 10m, 2h")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method; fewer than 3 give no verdict")
    parser.add_argument("--workers", type=int | None, default=None, help="runs at a time; default one a core")
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


def _freeze(parser: ArgumentParser) -> None:
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
    "freeze": (_freeze, "Write a run's network as plain convolutions: one file for onnxruntime or torch.export."),
    "reproduce": (_reproduce, "Run a table of the paper and print ours beside it."),
    "table": (_table, "Print a table of the paper from results that are there."),
    "demo": (_demo, "Train a G-CNN and a Partial G-CNN to tell a 6 from one turned by 180°, in a minute."),
}

if __name__ == "__main__":
    sys.exit(main())
