"""Signals, failing disks, two processes: a run goes on where it was, and ends with the same weights, bit for bit."""

import errno
import os
import shutil
import signal
import sys
from dataclasses import replace
from subprocess import PIPE, Popen

import pytest
import torch
import yaml
from faults import APART, SMALL, SYNC_FOLDER, Faults
from helpers import few
from made_folder import flat
from sent import send
from training import run, same, weights

from partialsym._utils.atomic import leftovers, replace_file
from partialsym._utils.signals import GO_ON, Preempted
from partialsym.cli.main import main
from partialsym.config import ConfigError, DataConfig, TrainingConfig
from partialsym.runs.lock import in_use, locked
from partialsym.runs.verify import examine
from partialsym.training.fit import run_folder
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    return run(tmp_path_factory.mktemp("whole"), SMALL)


def stopped(tmp_path, monkeypatch, number=signal.SIGTERM, hook="training_step", step=3, config=SMALL):
    """The checkpoint of a run that a signal has stopped."""
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        send(patch, number, hook, step)
        with pytest.raises(Preempted, match=f"by {signal.Signals(number).name}; the same command"):
            run(tmp_path, config)
    assert signal.getsignal(number) == before
    held = run_folder(config, tmp_path)
    assert not held.finished
    return torch.load(held.checkpoint, weights_only=True)


@pytest.mark.parametrize(
    ("number", "hook", "step", "saved"),
    [
        (signal.SIGTERM, "training_step", 0, 1),  # a step is finished, then all is saved
        pytest.param(signal.SIGUSR1, "training_step", 8, 9, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "training_step", 5, 6, marks=pytest.mark.long),  # the last of the epoch
        pytest.param(signal.SIGUSR1, "validation_step", 6, 6, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "on_save_checkpoint", 6, 6, marks=pytest.mark.long),
    ],
)
def test_a_signal_saves_the_step_it_comes_in(tmp_path, monkeypatch, whole, number, hook, step, saved):
    assert stopped(tmp_path, monkeypatch, number, hook, step)["global_step"] == saved
    resumed = run(tmp_path, SMALL, resume=True)
    assert same(weights(whole), weights(resumed))
    assert whole.history() == resumed.history()
    assert {**whole.result(), **dict.fromkeys(APART)} == {**resumed.result(), **dict.fromkeys(APART)}
    assert examine(resumed).faults == []


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    """The folder of a run that was stopped in its fourth step."""
    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        stopped(out, patch)
    return out


@pytest.fixture
def halted(stopped_once, tmp_path):
    """A copy of it, in `tmp_path`."""
    shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)
    return run_folder(SMALL, tmp_path)


def as_options(tmp_path, config=SMALL):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return ["--config", str(tmp_path / "small.yaml"), "--out", str(tmp_path), "--resume"]


def forget_generators(patch):
    patch.setattr("partialsym.training.module.set_random_state", lambda state: None)


def forget_position(patch):
    patch.setattr(
        "partialsym.training.dataloaders.ResumableBatchSampler.__iter__",
        lambda self: super(type(self), self).__iter__(),
    )


def forget_moments(patch):
    patch.setattr(torch.optim.Adam, "load_state_dict", lambda self, state: None)


def forget_metrics(patch):
    inner = ClassifierModule.on_train_start
    patch.setattr(ClassifierModule, "on_train_start", lambda self: (self.train_loss.reset(), inner(self)))


@pytest.mark.parametrize(
    "forget",
    few([forget_generators, forget_position, forget_moments, forget_metrics], forget_generators, forget_metrics),
)
def test_a_resume_that_forgets_something_is_noticed(tmp_path, monkeypatch, whole, halted, forget):
    forget(monkeypatch)
    resumed = run(tmp_path, SMALL, resume=True)
    assert same(weights(whole), weights(resumed)) == (forget is forget_metrics)
    assert whole.history() != resumed.history()


@pytest.mark.long
def test_the_command_line_exits_with_75_and_goes_on_with_one_command(tmp_path, monkeypatch, capsys, whole):
    args = ["fit", *as_options(tmp_path)]
    with monkeypatch.context() as patch:
        send(patch, signal.SIGUSR1, "training_step", 7)
        assert main(args) == 75
    error = capsys.readouterr().err
    assert error.endswith(f"small/seed0 is stopped by SIGUSR1; {GO_ON} where it was.\n")
    assert main(args) == 0
    assert same(weights(whole), weights(run_folder(SMALL, tmp_path)))


def test_a_replaced_file_is_the_old_or_the_new_one_at_every_fault(tmp_path):
    path = tmp_path / "file"
    with pytest.MonkeyPatch.context() as patch:
        counted = Faults(patch)
        replace_file(path, lambda temporary: temporary.write_bytes(b"old!"))
    assert counted.steps == ["create", "write", "fsync", "rename", SYNC_FOLDER]
    for at, step in enumerate(counted.steps[:-1]):
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, at)
            with pytest.raises(OSError, match="No space"):
                replace_file(path, lambda temporary: temporary.write_bytes(b"new!"))
        assert path.read_bytes() == b"old!", step
        assert list(tmp_path.iterdir()) == [path], step
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, 4)  # some file systems cannot do that one
        replace_file(path, lambda temporary: temporary.write_bytes(b"new!"))
    assert path.read_bytes() == b"new!"


