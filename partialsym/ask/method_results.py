"""What the verdict reads of a method: on which terms it was trained, and its answers to the test images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from partialsym.ask.intervals import Floats, Labels, Right
from partialsym.config import DataConfig, ModelConfig, TrainingConfig
from partialsym.errors import InputError
from partialsym.measure import half_changed
from partialsym.runs.run import flatten

FREE = (
    "group",
    "partial",
    "samples",
    "augerino",
    "copies",
    "learned_layers",
    "proportional",
)  # what methods may differ in
LENGTH = ("epochs", "repeats")  # of a training: alike for all methods of a seed
LEARNED = ("density_lr", "temperature", "monotonic", "width", "haar")  # settings of learned densities alone
NAMES = {"SE2": "SE(2)", "E2": "E(2)", "T2": "T(2)", "Mirror": "mirror"}


class Change(NamedTuple):
    """From which turn on, in degrees, half of the answers differ from those upright: None where at no turn they do.

    `classes` holds the same of the images of each class, by its number.
    """

    counter_clockwise: float | None
    clockwise: float | None
    classes: Mapping[int, tuple[float | None, float | None]]


@dataclass(frozen=True, eq=False)
class MethodResults:
    """A method: runs that differ in their seed alone.

    Attributes:
        name: as its config has it.
        title: what it is, in a reader's words.
        group: the base group, T2 for a plain network.
        kind: plain, augmented (see `with_roles`), full, partial or augerino.
        augment: names of the changes to its training images.
        samples: elements of every layer, None for the network's own choice.
        seeds: numbers of the runs, ascending.
        terms: dotted key → value of the settings that must be the same in all methods which have them.
        classes: names.
        labels: of the test images, [images].
        right: of each seed and image, [seeds, images]; nan where a run tests another fold.
        brier: Brier score of each seed and image, [seeds, images]; None where it is not known.
        folds: which fold each image is of, ascending, [images].
        groups: which images belong together, [images]; None where that is not known.
        lengths: of each seed, its training: epochs, repeats and training images.
        trained: training accuracy of each seed, in its last epoch; nan where it is not known.
        changed: from which turn on half of the answers change, see `Change`; None where that is not known.
        mirrored: of each seed, share of turned images whose prediction mirroring leaves as it is.
        turned: how many images were turned and mirrored.
        operations: multiply–adds of one image, None where they are unknown.
        step_seconds: of a training step, the mean over the runs; nan where it is unknown.
        image_seconds: of an image's answer as it was measured, the mean over the runs; nan where it is unknown.
    """

    name: str
    title: str
    group: str
    kind: str
    augment: tuple[str, ...]
    samples: int | None
    seeds: tuple[int, ...]
    terms: dict[str, Any]
    classes: tuple[str, ...]
    labels: "np.ndarray[Any, np.dtype[np.int64]]"
    right: Right | Floats
    brier: Floats | None
    folds: Labels
    groups: Labels | None
    lengths: tuple[tuple[int | None, ...], ...]
    trained: tuple[float, ...]
    changed: "Change | None"
    mirrored: tuple[float, ...]
    turned: int
    operations: int | None
    step_seconds: float
    image_seconds: float

    def rows(self, seeds: Sequence[int]) -> list[int]:
        """Where those seeds are."""
        return [self.seeds.index(seed) for seed in seeds]


def method_results(
    name: str, results: Sequence[Mapping[str, Any]], behaviours: Sequence[Mapping[str, Any]]
) -> MethodResults:
    """Of one method, from `Run.result()` and `behaviour` of each of its runs, in the same order.

    Raises:
        ValueError: no runs, or their test images differ.
    """
    if not results or len(results) != len(behaviours):
        raise InputError(f"{name!r} has {len(results)} results and {len(behaviours)} behaviours: must be as many.")
    by_seed = sorted(zip(results, behaviours, strict=True), key=lambda pair: pair[0]["config"]["seed"])
    config = by_seed[0][0]["config"]
    answers = [behaved["answers"] for _, behaved in by_seed]
    of_run = [result["config"]["data"].get("fold", 0) for result, _ in by_seed]
    blocks = dict(zip(of_run, answers, strict=True))  # of each fold the answers of one run
    for fold, one in zip(of_run, answers, strict=True):
        if any(one.get(key) != blocks[fold].get(key) for key in ("labels", "groups")):
            raise InputError(f"the runs of {name!r} have different test images.")
    order = sorted(blocks)
    labels, groups = (_joined([blocks[fold].get(key) for fold in order]) for key in ("labels", "groups"))
    assert labels is not None
    folds = np.repeat(order, [len(blocks[fold]["labels"]) for fold in order]).astype(np.int64)
    right = [np.array(one["predictions"]) == np.array(one["labels"]) for one in answers]
    model = asdict(ModelConfig()) | config["model"]
    kind = _kind(model)
    training = asdict(TrainingConfig()) | config["training"]
    learns = kind in ("partial", "augerino")
    data = asdict(DataConfig()) | config["data"] | {"root": None}
    terms = {
        "data": {key: value for key, value in data.items() if key != "augment"} | {"fold": 0, "train_images": None},
        "model": {key: value for key, value in model.items() if key not in FREE},
        "training": {
            key: value for key, value in training.items() if key not in LENGTH and (learns or key not in LEARNED)
        },
    }
    return MethodResults(
        name=name,
        title=_title(kind, model),
        group=model["group"],
        kind=kind,
        augment=tuple(data["augment"]),
        samples=model["samples"],
        seeds=tuple(result["config"]["seed"] for result, _ in by_seed),
        terms=flatten(terms),
        classes=tuple(by_seed[0][1]["classes"]),
        labels=labels,
        right=_spread(right, of_run, folds),
        brier=_brier(answers, of_run, folds),
        folds=folds,
        groups=groups,
        lengths=tuple(_length(result["config"]) for result, _ in by_seed),
        trained=tuple(_trained(result) for result, _ in by_seed),
        changed=_change([behaved for _, behaved in by_seed]),
        mirrored=tuple(behaved["unchanged"]["mirrored"][0] for _, behaved in by_seed),
        turned=by_seed[0][1]["images"]["turned"],
        operations=by_seed[0][1].get("multiply_adds"),
        step_seconds=_mean(_of_step(result) for result, _ in by_seed),
        image_seconds=_mean(behaved.get("image_seconds", float("nan")) for _, behaved in by_seed),
    )


def with_roles(arms: Sequence[MethodResults]) -> list[MethodResults]:
    """The methods, where a plain CNN that turned or mirrored its training images, and the others did not, is one of its
    own kind, `augmented`.

    Raises:
        ValueError: other differences of augmentation.
    """
    common = next((arm for arm in arms if arm.kind != "plain"), min(arms, key=lambda arm: len(arm.augment)))
    found = []
    for arm in arms:
        more = [name for name in arm.augment if name not in common.augment]
        if arm.kind == "plain" and more and not {*more} - {"rotate", "flip"} and {*arm.augment} > {*common.augment}:
            found.append(replace(arm, kind="augmented", title=f"{arm.title} with augmentation"))
        elif arm.augment != common.augment:
            raise InputError(
                f"data.augment is {list(arm.augment)} in {arm.name!r} and {list(common.augment)} in {common.name!r}: "
                "not on equal terms."
            )
        else:
            found.append(arm)
    return found


def aligned(arms: Sequence[MethodResults]) -> list[MethodResults]:
    """The methods with columns for the same images: those of all folds that any of them was tested on.

    Raises:
        ValueError: a fold that two methods share has other images in one of them.
    """
    blocks: dict[int, tuple[Labels, Labels | None, str]] = {}
    for arm in arms:
        for fold in np.unique(arm.folds).tolist():
            at = arm.folds == fold
            groups = None if arm.groups is None else arm.groups[at]
            labels, _, name = blocks.setdefault(fold, (arm.labels[at], groups, arm.name))
            if not np.array_equal(labels, arm.labels[at]):
                raise InputError(f"{arm.name!r} and {name!r} have different test images: they cannot be compared.")
    order = sorted(blocks)
    folds = np.repeat(order, [len(blocks[fold][0]) for fold in order]).astype(np.int64)
    labels = np.concatenate([blocks[fold][0] for fold in order])
    groups = _joined([blocks[fold][1] for fold in order])

    def widened(arm: MethodResults, values: Any) -> Any:
        if len(arm.folds) == len(folds):
            return values
        wide = np.full((len(values), len(folds)), np.nan)
        wide[:, np.isin(folds, arm.folds)] = values
        return wide

    return [
        replace(
            arm,
            labels=labels,
            groups=groups,
            folds=folds,
            right=widened(arm, arm.right),
            brier=None if arm.brier is None else widened(arm, arm.brier),
        )
        for arm in arms
    ]


def _joined(parts: Sequence[Any]) -> Labels | None:
    """One after another; None where one is not known."""
    return None if any(part is None for part in parts) else np.concatenate([np.array(p, np.int64) for p in parts])


def _spread(rows: Sequence[Any], of_run: Sequence[int], folds: Labels) -> Right | Floats:
    """Each run's values at the images of its fold, [seeds, images]: nan at the others, if there are others."""
    if len(np.unique(folds)) == 1:
        return np.array(rows)
    wide = np.full((len(rows), len(folds)), np.nan)
    for row, values, fold in zip(wide, rows, of_run, strict=True):
        row[folds == fold] = values
    return wide


