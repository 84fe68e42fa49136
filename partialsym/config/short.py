"""Short forms of options on the command line."""

import re
from collections.abc import Sequence

SHORT = {"split-by": "data.split_by", "pretrained": "model.pretrained"}
SOURCES = ("--data=folder", "--data=hf")
PAIRS = ("--data.range", "--data.size")


def in_full(args: Sequence[str]) -> list[str]:
    """Replace short forms: `--data folder` becomes `--data.source folder`, `--data.range 0 4095` becomes
    `--data.range [0,4095]`, and each key of `SHORT` its full one."""
    for short, full in SHORT.items():
        args = [re.sub(f"^--{short}(?=$|=)", f"--{full}", arg) for arg in args]
    named = [arg.replace("--data=", "--data.source=") if arg in SOURCES else arg for arg in args]
    follows = [*args[1:], ""]
    pairs = zip(named, follows, strict=True)
    return _joined(["--data.source" if arg == "--data" and f"--data={then}" in SOURCES else arg for arg, then in pairs])


def _joined(args: list[str]) -> list[str]:
    for i, option in enumerate(args):
        low_high = args[i + 1 : i + 3]
        if option in PAIRS and len(low_high) == 2 and all(re.fullmatch(r"-?\d+", value) for value in low_high):
            return [*args[: i + 1], f"[{','.join(low_high)}]", *_joined(args[i + 3 :])]
    return args
