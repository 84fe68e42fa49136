"""The input of the verdict: how each method was trained, and its answers to the test images."""

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
)  # settings in which methods may differ
LENGTH = ("epochs", "repeats")  # length of a training: the same for all methods of a seed
LEARNED = ("density_lr", "temperature", "monotonic", "width", "haar")  # settings that only learned densities use
NAMES = {"SE2": "SE(2)", "E2": "E(2)", "T2": "T(2)", "Mirror": "mirror"}


class Change(NamedTuple):
    """The smallest turn, in degrees, from which on half of the answers differ from those to the upright images.

    A value is None if there is no such turn. `classes` contains both values for the images of each class, by the
    number of the class.
    """

    counter_clockwise: float | None
    clockwise: float | None
    classes: Mapping[int, tuple[float | None, float | None]]


@dataclass(frozen=True, eq=False)
class MethodResults:
    """The runs of one method, which differ only in their seed.

    Attributes:
        name: name in the config.
        title: name on the page, such as `full SE(2) G-CNN`.
        group: the base group, T2 for a plain network.
        kind: plain, augmented (see `with_roles`), full, partial or augerino.
        augment: names of the augmentations of its training images.
        samples: number of elements in every layer; None for the network's default.
        seeds: seeds of the runs, ascending.
        terms: dotted key → value of the settings that must be the same in all methods that have them.
        classes: names of the classes.
        labels: class of each test image, [images].
        right: whether the answer is right, [seeds, images]; nan if the run does not test the image (another fold).
        brier: Brier scores, in [0, 2], [seeds, images]; None if unknown.
        folds: number of each image's fold, ascending, [images].
        groups: number of each image's group (a patient, a slide), [images]; None if unknown.
        lengths: epochs, repeats and number of training images of each seed.
        trained: training accuracy of each seed in its last epoch, in [0, 1]; nan if unknown.
        changed: from which turn on half of the answers change, see `Change`; None if unknown.
        mirrored: for each seed, the share of test images whose prediction stays the same when they are mirrored.
        turned: number of test images that were turned and mirrored.
        operations: multiply–adds per image; None if unknown.
        step_seconds: duration of a training step in seconds, the mean over the runs; nan if unknown.
        image_seconds: measured duration of an answer in seconds per image, the mean over the runs; nan if unknown.
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
        """The row numbers of these seeds."""
        return [self.seeds.index(seed) for seed in seeds]


def method_results(
    name: str, results: Sequence[Mapping[str, Any]], behaviours: Sequence[Mapping[str, Any]]
) -> MethodResults:
    """Collect the results of one method.

    Args:
        name: name of the method.
        results: `Run.result()` of each run.
        behaviours: `behaviour` of each run, in the same order.
    Raises:
        ValueError: there are no runs, the two lists differ in length, or the runs have different test images.
    """
    if not results or len(results) != len(behaviours):
        raise InputError(f"{name!r} has {len(results)} results and {len(behaviours)} behaviours: must be equally many.")
    by_seed = sorted(zip(results, behaviours, strict=True), key=lambda pair: pair[0]["config"]["seed"])
    config = by_seed[0][0]["config"]
    answers = [behaved["answers"] for _, behaved in by_seed]
    of_run = [result["config"]["data"].get("fold", 0) for result, _ in by_seed]
    blocks = dict(zip(of_run, answers, strict=True))  # fold → answers of one of its runs
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
    """The methods, with the kind `augmented` for a plain CNN that alone turned or mirrored its training images.

    Raises:
        ValueError: the methods differ in their augmentations in another way.
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
    """The methods with the same columns: the images of all folds that any method was tested on.

    Raises:
        ValueError: two methods have different images in the same fold.
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
    """The parts, concatenated; None if one of them is unknown."""
    return None if any(part is None for part in parts) else np.concatenate([np.array(p, np.int64) for p in parts])


def _spread(rows: Sequence[Any], of_run: Sequence[int], folds: Labels) -> Right | Floats:
    """Each run's values at the images of its fold, [seeds, images], and nan at the images of other folds."""
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
    """The Brier scores; None if an earlier version measured a run, or if a run diverged and has no probabilities."""
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
    """Where the share of unchanged answers, averaged over the seeds, falls to one half."""
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
    """Seconds per training step, including the time between steps; nan if unknown."""
    history = result.get("history") or []
    steps = history[-1].get("step", 0) if history else 0
    return result["seconds"] / steps if steps else float("nan")


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _trained(result: Mapping[str, Any]) -> float:
    history = result.get("history")
    return float(history[-1]["train_accuracy"]) if history else float("nan")
