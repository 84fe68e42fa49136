"""Results and histories as runs write them, with made-up numbers."""

import json

from partialsym.config import Experiment, ModelConfig
from partialsym.groups import group
from partialsym.reproduction.table import load_table

LAYERS = ("lifting", "block1.conv1", "last")
ANGLES = [float(a) for a in range(0, 360, 45)]


def entries(name, theta=60.0, p=0.25):
    h = group(name)
    numbers = ({"theta_deg": theta} if h.dim else {}) | {f"P({c})": p for c in h.component_names[1:]}
    return [{"layer": layer, "group": name, **numbers} for layer in LAYERS]


def result(name="E2", *, seed=0, run="e2", theta=60.0, p=0.25, test=0.9, response=False):
    config = Experiment(name=run, seed=seed, model=ModelConfig(group=name, samples=8)).to_dict()
    curve = {"angles": ANGLES, "share": [a / 360 for a in ANGLES], "mean": [0.5] * len(ANGLES)}
    return {
        "format": 1,
        "config": config,
        "accuracy": {"validation": 0.9, "test": test, "test_sampled": [0.7, 0.8]},
        "images": {"train": 1000, "validation": 100, "test": 100},
        "subsets": entries(name, theta, p),
        "parameters": 12345,
        "epochs": 2,
        "seconds": 12.3,
        "loader_share": 0.01,
        "precision": "32",
        "finished": "2026-01-01T00:00:00+00:00",
        "versions": {"torch": "2.13.0", "lightning": None},
        "machine": {"processor": "<b>cpu</b>", "threads": 2, "gpu": None, "system": "Linux"},
        "git": {"commit": "abc123", "dirty": True},
        **({"response": curve, "copy_gap": 0.125} if response else {}),
    }


def history(epochs=2):
    losses = {"train_loss": 0.5, "train_accuracy": 0.8, "validation_loss": 0.6, "validation_accuracy": 0.7}
    learned = {f"{layer}.{key}": 90.0 - i for i, layer in enumerate(LAYERS) for key in ("theta_deg", "P(22.5°·m)")}
    return [{"epoch": float(e + 1), "step": 7.0, **losses, **learned} for e in range(epochs)]


def behaviour(labels, predictions, *, classes=2, preserved=90.0, mirrored=0.5, brier=None, turns=None):
    """What the verdict reads of a behaviour.json."""
    scores = {} if brier is None else {"brier": list(map(float, brier))}
    return {
        "format": 1,
        "classes": [str(k) for k in range(classes)],
        "images": {"answered": len(labels), "turned": 40, "compared": 16},
        "answers": {"labels": list(map(int, labels)), "predictions": list(map(int, predictions)), **scores},
        "preserved": {"labels": [0, 1], "ranges": [preserved, preserved]},
        "unchanged": {"angles": [0.0, 180.0], "share": [1.0, 0.5], "mirrored": [mirrored, 0.5], **(turns or {})},
    }


def write(folder, row, seed, test, sampled=(0.5,), gap=1e-6, epochs=4, *, table="mnist6", budget=None, **changed):
    """The file of a result of a row."""
    table = load_table(table)
    result = {
        "format": 1,
        "config": table.experiment(row, seed, budget).to_dict(),
        "accuracy": {"test": test, "test_sampled": list(sampled)},
        "images": {"train": 100, "test": 100},
        "subsets": [{"layer": "last", "group": "SE2", "theta_deg": 90.0}],
        "copy_gap": gap,
        "epochs": epochs,
        **changed,
    }
    file = folder / table.place(row, table.budget(budget)) / f"seed{seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result))
    return file