def test_what_a_killed_process_left_is_no_obstacle_and_is_cleared_away(tmp_path, whole):
    folder = run_folder(SMALL, tmp_path).folder
    folder.mkdir(parents=True)
    for name in (".lock", ".config.yaml.x1.tmp"):  # it died before its first file
        (folder / name).write_text("na")
    assert len(leftovers(folder)) == 1
    assert same(weights(whole), weights(run(tmp_path, SMALL)))
    assert leftovers(folder) == []


def test_a_second_process_on_a_folder_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    code = "import sys, pathlib\nfrom partialsym.runs.lock import locked\nwith locked(pathlib.Path(sys.argv[1])):"
    code += "\n    print('held', flush=True)\n    sys.stdin.read()"
    folder = run_folder(SMALL, tmp_path).folder
    holder = Popen([sys.executable, "-c", code, str(folder)], stdin=PIPE, stdout=PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"seed0 is in use by process {holder.pid} on .*: wait for it"):
            run(tmp_path, SMALL, resume=True)
        assert [file.name for file in folder.iterdir()] == [".lock"]
        assert (folder / ".lock").read_bytes()[1:].startswith(b"process ")  # byte 0 is unreadable on Windows
        assert in_use(folder)
    finally:
        holder.kill()
        holder.communicate()
    assert not in_use(folder)
    with locked(folder), pytest.raises(ConfigError, match=f"in use by process {os.getpid()} on "), locked(folder):
        pass
    assert not in_use(folder)


def test_where_files_cannot_be_locked_a_warning_says_so(tmp_path, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("partialsym.runs.lock.lock_descriptor", refuse)
    with caplog.at_level("WARNING"), locked(tmp_path):
        pass
    assert "files cannot be locked here ([Errno 37] No locks available): make sure that no other process" in caplog.text


@pytest.mark.long
def test_data_that_vanished_are_named_and_the_checkpoint_is_kept(tmp_path, monkeypatch, capsys):
    root = flat(tmp_path / "images", a=20, b=20)
    data = DataConfig(source="folder", root=str(root), size=28, channels=1, validation=0.2)
    config = replace(SMALL, data=data, training=TrainingConfig(1, batch_size=8))
    stopped(tmp_path, monkeypatch, step=0, config=config)
    before = (checkpoint := run_folder(SMALL, tmp_path).checkpoint).read_bytes()
    root.rename(tmp_path / "elsewhere")
    args = ["fit", *as_options(tmp_path, config)]
    assert main(args) == 1
    assert str(root) in capsys.readouterr().err.splitlines()[-1]
    assert checkpoint.read_bytes() == before
    assert main([*args, "--data.root", str(tmp_path / "elsewhere")]) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys, halted):
    checkpoint = halted.checkpoint
    before = checkpoint.read_bytes()

    def read_only():
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(checkpoint.parent))

    args = ["fit", *as_options(tmp_path)]
    Faults(monkeypatch, 0, read_only)
    assert main(args) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("checkpoints: Read-only file system")
    assert checkpoint.read_bytes() == before


@pytest.mark.long
def test_the_best_epoch_is_known_in_a_folder_that_was_moved(tmp_path, monkeypatch):
    """The best epoch lies before the stop; later ones are worse, and may not replace it."""
    config = replace(SMALL, training=replace(SMALL.training, select="best"))
    forced = {1: 0.9, 2: 0.7}
    inner = ClassifierModule.log
    monkeypatch.setattr(
        ClassifierModule,
        "log",
        lambda self, name, value, **options: inner(
            self, name, forced[self.current_epoch + 1] if name == "validation_accuracy" else value, **options
        ),
    )
    stopped(tmp_path / "a", monkeypatch, step=7, config=config)
    (tmp_path / "a").rename(tmp_path / "b")
    resumed = run(tmp_path / "b", config, resume=True)
    saved = torch.load(resumed.folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == 0
    assert torch.equal(saved["state_dict"]["model.classifier.weight"], weights(resumed)["classifier.weight"])


def test_a_damaged_checkpoint_is_named(tmp_path, halted):
    path = halted.checkpoint
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\x80\x02K\x01."):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
            run(tmp_path, SMALL, resume=True)
    path.write_bytes(whole)
    saved = torch.load(path, weights_only=True)
    saved["partialsym"]["format"] = 2
    torch.save(saved, path)
    with pytest.raises(ValueError, match=r"last\.ckpt has format version 2: this version reads 1"):
        run(tmp_path, SMALL, resume=True)
