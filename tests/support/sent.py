"""Signals that reach a training."""

import os

from partialsym.training.module import ClassifierModule


def send(monkeypatch, number, hook, step):
    """Let a signal arrive in a hook of the module, after so many steps."""
    inner = getattr(ClassifierModule, hook)

    def signalled(self, *args):
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return inner(self, *args)

    monkeypatch.setattr(ClassifierModule, hook, signalled)
