"""Where data files lie, and how missing ones come there."""

import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from partialsym.errors import InputError, MissingExtraError

log = logging.getLogger(__name__)
MOST_BYTES = 2**28  # of an array or an archive, unpacked: more than any official file holds
HERE = ("127.0.0.1", "::1", "localhost")  # needs no encryption


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """`root`, else the folder in PARTIALSYM_DATA, else the user's cache folder (which need not exist yet).

    Raises FileNotFoundError where the one given is not a folder, ImportError where the cache needs pooch.
    """
    origin = "PARTIALSYM_DATA" if root is None else "root"
    given = (os.environ.get(origin) or None) if root is None else os.fspath(root)
    if given is None:
        return Path(extra("pooch", "train", "a data root that is not given").os_cache("partialsym"))
    if not given or not Path(given).expanduser().is_dir():
        raise FileNotFoundError(f"{origin} is {given!r}: it must be an existing folder")
    return Path(given).expanduser()


def fetch(name: str, md5: str, root: Path, mirrors: Sequence[str]) -> Path:
    """Download file `name` into `root` from the first of `mirrors` (URLs of folders, by https) that has it right.

    A file whose MD5 differs is not kept. Raises ValueError where a mirror served a wrong file and none the
    right one or is not https, OSError where none answered, ImportError without pooch.
    """
    for mirror in mirrors:
        if (parts := urlsplit(mirror)).scheme != "https" and parts.hostname not in HERE:
            raise InputError(f"{name} is not downloaded from {mirror!r}: a mirror must be https")
    pooch, failures, wrong = extra("pooch", "train", f"{name} is not in {root}: its download"), [], False
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            log.info("downloading %s to %s", url, root)
            return Path(pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=root))
        except (OSError, ValueError) as error:
            wrong |= isinstance(error, ValueError)  # pooch's wrong hash; what requests raises is an OSError
            failures.append(f"{url}: {error}")
    message = f"no mirror gave {name} (MD5 {md5}); put it into {root} by hand. {'; '.join(failures)}"
    raise (InputError if wrong else OSError)(message)


def extra(module: str, ring: str, what: str) -> ModuleType:
    """The optional `module`; where it is missing, a one-line ImportError: `what` needs partialsym[`ring`]."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "PIL": "Pillow"}.get(name := module.split(".")[0], name)
        raise MissingExtraError(
            f"{what} needs {package}: pip install 'partialsym[{ring}]' ({error})", name=name
        ) from None
