"""The command `predict`: class probabilities of image files and folders, as text, CSV or JSON."""

import csv
import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jsonargparse import Namespace

from partialsym.data.reading import read_images, shown
from partialsym.data.reading.download import extra
from partialsym.data.sources.folder import IGNORED
from partialsym.errors import InputError
from partialsym.measure import BATCH, logits
from partialsym.runs.run import LoadedModel, Run
from partialsym.training.evaluation import scores

log = logging.getLogger(__name__)


class File(NamedTuple):
    """An image file.

    `label` is the name of its folder if a class has that name, else None. `given` tells whether the command line names
    the file itself, not only a folder.
    """

    path: str
    label: str | None
    given: bool


class Answer(NamedTuple):
    """The answer to one file: one probability per class."""

    file: File
    probabilities: list[float]


def run(options: Namespace) -> None:
    trained = Run(Path(options.run)).model()
    files = list(_files(options.images, trained.classes))
    folders = any(not file.given for file in files)
    answers, unreadable = Answers(trained, files), list[str]()
    form = options.format or ("csv" if folders else "text")
    labelled = any(file.label is not None for file in files)
    seen: list[Answer] | None = [] if labelled else None
    for text in WRITERS[form](answers.read(unreadable, seen), trained.classes, labelled):
        sys.stdout.write(text)
    sys.stdout.flush()
    if seen:
        _say_accuracy(seen, trained.classes)
    if unreadable:
        raise InputError(f"{len(unreadable)} of {len(files)} files were left out: {unreadable[0]}")


class Answers:
    """The answers of a network to files, read and answered in batches."""

    def __init__(self, trained: LoadedModel, files: Sequence[File]) -> None:
        self.trained, self.files = trained, files

    def read(self, unreadable: list[str], labelled: list[Answer] | None) -> Iterator[Answer]:
        """Yield the answers in the order of the files.

        Args:
            unreadable: receives the error messages of files in folders.
            labelled: receives the answers to files with a label, unless it is None.
        Raises:
            InputError, FileNotFoundError: a file that the command line names cannot be read.
        """
        for start in range(0, len(self.files), BATCH):
            for answer in self._answered(self.files[start : start + BATCH], unreadable):
                if labelled is not None and answer.file.label is not None:
                    labelled.append(answer)
                yield answer

    def _answered(self, files: Sequence[File], unreadable: list[str]) -> Iterator[Answer]:
        try:
            found = self._probabilities(files)
        except (InputError, FileNotFoundError) as error:
            if len(files) > 1:  # read one by one, so that only unreadable files are left out
                for file in files:
                    yield from self._answered([file], unreadable)
                return
            if files[0].given:
                raise
            log.warning("%s", error)
            unreadable.append(str(error))
            return
        yield from map(Answer, files, found)

    def _probabilities(self, files: Sequence[File]) -> list[list[float]]:
        trained = self.trained
        paths, channels = [Path(file.path) for file in files], len(trained.preprocess.mean)
        images = read_images(paths, trained.size, channels, trained.fit, trained.range)
        found: list[list[float]] = logits(trained.model, images, trained.preprocess).softmax(1).tolist()
        return found


def _files(given: Sequence[str], classes: Sequence[str]) -> Iterator[File]:
    """The given files; for a folder, all image files in it and its subfolders, sorted by path."""
    for name in given:
        path = Path(name)
        if not path.is_dir():
            yield File(name, None, True)
            continue
        suffixes = extra("PIL.Image", "train", "reading images").registered_extensions()
        count = 0
        for found in sorted(path.rglob("*")):
            parts = found.relative_to(path).parts
            hidden = any(part.startswith(".") or part.lower() in IGNORED for part in parts)
            if found.suffix.lower() in suffixes and not hidden and found.is_file():
                folder = found.parent.name
                yield File(str(found), folder if folder in classes else None, False)
                count += 1
        if not count:
            raise InputError(f"{shown(path)} contains no image files.")


def _say_accuracy(answers: Sequence[Answer], classes: Sequence[str]) -> None:
    labels = torch.tensor([classes.index(str(answer.file.label)) for answer in answers])
    probabilities = torch.tensor([answer.probabilities for answer in answers])
    right = 100 * float((probabilities.argmax(1) == labels).double().mean())
    found = scores(probabilities.log(), labels)
    log.info(
        "accuracy: %.1f %% of %s images in folders of their classes, %.1f %% with classes weighted alike%s",
        right,
        f"{len(answers):,}",
        100 * (found["balanced_accuracy"] or 0.0),
        "" if found["auroc"] is None else f", AUROC {found['auroc']:.3f}",
    )


def _as_text(answers: Iterable[Answer], classes: Sequence[str], labelled: bool) -> Iterator[str]:
    for (file, *_), p in answers:
        yield f"{shown(file)}\t{shown(_best(classes, p))}\t{max(p):.4f}\n"


def _as_csv(answers: Iterable[Answer], classes: Sequence[str], labelled: bool) -> Iterator[str]:
    yield _row(["file", *(["true class"] if labelled else []), "class", *classes])
    for (file, label, _), p in answers:
        yield _row([file, *([label or ""] if labelled else []), _best(classes, p), *(f"{share:.6f}" for share in p)])


def _row(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _as_json(answers: Iterable[Answer], classes: Sequence[str], labelled: bool) -> Iterator[str]:
    before = "["
    for (file, label, _), p in answers:
        about = {"file": file, **({"true class": label} if labelled else {}), "class": _best(classes, p)}
        row = json.dumps(
            about | {"probabilities": dict(zip(classes, p, strict=True))}, indent=1, ensure_ascii=False
        ).replace("\n", "\n ")
        yield f"{before}\n {row}"
        before = ","
    yield "\n]\n" if before == "," else "[]\n"


def _best(classes: Sequence[str], probabilities: Sequence[float]) -> str:
    return classes[max(range(len(classes)), key=probabilities.__getitem__)]


WRITERS = {"text": _as_text, "csv": _as_csv, "json": _as_json}
