"""How a trained network responds to rotated test images. It is measured once and stored in the run folder."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import torch

from partialsym._utils.atomic import replace_text
from partialsym.data import Dataset, Split, in_turn
from partialsym.data.reading import png
from partialsym.errors import InputError
from partialsym.measure import ANGLES, equivariance_errors, logits, preserved_ranges, turned_logits
from partialsym.measure.predictions import brier
from partialsym.measure.responses import mean_by_class, unchanged
from partialsym.profiling import multiply_adds
from partialsym.runs.run import LoadedModel, Run
from partialsym.runs.schema import read_json
from partialsym.training.fit import load_data
from partialsym.training.progress import log_images

FORMAT = 1
ANSWERED, TURNED, COMPARED = 5000, 40, 16  # largest numbers of images for each measurement
TURNS = tuple(22.5 * k for k in range(9))
EXAMPLES = 10  # images shown, each of another class


def behaviour(run: Run, root: str | Path | None = None, data: Dataset | None = None) -> dict[str, Any]:
    """Measure how the model of a finished run responds to its test images, upright, rotated and reflected.

    The function returns the content of RUN/behaviour.json if that file exists. Otherwise it measures and writes it.

    Args:
        run: a finished run.
        root: folder of the data, if it differs from the run's config.
        data: the run's data set, if it is already loaded.
    Returns:
        A dict with these entries (files of earlier versions lack those marked by *):
        "classes": names of the classes.
        "images": numbers of images {"answered", "turned", "compared"}, which are classified upright, rotated, and used
            for the equivariance errors of layers.
        "answers": {"labels", "groups"*, "predictions", "brier"*}, lists over upright test images with the classes in
            turn. "groups" are the indices of originals, which related images share; "brier" are Brier scores.
        "responses", "unchanged": see `class_responses` and `predictions_unchanged`, with reflected images. In the
            latter "by_class"* lists the shares by angle for each of its "classes"*.
        "preserved": {"labels", "ranges"}, the preserved range in degrees of each rotated image whose upright prediction
            is correct.
        "changed"*: [{"label", "png", "angle", "mirrored", "answer"}], images with a correct upright prediction and
            another one after a rotation by that angle in degrees; then the same for reflected images. Smaller rotations
            come first.
        "errors": see `equivariance_errors`.
        "examples": [{"label", "png"}], one image per class. PNG files are encoded in base64.
        "multiply_adds": multiply-adds per image; None if unknown.
        "image_seconds"*: seconds per upright image in batches.
    Raises:
        FileNotFoundError: the run has not finished, or its data are missing.
        ValueError: behaviour.json is damaged or has another format version.
    """
    path = run.folder / "behaviour.json"
    if path.is_file():
        return read_behaviour(path)
    trained = run.model()
    data = load_data(run.config().data, root, trained.range) if data is None else data
    operations = multiply_adds(trained.model, len(trained.preprocess.mean), trained.size)
    with log_images(trained.model, f"measuring {run.folder}", images_measured(len(data.test))):
        found = {"format": FORMAT, "multiply_adds": operations, **measured(trained, data.test)}
    replace_text(path, json.dumps(found) + "\n")
    return found


def read_behaviour(path: Path) -> dict[str, Any]:
    """Read behaviour.json. Raise ValueError if it is damaged or has another format version."""
    found = read_json(path)
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise InputError(
            f"{path} has format version {version!r}: this version reads {FORMAT}. Delete the file to measure again."
        )
    if problem := _damage(found):
        raise InputError(f"{path} is damaged ({problem}): delete the file to measure again.")
    return dict(found)


def _damage(found: dict[str, Any]) -> str:
    """A description of what is damaged, or an empty string."""
    try:
        answers, preserved, turns = found["answers"], found["preserved"], found["unchanged"]
        pairs = [
            (answers["labels"], answers["predictions"]),
            (answers["labels"], answers.get("brier", answers["labels"])),
            (answers["labels"], answers.get("groups", answers["labels"])),
            (preserved["labels"], preserved["ranges"]),
            (turns["angles"], turns["share"]),
            (turns["angles"], turns["mirrored"]),
            (turns.get("classes", ()), turns.get("by_class", ())),
            *((turns["angles"], of_class) for of_class in turns.get("by_class", ())),
        ]
        numbers = [
            *answers["labels"],
            *answers["predictions"],
            *answers.get("brier", ()),
            *answers.get("groups", ()),
            *preserved["ranges"],
            *turns["share"],
            *turns["mirrored"],
            *(share for of_class in turns.get("by_class", ()) for share in of_class),
            found.get("image_seconds", 0.0),
        ]
        moved = found.get("changed", [])
        labels = [
            *(answers["labels"] + answers["predictions"] + list(turns.get("classes", ()))),
            *(one[key] for one in moved for key in ("label", "answer")),
        ]
        responses, images = found["responses"], found["images"]
        needed = [found["errors"], found["examples"], found["classes"], responses["mean"], responses["mirrored"]]
        good = (
            all(len(a) == len(b) for a, b in pairs)
            and all(isinstance(number, int | float) for number in numbers)
            and all(isinstance(label, int) and 0 <= label < len(found["classes"]) for label in labels)
            and all(isinstance(one["png"], str) and isinstance(one["angle"], int | float) for one in moved)
            and all(isinstance(one["mirrored"], bool) for one in moved)
            and 0 in turns["angles"]
            and all(isinstance(value, list) for value in needed)
            and all(isinstance(images[key], int) for key in ("answered", "turned", "compared"))
            and "multiply_adds" in found
        )
    except (KeyError, TypeError) as error:
        return f"it has no {error}" if isinstance(error, KeyError) else "an entry has another type"
    return "" if good else "its lists do not fit together"


def images_measured(test: int) -> int:
    """The number of images that `measured` passes through a model, for a number of test images."""
    turned, compared = min(TURNED, test), min(COMPARED, test)
    return min(ANSWERED, test) + 2 * len(ANGLES) * turned + (4 * len(TURNS) + 1) * compared


def measured(trained: LoadedModel, test: Split) -> dict[str, Any]:
    """The entries of `behaviour` except the format and the operations."""
    model, preprocess = trained.model, trained.preprocess
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    answered = test[in_turn(test.labels, ANSWERED)]  # test sets may be sorted by class
    started = time.perf_counter()
    scores = logits(model, answered.images, preprocess)
    image_seconds = (time.perf_counter() - started) / len(answered)
    turned = answered[:TURNED]
    compared = turned.images[:COMPARED]
    circle, mirrored = (turned_logits(model, turned.images, preprocess, ANGLES, flip) for flip in (False, True))
    right = circle[0].argmax(1) == turned.labels
    classes, counts = turned.labels.unique(return_counts=True)
    angles = {"angles": [float(a) for a in ANGLES]}
    first = {int(label): i for i, label in reversed(list(enumerate(turned.labels)))}
    return {
        "classes": list(trained.classes),
        "image_seconds": image_seconds,
        "images": {"answered": len(answered), "turned": len(turned), "compared": len(compared)},
        "answers": {
            "labels": answered.labels.tolist(),
            "groups": answered.originals.tolist(),
            "predictions": scores.argmax(1).tolist(),
            "brier": [round(score, 6) for score in brier(scores, answered.labels).tolist()],
        },
        "responses": {
            **angles,
            "classes": classes.tolist(),
            "images": counts.tolist(),
            "mean": mean_by_class(circle, turned.labels),
            "mirrored": mean_by_class(mirrored, turned.labels),
        },
        "unchanged": {
            **angles,
            "share": unchanged(circle, circle[0]),
            "mirrored": unchanged(mirrored, circle[0]),
            "classes": classes.tolist(),
            "by_class": [unchanged(circle[:, of], circle[0, of]) for of in (turned.labels == k for k in classes)],
        },
        "changed": _changed(circle.argmax(2), mirrored.argmax(2), turned),
        "preserved": {
            "labels": turned.labels[right].tolist(),
            "ranges": preserved_ranges(circle.argmax(2), ANGLES)[right].tolist(),
        },
        "errors": equivariance_errors(model, compared, preprocess, TURNS, mirrored=True),
        "examples": [
            {"label": label, "png": _encoded(turned.images[first[label]])} for label in sorted(first)[:EXAMPLES]
        ],
    }


def _changed(circle: torch.Tensor, mirrored: torch.Tensor, turned: Split) -> list[dict[str, Any]]:
    """The entry "changed" of `behaviour`, from predictions [angles, N] for upright and reflected images.

    It has the smallest rotation for each image, and at most EXAMPLES / 2 rotated and as many reflected images.
    """
    found: list[dict[str, Any]] = []
    right = circle[0] == turned.labels
    for flip, answers in ((False, circle), (True, mirrored[:1])):
        changes = []
        for i in ((answers != turned.labels).any(0) & right).nonzero()[:, 0].tolist():
            other = (answers[:, i] != turned.labels[i]).nonzero()[:, 0].tolist()
            k = min(other, key=lambda k: min(ANGLES[k], 360 - ANGLES[k]))
            about = {"angle": float(ANGLES[k]), "mirrored": flip, "answer": int(answers[k, i])}
            changes.append((min(ANGLES[k], 360 - ANGLES[k]), i, about))
        found += [
            {"label": int(turned.labels[i]), "png": _encoded(turned.images[i]), **about}
            for _, i, about in sorted(changes, key=lambda one: one[:2])[: EXAMPLES // 2]
        ]
    return found


def _encoded(image: torch.Tensor) -> str:
    return base64.b64encode(png(_bytes(image))).decode()


def _bytes(image: torch.Tensor) -> torch.Tensor:
    return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
