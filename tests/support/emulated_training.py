"""Trainings of the project on an emulated GPU, and what waits for it in their steps: for emulated_runs.py."""

import itertools
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning
import torch
from emulated_cuda import devices
from faults import SMALL
from made_folder import flat

from partialsym.component_choice import choose_components
from partialsym.data import Preprocessing, batched
from partialsym.data.sources.folder import folder
from partialsym.training.dataloaders import loaders
from partialsym.training.fit import train
from partialsym.training.module import ClassifierModule
from partialsym.training.trainer import trainer


class Enough(Exception):
    pass


class Steps(lightning.Callback):
    """Notes what waited within each step; after `most` of them it is enough."""

    def __init__(self, gpu, most):
        self.gpu, self.most, self.seen = gpu, most, []

    def on_train_batch_start(self, trainer, *rest):
        if trainer.global_step == self.most:
            raise Enough
        self.seen.append(len(self.gpu.waits))

    def between(self):
        return [self.gpu.waits[a:b] for a, b in itertools.pairwise(self.seen)]


def trained(gpu, patch, most, progress=False, **changes):
    """What waited in each step of a training, from one step's start to the next's."""
    parts = {key: replace(getattr(SMALL, key), **value) for key, value in changes.items()}
    steps = Steps(gpu, most)

    def with_steps(config, run, preemption, callbacks, shown):
        return trainer(config, run, preemption, [*callbacks, steps], shown)

    with tempfile.TemporaryDirectory() as out, patch.context() as here:
        here.setattr("partialsym.training.fit.trainer_of", with_steps)
        here.setattr("partialsym.training.evaluation.choose_components", partial(choose_components, draws=4))
        try:
            done = train(replace(SMALL, **parts), out, progress=progress, draws=2)
        except Enough:
            return {"steps": steps.between()}
        return {"steps": steps.between(), "result": done.result()["accuracy"], "history": done.history()}


def whole_training(gpu, patch):
    """With its progress bar, validation, evaluation and the files it writes."""
    return trained(gpu, patch, -1, progress=True, training={"epochs": 1})


def penalties_and_skipping(gpu, patch):
    training = {"kernel_norm": 1e-3, "monotonic": 0.1, "width": 0.1, "haar": 0.1, "diverged": "skip"}
    training |= {"density_lr": None, "schedule": "one-cycle", "warmup_epochs": 0.0}
    return trained(gpu, patch, 4, training=training, data={"augment": ("crop", "flip")})


def augerino_in_training(gpu, patch):
    return trained(gpu, patch, 4, model={"group": "T2", "samples": 1, "augerino": "E2", "copies": 2})


def planted_wait(gpu, patch):
    """A step that looks at its batch, twice."""
    inner = ClassifierModule.training_step

    def training_step(self, batch, index):
        float(batch[0].mean())
        batch[0].cpu()
        return inner(self, batch, index)

    with patch.context() as here:
        here.setattr(ClassifierModule, "training_step", training_step)
        return trained(gpu, here, 3)


def streaming(gpu, patch):
    """Batches of images in files."""
    with tempfile.TemporaryDirectory() as place:
        data = folder(flat(Path(place), a=9, b=12), stream=True, workers=0)
        preprocess = Preprocessing(data.mean, data.std)
        batches, _ = loaders(*(batched(part, preprocess, "cuda") for part in (data.train, data.validation)), 4, 0)
        with gpu.noted() as waits:
            pictures = list(batches)
        plain, _ = loaders(*(batched(part, preprocess, "cpu") for part in (data.train, data.validation)), 4, 0)
        same = [torch.equal(a.cpu(), b) for (a, _), (b, _) in zip(pictures, plain, strict=True)]
    found = {"waits": waits, "same": same, "devices": devices(pictures)}
    return found | {"pinned": [batches.pin_memory, plain.pin_memory]}