def _length(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    training = asdict(TrainingConfig()) | config["training"]
    return (*(training[key] for key in LENGTH), config["data"].get("train_images"))


def _brier(answers: Sequence[Mapping[str, Any]], of_run: Sequence[int], folds: Labels) -> Floats | None:
    """None where a run was measured by an earlier version, or has no probabilities, having diverged."""
    if not all("brier" in one for one in answers):
        return None
    scores = [np.array(one["brier"], dtype=np.float64) for one in answers]
    if not all(np.isfinite(one).all() for one in scores):
        return None
    return np.asarray(_spread(scores, of_run, folds), dtype=np.float64)


def _kind(model: Mapping[str, Any]) -> str:
    if model["augerino"]:
        return "augerino"
    if model["group"] == "T2":
        return "plain"
    return "partial" if model["partial"] else "full"


def _title(kind: str, model: Mapping[str, Any]) -> str:
    around = NAMES.get(model["augerino"], model["augerino"])
    group = NAMES.get(model["group"], model["group"])
    return {
        "plain": "plain CNN",
        "augerino": f"Augerino over {around}",
        "full": f"full {group} G-CNN",
        "partial": f"Partial {group} G-CNN",
    }[kind]


def _change(behaviours: Sequence[Mapping[str, Any]]) -> Change | None:
    """Of the mean share of unchanged answers over the seeds."""
    turns = [behaved["unchanged"] for behaved in behaviours]
    angles = turns[0]["angles"]
    if any(one["angles"] != angles for one in turns):
        return None
    found = half_changed(angles, np.mean([one["share"] for one in turns], 0).tolist())
    classes: dict[int, tuple[float | None, float | None]] = {}
    for k, label in enumerate(turns[0].get("classes", [])):
        if all(one.get("classes") == turns[0]["classes"] for one in turns):
            classes[label] = half_changed(angles, np.mean([one["by_class"][k] for one in turns], 0).tolist())
    return Change(*found, classes)


def _of_step(result: Mapping[str, Any]) -> float:
    """Seconds of a training step, what surrounds it included; nan where it is unknown."""
    history = result.get("history") or []
    steps = history[-1].get("step", 0) if history else 0
    return result["seconds"] / steps if steps else float("nan")


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _trained(result: Mapping[str, Any]) -> float:
    history = result.get("history")
    return float(history[-1]["train_accuracy"]) if history else float("nan")
