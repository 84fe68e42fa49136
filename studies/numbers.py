"""Write the numbers of sentences from the results: `python -m studies.numbers`, or `make tables`.

In a Markdown file a number stands between two comments. The first says what it is, so that anybody can change the words
around it:

    T(2) reaches <!--= accuracy table2/T2/plain/rotMNIST -->96.74 ± 0.16<!--/--> %.

It holds the name of a quantity of `QUANTITIES`, then its arguments. A PATH is a folder of results/ with one file per
seed, or a pattern of such folders; quote what contains spaces. Options follow: `digits=1`, and `as=` with a key of
`STATISTICS`.
"""

import inspect
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from partialsym._utils.atomic import replace_text
from partialsym.measure import subset_spread
from partialsym.reproduction.table import load_table, mean_std
from partialsym.runs.schema import read_result, sampled_accuracy

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
BENCHMARKS = (ROOT / "benchmarks" / "results.json", ROOT / "benchmarks" / "scaling.json")
NUMBER = re.compile(r"<!--=(?P<expression>[^>]*?)-->(?P<value>[^<]*)<!--/-->")
AT_LINE_START = re.compile(r"^[\s>*+-]*<!--=", re.MULTILINE)

STATISTICS: dict[str, Callable[[Sequence[float], int], str]] = {
    "mean±std": lambda values, digits: mean_std(values, digits),
    "mean": lambda values, digits: f"{mean(values):,.{digits}f}",
    "min": lambda values, digits: f"{min(values):,.{digits}f}",
    "max": lambda values, digits: f"{max(values):,.{digits}f}",
    "range": lambda values, digits: f"{min(values):,.{digits}f} to {max(values):,.{digits}f}",
    "list": lambda values, digits: ", ".join(f"{value:,.{digits}f}" for value in values),
}


@dataclass(frozen=True)
class Quantity:
    """What a document may name.

    Attributes:
        values: arguments → numbers, one per seed unless its docstring says otherwise.
        digits: decimals that are shown by default.
        statistic: what is shown of several numbers by default, a key of `STATISTICS`.
    """

    values: Callable[..., Sequence[float]]
    digits: int
    statistic: str


def accuracy(path: str) -> list[float]:
    """Test accuracy, deterministic inference, in %."""
    return [100 * result["accuracy"]["test"] for result in _results(path)]


def sampled(path: str) -> list[float]:
    """Test accuracy under drawn elements, the mean of the draws, in %."""
    return [100 * sampled_accuracy(result) for result in _results(path)]


def sampled_loss(path: str) -> list[float]:
    """By how many points drawn elements lower the accuracy; on the same images where the run recorded that."""
    accuracies = [result["accuracy"] for result in _results(path)]
    deterministic = [100 * found.get("test_unsampled", found["test"]) for found in accuracies]
    return [there - drawn for there, drawn in zip(deterministic, sampled(path), strict=True)]


def validation(path: str) -> list[float]:
    """Validation accuracy, in %."""
    return [100 * result["accuracy"]["validation"] for result in _results(path)]


def training(path: str) -> list[float]:
    """Accuracy on the training images in the last epoch, in %."""
    return [100 * result["history"][-1]["train_accuracy"] for result in _results(path)]


def difference(path: str, other: str) -> list[float]:
    """Test accuracy of PATH minus that of OTHER, in points, for the seeds that both have."""
    ours, theirs = (
        {r["config"]["seed"]: 100 * r["accuracy"]["test"] for r in _results(folder)} for folder in (path, other)
    )
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def errors_removed(path: str, other: str) -> list[float]:
    """The share of OTHER's errors that PATH does not make, of the mean accuracies, in %: one number."""
    ours, theirs = mean(accuracy(path)), mean(accuracy(other))
    return [100 * (ours - theirs) / (100 - theirs)]


def standard_error(path: str) -> list[float]:
    """The standard error of the mean accuracy that the number of test images alone causes, in points: one number."""
    share = mean(accuracy(path))
    return [math.sqrt(share * (100 - share) / _results(path)[0]["images"]["test"])]


def wrong(path: str) -> list[float]:
    """How many test images are answered wrongly."""
    return [round((1 - result["accuracy"]["test"]) * result["images"]["test"]) for result in _results(path)]


def images(path: str, split: str = "test") -> list[float]:
    """The size of a split: one number."""
    return [_results(path)[0]["images"][split]]


def seeds(path: str) -> list[float]:
    """How many seeds were run: one number."""
    return [len(_results(path))]


def unsolved(path: str) -> list[float]:
    """How many runs on orientation sectors are nearer to chance than to a perfect answer: one number."""
    counts = [(result, int(result["config"]["data"]["name"].split("-")[1])) for result in _results(path)]
    return [sum(2 * result["accuracy"]["test"] <= 1 + 1 / count for result, count in counts)]


def epochs(path: str) -> list[float]:
    """Epochs of training."""
    return [result["epochs"] for result in _results(path)]


def minutes(path: str) -> list[float]:
    """Minutes of training, on a machine that may have had other work."""
    return [result["seconds"] / 60 for result in _results(path)]


def parameters(path: str) -> list[float]:
    """Learned parameters."""
    return [result["parameters"] for result in _results(path)]


def theta(path: str, layer: str = "") -> list[float]:
    """θ in degrees: by layer after lifting the mean over seeds; of one LAYER (1 is the first after lifting) by seed."""
    return _learned(path, "theta_deg", layer)


def theta_share(path: str, layer: str = "") -> list[float]:
    """The same as a share of 180°."""
    return [value / 180 for value in theta(path, layer)]


def theta_input(path: str) -> list[float]:
    """θ of an Augerino at the input, in degrees."""
    return [result["subsets"][0]["theta_deg"] for result in _results(path)]


