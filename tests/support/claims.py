"""What the sentences of docs/reproduction.md are held to."""

from functools import cache

from partialsym.measure import subset_spread
from partialsym.reproduction.table import load_table
from partialsym.runs.schema import sampled_accuracy
from studies.reproduction import DOCUMENT, ROOT

TABLES = ("mnist6", "table2", "table5", "data_efficiency", "kernels", "monotonic")
WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


@cache
def document():
    """The text in one line."""
    return " ".join(DOCUMENT.read_text(encoding="utf-8").split())


@cache
def all_results():
    """By table, the results of every row that has any."""
    return {name: load_table(name).longest(ROOT / "results" / name) for name in TABLES}


def accuracies(results):
    """In %, of all seeds."""
    return [100 * result["accuracy"]["test"] for result in results]


def drawn_accuracies(results):
    """In %, of all seeds, each the mean over its draws."""
    return [100 * sampled_accuracy(result) for result in results]


def kept(results, key):
    """By layer after lifting, what each seed keeps."""
    return [layer[key]["values"] for layer in subset_spread(results)[1:]]


def seeds(results):
    """`one seed`, `two seeds`, …"""
    return f"{WORDS[len(results)]} seed{'s' * (len(results) > 1)}"
