"""Does eval mode answer as the network under drawn elements does? Short trainings in which no P gets near 0 or 1.

`python -m benchmarks.eval_subsets --root DIR` trains a Partial G-CNN of mirroring on sevens and mirrored sevens, as
`ask` does, and another on MNIST6-M, for seeds 0 to 9. It prints a table of test accuracies: with the components of
P > ½, under drawn elements (the mean over 32 draws), and with what validation chose, which is the network's answer.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from partialsym import monte_carlo, recalibrate
from partialsym.ask.planning import Length, Plan
from partialsym.config import DataConfig, Experiment, ModelConfig
from partialsym.data import Dataset, Split, load
from partialsym.densities import Bernoulli
from partialsym.measure import BATCH, accuracy, logits
from partialsym.reproduction.table import load_table
from partialsym.runs.run import Run
from partialsym.runs.schema import chosen_components
from partialsym.training.evaluation import calibration
from partialsym.training.fit import train

SEEDS, DRAWS = 10, 32
LENGTH = Length(epochs=3, repeats=5, images=None)
STEPS = Plan(8, None, (), 64, (LENGTH,), {}, {})  # 210 steps on 900 images


def sevens(root: str | None) -> Dataset:
    """900 sevens, half of them mirrored, to train on; 100 and 1,000 for validation and test. Which is all there is."""
    data, generator = load("MNIST", root), torch.Generator().manual_seed(0)

    def mirrored(split: Split, count: int) -> Split:
        index = (split.labels == 7).nonzero().squeeze(1)
        some = split[index[torch.randperm(len(index), generator=generator)[:count]]]
        flip = torch.rand(len(some), generator=generator) < 0.5
        images = torch.where(flip[:, None, None, None], some.images[:].flip(-1), some.images[:])
        return replace(some, images=images, labels=flip.long())

    return replace(
        data,
        name="mirrored sevens",
        classes=("seven", "mirrored"),
        train=mirrored(data.train, 900),
        validation=mirrored(data.validation, 100),
        test=mirrored(data.test, 1000),
    )


def experiments(task: str) -> Iterator[Experiment]:
    """Of every seed."""
    for seed in range(SEEDS):
        if task == "sevens":
            model = ModelConfig("Mirror", width=STEPS.width, kernel_size=5, pools=("lifting", "block1"))
            yield STEPS.experiment("sevens", seed, DataConfig("MNIST"), model)
        else:
            config = load_table("mnist6").experiment("Mirror-2/partial/MNIST6-M", seed, "short")
            yield replace(config, name="mnist6-m", training=replace(config.training, epochs=2))


def row(run: Run, config: Experiment, data: Dataset) -> str:
    """A line of the table; the run's own answer is as it was saved."""
    trained, result = run.model(), run.result()
    components = [module for module in trained.model.modules() if isinstance(module, Bernoulli)]
    p = " ".join(f"{float(module.probabilities()[1]):.2f}" for module in components)
    batches = calibration(config, data, trained.preprocess)
    images, labels = data.test.images, data.test.labels
    for module in components:
        module.chosen.zero_()
    recalibrate(trained.model, batches)
    likely = accuracy(logits(trained.model, images, trained.preprocess), labels)
    drawn = [monte_carlo(trained.model, trained.preprocess(part), DRAWS)[0] for part in images.split(BATCH)]
    found = (likely, accuracy(torch.cat(drawn), labels), result["accuracy"]["test"])
    cells = [str(config.seed), p, *(f"{100 * share:.1f}" for share in found), ", ".join(chosen_components(result))]
    return f"| {' | '.join(cells)} |"


def _main() -> Iterator[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root")
    parser.add_argument("--out", type=Path, default=Path("runs/eval_subsets"))
    parser.add_argument("--tasks", nargs="+", choices=("sevens", "mnist6-m"), default=("sevens", "mnist6-m"))
    options = parser.parse_args()
    for task in options.tasks:
        data = sevens(options.root) if task == "sevens" else load("MNIST6-M", options.root)
        yield f"\n{task}, {len(data.test)} test images\n"
        yield "| seed | P(m), first learned layer to last | P > ½ | drawn | chosen | changed |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for config in experiments(task):
            run = train(config, options.out, data=data, resume=True, progress=False, draws=1)
            yield row(run, config, data)


if __name__ == "__main__":
    for line in _main():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
