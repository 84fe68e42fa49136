"""Find data files, and download missing ones."""

import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from partialsym.errors import InputError, MissingExtraError

log = logging.getLogger(__name__)
MOST_BYTES = 2**28  # largest size of an unpacked array or archive; all official files are smaller
HERE = ("127.0.0.1", "::1", "localhost")  # a download from this machine needs no encryption


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """`root`, else the folder in PARTIALSYM_DATA, else the user's cache folder, which may not exist yet.

    Raises FileNotFoundError if `root` or PARTIALSYM_DATA is not a folder, ImportError if the cache folder needs pooch.
    """
    origin = "PARTIALSYM_DATA" if root is None else "root"
    given = (os.environ.get(origin) or None) if root is None else os.fspath(root)
    if given is None:
        return Path(extra("pooch", "train", "the default data root").os_cache("partialsym"))
    if not given or not Path(given).expanduser().is_dir():
        raise FileNotFoundError(f"{origin} is {given!r}: it must be an existing folder")
    return Path(given).expanduser()


def fetch(name: str, md5: str, root: Path, mirrors: Sequence[str]) -> Path:
    """Download file `name` to `root` from the first of `mirrors` (https URLs of folders) that has the right file.

    A file with another MD5 is deleted. Raises ValueError if a mirror is not https, or if a mirror returned a wrong file
    and none the right one; OSError if no mirror responded; ImportError without pooch.
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
            wrong |= isinstance(error, ValueError)  # pooch raises it for a wrong hash; errors of requests are OSErrors
            failures.append(f"{url}: {error}")
    message = f"no mirror returned {name} (MD5 {md5}); put it into {root} by hand. {'; '.join(failures)}"
    raise (InputError if wrong else OSError)(message)


def extra(module: str, ring: str, what: str) -> ModuleType:
    """Import the optional `module`. If it is missing, raise an ImportError: `what` needs partialsym[`ring`]."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn": "scikit-learn", "PIL": "Pillow"}.get(name := module.split(".")[0], name)
        raise MissingExtraError(
            f"{what} needs {package}: pip install 'partialsym[{ring}]' ({error})", name=name
        ) from None