def probability(path: str, component: str, layer: str = "") -> list[float]:
    """P of a component such as P(m), as `theta` gives the angle."""
    return _learned(path, component, layer)


def least(table: str, layer: str) -> list[float]:
    """In how many cases LAYER has the smallest θ or P(m) of its network, over the partial rows of TABLE and their
    seeds: one number."""
    return [_least(table)[int(layer) - 1]]


def least_cases(table: str) -> list[float]:
    """How many such cases there are: one number."""
    return [_least(table).total()]


def printed(path: str) -> list[float]:
    """The accuracy that the source prints for this row of a table, in %: one number."""
    table, _, row = path.partition("/")
    figure = load_table(table).rows.get(row)
    if figure is None:
        raise ValueError(f"{path}: nothing is printed for this row.")
    return [float(figure)]


def below_printed(path: str) -> list[float]:
    """By how many points our mean accuracy is below the printed one: one number."""
    return [printed(path)[0] - mean(accuracy(path))]


def printed_difference(path: str, other: str) -> list[float]:
    """The printed accuracy of PATH minus that of OTHER, in points: one number."""
    return [printed(path)[0] - printed(other)[0]]


def benchmark(name: str, precision: str = "float32") -> list[float]:
    """The value of a row of benchmarks/results.json or scaling.json, in its unit: one number."""
    rows = [row for path in BENCHMARKS for row in json.loads(path.read_text(encoding="utf-8"))]
    found = [row["value"] for row in rows if (row["name"], row["precision"]) == (name, precision)]
    if len(found) != 1:
        raise ValueError(f"the benchmarks have {len(found)} rows {name!r} in {precision}: must be one.")
    if found == [None]:
        raise ValueError(f"{name!r} was not measured in {precision}.")
    return found


QUANTITIES = {
    of.__name__: Quantity(of, digits, statistic)
    for digits, statistic, group in (
        (2, "mean±std", (accuracy, sampled, validation)),
        (2, "mean", (difference, sampled_loss, standard_error, printed, below_printed, benchmark)),
        (1, "mean", (printed_difference,)),
        (
            0,
            "mean",
            (training, errors_removed, wrong, images, seeds, unsolved, epochs, minutes, parameters, least, least_cases),
        ),
        (0, "list", (theta, theta_input)),
        (2, "list", (probability,)),
        (3, "list", (theta_share,)),
    )
    for of in group
}


def value(expression: str) -> str:
    """The text of a number; raises ValueError where the expression is none or its results are missing."""
    name, *words = shlex.split(expression) or [""]
    if name not in QUANTITIES:
        raise ValueError(f"{expression.strip()!r} names no quantity: must be one of {', '.join(QUANTITIES)}.")
    quantity = QUANTITIES[name]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    arguments = [word for word in words if "=" not in word]
    if unknown := options.keys() - {"digits", "as"}:
        raise ValueError(f"{expression.strip()!r} has the option {min(unknown)!r}: must be digits or as.")
    try:
        inspect.signature(quantity.values).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"{expression.strip()!r}: {error}.") from None
    statistic, digits = options.get("as", quantity.statistic), options.get("digits", str(quantity.digits))
    if statistic not in STATISTICS or not digits.isdecimal():
        raise ValueError(f"{expression.strip()!r}: `as` must be one of {', '.join(STATISTICS)}, `digits` a number.")
    return STATISTICS[statistic](quantity.values(*arguments), int(digits))


def render(text: str) -> str:
    """A document with the numbers that the results give; raises ValueError where a placeholder is not well formed."""
    if broken := AT_LINE_START.search(text):  # Markdown would take the whole line for HTML
        raise ValueError(f"{text[broken.start() :].strip()[:60]!r} starts a line: put a word before it.")
    if not text.count("<!--=") == text.count("<!--/-->") == len(NUMBER.findall(text)):
        raise ValueError("a placeholder is not of the form <!--= … -->…<!--/-->.")
    return NUMBER.sub(lambda m: f"<!--={m['expression']}-->{value(m['expression'])}<!--/-->", text)


def documents() -> list[Path]:
    """Every Markdown file that may hold numbers."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    for path in documents():
        before = path.read_text(encoding="utf-8")
        try:
            after = render(before)
        except ValueError as error:
            raise ValueError(f"{path.relative_to(ROOT)}: {error}") from None
        if after != before:
            replace_text(path, after)


def _results(path: str) -> list[dict[str, Any]]:
    files = sorted(RESULTS.glob(f"{path}/seed*.json"))
    if not files:
        raise ValueError(f"results/{path} holds no results.")
    return [read_result(file) for file in files]


def _learned(path: str, key: str, layer: str) -> list[float]:
    layers = subset_spread(_results(path))[1:]  # the first, lifting, learns nothing
    if any(key not in one for one in layers):
        raise ValueError(f"results/{path} holds no {key}.")
    return layers[int(layer) - 1][key]["values"] if layer else [one[key]["mean"] for one in layers]


def _least(table: str) -> Counter[int]:
    """By layer after lifting, counted from 0: how often it has the smallest θ or P(m)."""
    found: Counter[int] = Counter()
    rows = [row for row in load_table(table).rows if "/partial/" in row and (RESULTS / table / row).is_dir()]
    for results in (_results(f"{table}/{row}") for row in rows):
        layers = subset_spread(results)[1:]
        for key in layers[0].keys() & {"theta_deg", "P(m)"}:
            by_seed = zip(*(one[key]["values"] for one in layers), strict=True)
            found.update(values.index(min(values)) for values in by_seed)
    return found


if __name__ == "__main__":
    main()
