"""A Ctrl-C stops a run wherever it comes, also where Python drops it or makes another error of it."""

import signal
from dataclasses import replace

import pytest
import torch
from helpers import few
from training import TINY, run

import partialsym.cli.main
import partialsym.training.fit
from partialsym._utils.signals import Interruption, Preempted, Preemption, Stopped
from partialsym.runs.run import Run
from partialsym.training.callbacks.checkpoint import RunCallback
from partialsym.training.fit import run_folder
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

SMALL = replace(
    TINY,
    data=replace(TINY.data, train_images=60),
    model=replace(TINY.model, group="SE2", samples=2, hidden=2, pools=("lifting", "block1")),
    training=replace(TINY.training, epochs=2, batch_size=20, recalibration_images=8),
)
WINDOWS = {
    "the network is built": (partialsym.training.fit, "build_model"),
    "Lightning's trainer is made": (partialsym.training.fit, "trainer_of"),
    "images are read": (partialsym.training.fit, "load_data"),
    "Lightning has taken no signal yet": (ClassifierModule, "configure_optimizers"),
    "a step is taken": (ClassifierModule, "training_step"),
    "images of the validation are answered": (ClassifierModule, "validation_step"),
    "a checkpoint is written": (RunCallback, "on_save_checkpoint"),
    "the training has ended": (ClassifierModule, "on_train_end"),
    "the test images are evaluated": (partialsym.training.fit, "evaluation"),
    "the model is saved": (partialsym.training.fit, "save_model"),
    "the result is written": (Run, "hashes"),
}
LATE = list(WINDOWS)[-3:]  # the rest of a run is done first


class Dropped:
    """Python drops what is raised in it."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def raised(number):
    signal.raise_signal(number)


def dropped(number):
    Dropped(number)


def replaced(number):
    try:
        signal.raise_signal(number)
    finally:
        raise RuntimeError("cannot release un-acquired lock")  # as `logging` does


@pytest.fixture(autouse=True)
def handler():
    """That of a program in the foreground: in the background the tests themselves ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def signal_in(monkeypatch, window, how, number=signal.SIGINT):
    """Let the signal come once, when the run is there."""
    owner, name = WINDOWS[window]
    inner = getattr(owner, name)

    def act(*arguments, **options):
        monkeypatch.setattr(owner, name, inner)
        how(number)
        return inner(*arguments, **options)

    monkeypatch.setattr(owner, name, act)


@pytest.mark.parametrize("window", few(WINDOWS, *list(WINDOWS)[1::3], *LATE[:1]))
def test_a_ctrl_c_that_python_drops_stops_the_run(window, monkeypatch, tmp_path, handler):
    signal_in(monkeypatch, window, dropped)
    with pytest.raises(Stopped, match=r"seed0 is stopped; the same command \(`fit`: with --resume\) continues"):
        run(tmp_path, SMALL, draws=1)
    assert run_folder(SMALL, tmp_path).finished is (window in LATE)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("window", "how"),
    [
        ("Lightning has taken no signal yet", raised),
        ("a step is taken", raised),
        ("a step is taken", replaced),
        pytest.param("the test images are evaluated", raised, marks=pytest.mark.long),
        pytest.param("the test images are evaluated", replaced, marks=pytest.mark.long),
    ],
)
def test_a_ctrl_c_that_is_raised_or_becomes_another_error_stops_the_run(window, how, monkeypatch, tmp_path, handler):
    signal_in(monkeypatch, window, how)
    with pytest.raises(Stopped) as stop:
        run(tmp_path, SMALL, draws=1)
    assert stop.value.status == 130
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_run_whose_ctrl_c_was_dropped_stops_at_that_step_and_saves_it(monkeypatch, tmp_path):
    steps, step = [], ClassifierModule.training_step

    def training_step(self, *arguments):
        steps.append(self.global_step)
        if self.global_step == 4:
            dropped(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)
    with pytest.raises(Stopped):
        run(tmp_path, SMALL)
    assert steps == [0, 1, 2, 3, 4]
    assert torch.load(run_folder(SMALL, tmp_path).checkpoint, weights_only=True)["global_step"] == 5


def test_a_sigterm_that_python_drops_stops_the_run(monkeypatch, tmp_path):
    signal_in(monkeypatch, "the test images are evaluated", dropped, signal.SIGTERM)
    with pytest.raises(Preempted, match="is stopped by SIGTERM"):
        run(tmp_path, SMALL, draws=1)


@pytest.mark.parametrize("others", [signal.SIG_IGN, lambda number, frame: exec("raise KeyboardInterrupt")])
def test_a_sigint_that_is_ignored_or_somebody_elses_is_left_alone(others, monkeypatch, tmp_path):
    """The same signals as above, which then stop nothing."""
    signal.signal(signal.SIGINT, others)
    signal_in(monkeypatch, "a step is taken", dropped)
    assert run(tmp_path, SMALL, draws=1).finished
    assert signal.getsignal(signal.SIGINT) is others


@pytest.mark.parametrize("how", [raised, dropped, replaced])
def test_a_command_ends_with_130(how, monkeypatch, capsys):
    monkeypatch.setattr(partialsym.cli.main, "_dispatch", lambda args: how(signal.SIGINT) or 0)
    assert partialsym.cli.main.main(["check", "nowhere"]) == 130
    assert capsys.readouterr().err == "partialsym: stopped.\n"


def test_a_ctrl_c_that_was_dropped_before_a_run_stops_it_at_its_start():
    begun = []

    def train():
        dropped(signal.SIGINT)
        with Preemption("it"):
            begun.append(True)

    with pytest.raises(Stopped, match="it is stopped"), Interruption():
        train()
    assert not begun
