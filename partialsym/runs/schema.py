"""The schema of result.json, which is checked whenever the file is read."""

import base64
import json
import statistics
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partialsym._utils.limited_read import read_bytes
from partialsym.config.migration import migrated
from partialsym.errors import InputError

FORMAT = 2  # format 1 had other setting names
MOST_BYTES = 2**24


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raise ValueError with its name if it is damaged."""
    try:
        return json.loads(read_bytes(path, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}.") from None


def read_result(path: Path) -> dict[str, Any]:
    """Read the result of a run.

    Raises:
        ValueError: the file is damaged, has another format version, or lacks a required entry.
    """
    result = read_json(path)
    version = result.get("format") if isinstance(result, Mapping) else None
    if version not in (1, FORMAT):
        raise InputError(f"{path} has format version {version!r}: this version reads 1 and {FORMAT}.")
    accuracy, images, config = (_mapping(path, result, key) for key in ("accuracy", "images", "config"))
    named = _mapping(path, config, "data", "config.").get("name")
    _check(path, "config.data.name", named, isinstance(named, str), "a name")
    _mapping(path, config, "model", "config.")
    if version == 1:
        result["config"] = migrated(config)
    seed = config.get("seed")
    _check(path, "config.seed", seed, isinstance(seed, int) and seed >= 0, "a whole number")
    if "response" in result:
        response = _mapping(path, result, "response")
        for key in ("angles", "share", "mean"):
            _check(path, f"response.{key}", response.get(key), _numbers(response.get(key)), "a list of numbers")
    _check(path, "accuracy.test", accuracy.get("test"), _share(accuracy.get("test")), "a number in [0, 1]")
    unsampled = accuracy.get("test_unsampled", 0)
    _check(path, "accuracy.test_unsampled", unsampled, _share(unsampled), "a number in [0, 1]")
    sampled = accuracy.get("test_sampled")
    _check(path, "accuracy.test_sampled", sampled, _numbers(sampled), "a list of numbers")
    _check(path, "epochs", result.get("epochs"), _count(result.get("epochs")), "a number of epochs")
    _check(path, "images.train", images.get("train"), _count(images.get("train")), "a number of images")
    _check_optional(path, result)
    _check(path, "copy_gap", result.get("copy_gap"), _number(result.get("copy_gap", 0.0)), "a number")
    subsets = result.get("subsets")
    good = isinstance(subsets, list) and all(isinstance(s, Mapping) and {"layer", "group"} <= s.keys() for s in subsets)
    _check(path, "subsets", subsets, good, "a list of layers")
    for layer in subsets:
        for key in layer.keys() - {"layer", "group"}:
            _check(path, f"subsets, {layer['layer']}: {key}", layer[key], _number(layer[key]), "a number")
    return result


def _check_optional(path: Path, result: Mapping[str, Any]) -> None:
    """Check the entries that not every result has. Raise ValueError if one of them is wrong."""
    if "turned" in result:
        found = _mapping(path, result, "turned").get("range")
        _check(path, "turned.range", found, _number(found), "a number of degrees")
    if "pretrained" in result:
        digest = _mapping(path, result, "pretrained").get("sha256")
        _check(path, "pretrained.sha256", digest, isinstance(digest, str), "a hash")
    if "correct" in result:
        size = result["images"].get("test")
        _check(path, "images.test", size, _count(size), "a number of images")
        try:
            correct_images(result)
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from None
    if result.get("components") is not None:
        chosen = _mapping(path, result, "components")
        for key in ("by_probability", "drawn", "chosen"):
            _check(path, f"components.{key}", chosen.get(key), _share(chosen.get(key)), "a number in [0, 1]")
        changed = _mapping(path, chosen, "changed", "components.")
        _check(path, "components.changed", changed, all(isinstance(k, bool) for k in changed.values()), "true or false")


def sampled_accuracy(result: Mapping[str, Any]) -> float:
    """The accuracy on drawn elements in [0, 1], averaged over the draws."""
    return statistics.mean(result["accuracy"]["test_sampled"])


def packed(flags: Sequence[bool]) -> str:
    """Flags [N] as text: eight of them in a byte, compressed, in base64. `correct_images` reads it."""
    bits = int("0" + "".join("01"[flag] for flag in flags), 2)
    return base64.b64encode(zlib.compress(bits.to_bytes(-(-len(flags) // 8), "big"), 9)).decode("ascii")


def correct_images(result: Mapping[str, Any]) -> list[bool] | None:
    """Whether each test image is classified correctly [N], in the order of the data set; None for older results.

    Raises:
        ValueError: the entry is damaged, or does not agree with the number of images and the accuracy.
    """
    if "correct" not in result:
        return None
    size, share = int(result["images"]["test"]), float(result["accuracy"]["test"])
    try:
        compressed = base64.b64decode(result["correct"], validate=True)
        content = zlib.decompressobj().decompress(compressed, min(size // 8 + 2, MOST_BYTES))
    except (TypeError, ValueError, zlib.error) as error:
        raise InputError(f"correct is no compressed text: {error}.") from None
    if len(content) != -(-size // 8) or int.from_bytes(content, "big") >> size:
        raise InputError(f"correct holds {len(content)} bytes, which are not those of {size} test images.")
    bits = f"{int.from_bytes(content, 'big'):0{size}b}"
    if round(share * size) != bits.count("1"):
        raise InputError(f"correct marks {bits.count('1')} images: an accuracy of {share} is {round(share * size)}.")
    return [bit == "1" for bit in bits]


def chosen_components(result: Mapping[str, Any]) -> dict[str, bool]:
    """Component, such as `last P(m)` → whether eval mode retains it, if validation images overrode P > ½.

    The dict is empty for older results.
    """
    return dict((result.get("components") or {}).get("changed", {}))


def describe_choice(result: Mapping[str, Any]) -> str:
    """A description of the choice of components, or an empty string if validation images changed nothing.

    An example: `omits last P(m). Accuracy on validation images: 51.0 % with all components of P > ½, 99.0 % with drawn
    components, 99.0 % with the chosen ones.`
    """
    changed, found = chosen_components(result), result.get("components")
    if not changed or found is None:
        return ""
    what = ", ".join(f"{'retains' if kept else 'omits'} {name}" for name, kept in changed.items())
    before, drawn, now = (f"{100 * found[key]:.1f} %" for key in ("by_probability", "drawn", "chosen"))
    return (
        f"{what}. Accuracy on validation images: {before} with all components of P > ½, {drawn} with drawn components, "
        f"{now} with the chosen ones."
    )


def _mapping(path: Path, result: Mapping[str, Any], key: str, within: str = "") -> Mapping[str, Any]:
    _check(path, within + key, result.get(key), isinstance(result.get(key), Mapping), "a mapping")
    return result[key]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_number, value))


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _check(path: Path, key: str, value: Any, good: bool, right: str) -> None:
    if not good:
        raise InputError(f"{path} has {key} = {str(value)[:60]}: must be {right}.")
