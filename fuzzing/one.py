"""`python -m fuzzing.one TARGET [libFuzzer's options] CORPUS`: one reader, guided by the code it reaches."""

import importlib
import logging
import sys

import atheris

with atheris.instrument_imports(include=["partialsym", "yaml", "PIL", "jsonargparse", "zipfile", "gzip", "tarfile"]):
    targets = importlib.import_module("fuzzing.targets")
    importlib.import_module("PIL.Image").init()


def main() -> None:
    name, *options = sys.argv[1:]
    target = targets.TARGETS[name]
    logging.disable()  # Pillow logs what it raises
    atheris.Setup([name, *options], lambda data: targets.one_line(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
