"""The command line. This module imports neither torch nor lightning, so that `--help` is fast."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from partialsym import __version__
from partialsym._utils.allocator import keep_freed_memory
from partialsym._utils.signals import STOPPED, Interruption
from partialsym.cli.from_answer import config_from
from partialsym.cli.options import COMMANDS, OPTIONS
from partialsym.config import ConfigError, Experiment, check_keys, lifted_settings, read_yaml, unknown_key
from partialsym.config.migration import migrated
from partialsym.config.short import in_full
from partialsym.errors import MissingExtraError, PartialsymError
from partialsym.registry import LIFTED

BUG = 70  # the exit status, EX_SOFTWARE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, by default those of the process.
    Returns:
        The exit status: 0 for success; 1 for an error that the user can correct; 70 for a bug; 130 if Ctrl-C stopped
        the command; 75 if SIGTERM or SIGUSR1 stopped a training and the same command (`fit`: with `--resume`) continues
        it.
    """
    if argv is None:  # the process is ours
        keep_freed_memory()
    try:
        with Interruption() as interruption:
            return _run(list(sys.argv[1:] if argv is None else argv), interruption)
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "stopped.", getattr(stop, "status", STOPPED))


def _run(args: list[str], interruption: Interruption) -> int:
    debug = "--debug" in args
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # it logs what it raises
    try:
        return _dispatch([arg for arg in args if arg != "--debug"])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (PartialsymError, OSError) as error:
        if debug:
            raise
        return _complain(_readable(error), 1)
    except Exception as error:
        if debug or interruption.raised:  # a Ctrl-C that became another error
            raise
        return _complain(_bug(error), BUG)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"partialsym: {message}\n")
    return status


def _bug(error: Exception) -> str:
    """The message for an error that is not the user's mistake; a full GPU memory is not reported as a bug."""
    said = " ".join(str(error).split())[:200]
    if type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: lower training.batch_size or model.width ({said})"
    return (
        f"this is a bug in partialsym: {type(error).__name__}: {said}. Please report it, with the command and what the "
        "same command prints with --debug."
    )


def _readable(error: Exception) -> str:
    """The message of an error without errno; the option that jsonargparse calls `fit.name` becomes `--name`."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ConfigError):  # jsonargparse breaks lines; other errors may list one file per line
        text = " ".join(text.split())
    return re.sub(r"arguments are required: \w+\.(\w+)", r"keys are missing: pass --\1 or put it in the config", text)


def _dispatch(args: list[str]) -> int:
    try:
        from jsonargparse import ArgumentError, ArgumentParser
    except ImportError:
        raise MissingExtraError("the command line needs the extra `train`: pip install 'partialsym[train]'.") from None

    parser = ArgumentParser(
        prog="partialsym",
        description="Convolutional networks that learn, layer by layer, to which symmetries they are equivariant.",
        epilog="--version prints the version. --debug, with any command, shows the traceback of an error.",
        exit_on_error=False,
    )
    commands = parser.add_subcommands(required=False, metavar="COMMAND", dest="command")
    for name, (add_options, text) in COMMANDS.items():
        sub = ArgumentParser(description=text, exit_on_error=False)
        if args[:1] == [name]:  # adding the options of all commands would be slow
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
        args = [args[0], *_checked(args[1:], OPTIONS[args[0]])]
    try:
        parsed = parser.parse_args(args)
        options = parser.instantiate(parsed)[parsed.command]
    except ArgumentError as error:
        raise ConfigError(str(error)) from None

    # It imports torch: not before the arguments are known to be good.
    import_module(f"partialsym.cli.{parsed.command}").run(options)
    return 0


def _with_defaults(args: Sequence[str], trees: Sequence[Mapping[str, Any]]) -> list[str]:
    """`--from FOLDER` and the network that `--pretrained FOLDER` holds, if it is a lifted one, as a `--config` before
    all others, so that these change it.

    Args:
        trees: what other configs hold.
    """
    rest, folder = _taken(args, "--from")
    _, pretrained = _taken(args, "--model.pretrained")
    if folder == "":
        raise ConfigError("--from needs the folder of an answer.")
    tree: dict[str, Any] = {} if folder is None else config_from(Path(folder))
    models = [model for model in (tree.get("model") for tree in trees) if isinstance(model, Mapping)]
    named = [m["pretrained"] for m in models if isinstance(m.get("pretrained"), str)]
    pretrained = pretrained or (named[-1] if named else None)
    if pretrained and not _resumed_elsewhere(args, pretrained, models) and (held := lifted_settings(pretrained)):
        given, lifted = (tree.get("model") or held)["group"], held["group"]
        if given != lifted:
            said = f"{folder} recommends a network on {given}, and {pretrained} holds one that was lifted to {lifted}"
            raise ConfigError(f"{said}: lift it to {given}, or leave out --from.")
        tree |= {"model": held}
    return [f"--config={json.dumps(tree)}", *rest] if tree else rest


def _resumed_elsewhere(args: Sequence[str], pretrained: str, models: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run is resumed by its own config where the pretrained model is not: the run has a copy."""
    return "--resume" in args and not Path(pretrained).exists() and any(m.get("network") == LIFTED for m in models)


def _taken(args: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """The arguments without an option, and its last value: "" where that is missing, None without the option."""
    rest, found = list[str](), None
    given = iter(args)
    for arg in given:
        option, equals, value = arg.partition("=")
        if option == name:
            found = value if equals else next(given, "")
        else:
            rest.append(arg)
    return rest, found


def _checked(args: list[str], options: Sequence[str]) -> list[str]:
    """The arguments, with configs of earlier formats converted to the present one.

    Raises:
        ConfigError: a key on the command line or in a file is unknown; the message suggests the nearest valid one.
    """
    checked, trees = list(args), list[Mapping[str, Any]]()
    for i, arg in enumerate(args):
        option, _, value = arg.removeprefix("--").partition("=")
        if arg.startswith("--") and option not in options:
            raise ConfigError(unknown_key(option, options))
        if option == "config" and arg.startswith("--"):
            if not value and i + 1 == len(args):
                raise ConfigError("--config needs a file.")
            tree = read_yaml(Path(value or args[i + 1]))
            now = migrated(tree) if isinstance(tree, dict) else tree
            check_keys(Experiment, now)
            trees.append(now)
            if now != tree:
                checked[i if value else i + 1] = ("--config=" if value else "") + json.dumps(now)
    return _with_defaults(checked, trees) if "config" in options else checked


if __name__ == "__main__":
    sys.exit(main())
