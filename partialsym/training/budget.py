"""How many epochs a time pays for."""

import math
import statistics

import torch

from partialsym.config import ConfigError, Experiment
from partialsym.data import Preprocessing, trained_on
from partialsym.inference import evaluating
from partialsym.profiling import AUTOCAST, Step, interleaved
from partialsym.training.fit import build_model, load_data
from partialsym.training.trainer import precision

STEPS = 5  # of each kind are timed, after one that is not
SHARE = 0.85  # of the time is for steps and validation; the rest for the optimizer and the evaluation on test images


def epochs_within(config: Experiment, seconds: float) -> int:
    """The number of epochs of `config` that a training of `seconds` on this machine has, at least 1.

    It times forward and backward passes of a batch, and passes in eval mode. An epoch consists of its steps, and of one
    pass over the validation and recalibration images.

    Raises:
        ConfigError: the time is less than one epoch needs; the message says how much that is.
    """
    data, training = load_data(config.data), config.training
    model = build_model(config.model, data.channels, len(data.classes))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    some = slice(0, training.batch_size)
    images = Preprocessing(data.mean, data.std)(data.train.images[some].to(device))
    labels = data.train.labels[some].to(device)
    step = Step(model.to(device).train(), images, labels, AUTOCAST[precision(training.precision)])

    @torch.no_grad()
    def evaluate() -> None:
        with evaluating(model):
            model(images)

    of_step, of_batch = (statistics.median(one) for one in zip(*interleaved(step, evaluate, pairs=STEPS), strict=True))
    train = len(trained_on(data)) * training.repeats
    seen = len(data.validation) + min(training.recalibration_images, len(data.train))
    of_epoch = math.ceil(train / training.batch_size) * of_step + seen * of_batch / len(images)
    epochs = math.floor(SHARE * seconds / of_epoch)
    if epochs < 1:
        needed = math.ceil(of_epoch / SHARE)
        raise ConfigError(
            f"budget is {seconds:.0f} s: an epoch of {train} images takes about {of_epoch:.0f} s here. Pass at least "
            f"--budget {needed}s, or fewer images with --data.train_images."
        )
    return epochs
