"""Commands that train, or say what training would cost."""

from contextlib import nullcontext
from pathlib import Path

import torch
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from partialsym.commands.saying import experiment, progress, say, say_chosen, say_subsets
from partialsym.config import ConfigError
from partialsym.cost import beside, costs
from partialsym.measure import Preprocessing
from partialsym.precision import full_float32
from partialsym.run import Run
from partialsym.train import build_model, check_size, load_data, train
from partialsym.trainer import precision


def fit(options: Namespace) -> None:
    config = experiment(options)
    run = train(config, options.out, resume=options.resume, progress=progress(options))
    if config.trainer.processes == 1:  # of a job array, too, where variables give it a rank
        _say(run)
    else:
        rank_zero_only(_say)(run)


def _say(run: Run) -> None:
    result = run.result()
    say(f"test accuracy: {100 * result['accuracy']['test']:.1f} %")
    say_subsets(result)
    say_chosen(result)
    say(f"run: {run.folder}")


def cost(options: Namespace) -> None:
    if options.pairs < 1:
        raise ConfigError(f"pairs is {options.pairs}: must be at least 1.")
    config = experiment(options)
    data, size = load_data(config.data), config.training.batch_size
    model = build_model(config.model, data.channels, len(data.classes))
    check_size(model, data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = Preprocessing(data.mean, data.std)(data.train.images[:size].to(device))
    used = "32" if precision(config.training.precision) == "32" else "bf16-mixed"  # also for 16-mixed: alike in cost
    labels = data.train.labels[:size].to(device)
    with nullcontext() if config.training.tf32 else full_float32():
        ours, twin = costs(model.to(device), images, labels, bf16=used == "bf16-mixed", pairs=options.pairs)
    for line in beside(ours, twin):
        say(line)
    steps = len(data.trained_on) // len(images)
    where = f"{device}, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()
    say(
        f"batch {len(images)}, {used}, {where}, median of {options.pairs} steps; an epoch is {steps} steps, "
        f"{steps * ours.seconds / 60:.3g} minutes without the optimiser"
    )
    say("dense twin: a plain CNN with the same channels times elements; neither is compiled")


def demo(options: Namespace) -> None:
    from partialsym.demo import demo as run

    for line in run(Path(options.out), options.seed, progress(options)):
        say(line)
