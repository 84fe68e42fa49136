"""The command `cost`: time and memory of a training step."""

from contextlib import nullcontext

import torch
from jsonargparse import Namespace

from partialsym._utils.precision import full_float32
from partialsym.cli.output import experiment, say
from partialsym.config import ConfigError
from partialsym.data import Preprocessing, trained_on
from partialsym.profiling import AUTOCAST, beside, costs
from partialsym.training.fit import build_model, check_size, load_data
from partialsym.training.trainer import precision


def run(options: Namespace) -> None:
    if options.pairs < 1:
        raise ConfigError(f"pairs is {options.pairs}: must be at least 1.")
    config = experiment(options)
    data, size = load_data(config.data), config.training.batch_size
    model = build_model(config.model, data.channels, len(data.classes))
    check_size(model, data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = Preprocessing(data.mean, data.std)(data.train.images[:size].to(device))
    used = precision(config.training.precision)
    labels = data.train.labels[:size].to(device)
    with nullcontext() if config.training.tf32 else full_float32():
        ours, twin = costs(model.to(device), images, labels, dtype=AUTOCAST[used], pairs=options.pairs)
    for line in beside(ours, twin):
        say(line)
    steps = len(trained_on(data)) // len(images)
    where = f"{device}, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()
    say(
        f"batch {len(images)}, {used}, {where}, median of {options.pairs} steps; an epoch is {steps} steps, "
        f"{steps * ours.seconds / 60:.3g} minutes without the optimiser"
    )
    say("dense twin: a plain CNN with the same channels times elements; neither is compiled")
