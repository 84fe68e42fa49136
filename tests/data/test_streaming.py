"""Folders whose images stay in their files: the same data sets, the same training, bit for bit."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
import torch
import waiting
import yaml
from faults import APART, SMALL
from helpers import few, few_angles
from made_folder import SPLITS, flat, png, refused, three, write
from sent import send
from training import run, same, weights

from partialsym._utils.signals import Preempted
from partialsym.cli.main import main
from partialsym.config import ConfigError, DataConfig
from partialsym.data import Preprocessing, batched
from partialsym.data.reading.lazy import LazyImages
from partialsym.data.sources.folder import folder
from partialsym.training.behaviour import measured
from partialsym.training.dataloaders import loaders
from partialsym.training.fit import run_folder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PREPROCESS = Preprocessing((0.5,) * 3, (0.25,) * 3)


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch):
    monkeypatch.setattr("partialsym.data.sources.build.SOME", 4)  # so that workers have something to do


def twins(root):
    copies = {f"{name}/copy{i}-{k}.png": 5000 + i for name in "a" for i in range(4) for k in "xyz"}
    return write(flat(root, a=9, b=12), copies)


def mixed(root):
    grey = {f"{name}/grey{i}.png": png(100 + i + 50 * (name == "b"), mode="L") for name in "ab" for i in range(5)}
    return write(flat(root, a=7, b=3), {**grey, "a/wide.png": png(1, (4, 9)), "b/high.png": png(2, (9, 5), "L")})


LAYOUTS = {
    "flat": (lambda root: flat(root, big=70, small=6), {}),
    "splits": (lambda root: three(root, (8, 4, 2)), {}),
    "no validation": (lambda root: three(root, (8, 3), ("train", "test")), {"validation": 0.3}),
    "no test": (lambda root: three(root, (8, 3), ("train", "val")), {"test": 0.5, "split_seed": 3}),
    "twins": (twins, {"test": 0.4, "validation": 0.4, "split_seed": 1}),
    "mixed": (mixed, {"size": (6, 6), "fit": "crop"}),
    "grey": (mixed, {"size": (6, 6), "channels": 1}),
}


@pytest.mark.parametrize(
    ("layout", "workers"),
    few(list(product(LAYOUTS, (0, 2))), *((layout, 0) for layout in LAYOUTS), ("mixed", 2)),
)
def test_a_folder_in_its_files_is_the_data_set_in_memory(tmp_path, layout, workers):
    make, options = LAYOUTS[layout]
    expected = folder(make(tmp_path), **options)
    found = folder(tmp_path, **options, stream=True, workers=workers)
    assert (found.name, found.classes, found.size, found.channels) == (
        expected.name,
        expected.classes,
        expected.size,
        expected.channels,
    )
    assert (found.mean, found.std) == (expected.mean, expected.std)
    for which in SPLITS:
        ours, theirs = getattr(found, which), getattr(expected, which)
        assert isinstance(ours.images, LazyImages)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.originals, theirs.originals)
        assert torch.equal(torch.cat(list(ours.images.split(5))), theirs.images)
    fewer, expected = found.with_train(4, seed=2).train, expected.with_train(4, seed=2).train
    assert torch.equal(fewer.images.to("cpu"), expected.images)


BAD = {
    "files": {"a/empty.png": b"", "a/notes.txt": b"x", "b/cut.png": png(0)[:60], "b/sub/x.png": 1},
    "a size": {"b/high.png": png(2, (8, 5))},
    "a class": {"train/a/1.png": 1, "train/b/1.png": 2, "train/c/1.png": 3, "val/a/1.png": 4},
    "few": {"c/1.png": 7777},
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_refused_in_memory_is_refused_in_the_same_words(tmp_path, bad):
    write(flat(tmp_path, a=3, b=3), BAD[bad])
    messages = set()
    for options in ({}, {"stream": True, "workers": 0}, {"stream": True, "workers": 2}):
        with pytest.raises(ValueError, match=r"must have|bad file|sizes") as error:
            folder(tmp_path, **options)
        messages.add(str(error.value))
    assert len(messages) == 1


def test_images_in_files_are_indexed_as_a_tensor(tmp_path):
    images = folder(three(tmp_path, (9, 1, 1))).train.images
    lazy = folder(tmp_path, stream=True, workers=0).train.images
    assert (lazy.shape, lazy.dtype, lazy.ndim, len(lazy), lazy.numel()) == (images.shape, torch.uint8, 4, 18, 18 * 60)
    order = torch.tensor([4, 0, 4, -1])
    for index in (slice(3, 9), slice(None, None, 7), order, images.flatten(1).sum(1) % 2 == 0):
        assert torch.equal(lazy[index].to(torch.float32), images[index].float())
    assert torch.equal(lazy[order][1:][torch.tensor([2])].to("cpu"), images[[-1]])
    assert torch.equal(torch.stack(list(lazy)), images)
    assert torch.equal(lazy[3], images[3])
    with pytest.raises(IndexError):
        lazy[18]


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_are_not_what_they_were_are_named_in_a_line(tmp_path, workers):
    data = folder(three(tmp_path, (6, 1, 1)), stream=True, workers=workers)
    changes = {"is empty": b"", "is [3, 8, 8] [C, H, W]: it must be [3, 4, 5]": png(1, (8, 8)), "does not exist": None}
    path = tmp_path / "train" / "b" / "3.png"
    for reason, content in changes.items():
        path.unlink() if content is None else path.write_bytes(content)
        some = data.train[torch.tensor([0, 9, 1])]
        loader, _ = loaders(*[batched(split, PREPROCESS) for split in (some, data.validation)], 1, seed=0)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            list(loader)
        assert str(error.value).startswith(f"{path} ")
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


def test_reading_draws_nothing_and_follows_an_epoch_that_is_set_before_its_first_batch(tmp_path):
    data = folder(three(tmp_path, (9, 1, 1)), stream=True)
    both = [batched(split, PREPROCESS) for split in (data.train, data.validation)]
    loader, _ = loaders(*both, 4, seed=0)
    state = torch.get_rng_state(), random.getstate()
    begun = iter(loader)
    loader.sampler.set_epoch(2)
    loader.sampler.skip = 1
    found = torch.cat([images for images, _ in begun])
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    memory, _ = loaders(*[batched(s, PREPROCESS) for s in (folder(tmp_path).train, data.validation)], 4, seed=0)
    memory.sampler.set_epoch(2)
    assert torch.equal(found, torch.cat([images for images, _ in memory])[4:])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """An experiment on a folder, in memory: 4 steps an epoch, all of whose draws matter."""
    root = flat(tmp_path_factory.mktemp("images"), a=30, b=22)
    data = DataConfig(source="folder", root=str(root), size=28, augment=("crop", "flip"), validation=0.2)
    return replace(SMALL, data=data, training=replace(SMALL.training, batch_size=8))


def streamed(config, workers=2, **changes):
    return replace(config, data=replace(config.data, stream=True, workers=workers, **changes))


@pytest.fixture(scope="module")
def memory(config, tmp_path_factory):
    return run(tmp_path_factory.mktemp("memory"), config)


def assert_equal(found, expected):
    assert same(weights(found), weights(expected))
    assert found.history() == expected.history()
    apart = dict.fromkeys((*APART, "config"))
    assert {**found.result(), **apart} == {**expected.result(), **apart}


@pytest.mark.long
@pytest.mark.parametrize("workers", few([0, 2], 2))
def test_training_from_files_is_training_in_memory_bit_for_bit(tmp_path, config, memory, workers, monkeypatch):
    found = run(tmp_path, streamed(config, workers))
    assert_equal(found, memory)
    trained = found.model(), memory.model()
    root, options = config.data.root, {"size": (28, 28), "validation": 0.2}
    tests = folder(root, **options, stream=True, workers=workers).test, folder(root, **options).test
    few_angles(monkeypatch)
    found, expected = (measured(model, test) for model, test in zip(trained, tests, strict=True))
    assert found.pop("image_seconds") > 0
    assert found == {key: value for key, value in expected.items() if key != "image_seconds"}


@pytest.mark.long
def test_another_order_would_be_noticed(tmp_path, config, memory, monkeypatch):
    monkeypatch.setattr(
        "partialsym.training.dataloaders.ResumableBatchSampler.__iter__",
        lambda self: iter(list(super(type(self), self).__iter__())[::-1]),
    )
    with pytest.raises(AssertionError):
        assert_equal(run(tmp_path, streamed(config, workers=0)), memory)


@pytest.mark.long
def test_a_stopped_run_goes_on_with_other_workers_bit_for_bit(tmp_path, config, memory, monkeypatch):
    with monkeypatch.context() as patch:
        send(patch, signal.SIGTERM, "training_step", 5)
        with pytest.raises(Preempted):
            run(tmp_path, streamed(config))
    held = torch.load(run_folder(config, tmp_path).checkpoint, weights_only=True)
    assert held["global_step"] == 6
    with pytest.raises(ConfigError, match=r"data\.stream = True, but this run has False"):
        run(tmp_path, config, resume=True)
    assert_equal(run(tmp_path, streamed(config, workers=1), resume=True), memory)


def command(tmp_path, config, deaf=True):
    """Of a process that waits in its second epoch, and its environment."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    arguments = ["fit", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path), "--progress", "false"]
    change = "" if deaf else "from partialsym.data.reading import loader; loader.SIGNALS = (); "
    code = f"import sys, waiting; {change}from partialsym.cli.main import main; waiting.wait_at({str(tmp_path)!r}, 1)"
    return [sys.executable, "-c", f"{code}; sys.exit(main({arguments!r}))"], waiting.environment()


@pytest.mark.long
@pytest.mark.parametrize("deaf", [True, False])
def test_a_signal_to_all_processes_of_a_run_saves_its_step_if_workers_leave_it_to_their_parent(tmp_path, config, deaf):
    code, environment = command(tmp_path, streamed(config), deaf)
    process = subprocess.Popen(code, stderr=subprocess.PIPE, start_new_session=True, env=environment)
    waiting.arrived(tmp_path, [process])
    os.killpg(process.pid, signal.SIGTERM)
    waiting.let_go(tmp_path)
    _, error = process.communicate(timeout=waiting.HANG)
    assert (process.returncode == 75) == deaf, error
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(process.pid, 0)


def test_settings_are_for_own_images(config, capsys):
    options = ["--data", "folder", "--data.root", config.data.root, "--data.stream", "true", "--data.workers", "0"]
    with pytest.raises(SystemExit):
        main(["fit", "--name", "x", *options, "--print_config"])
    assert "  stream: true\n  workers: 0\n" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"data\.stream is True: must be left out: it is for own images"):
        DataConfig(stream=True)
    with pytest.raises(ConfigError, match=r"data\.workers is -1: must be at least 0"):
        DataConfig(source="folder", root="x", stream=True, workers=-1)


def test_a_bad_file_is_found_before_training(tmp_path, config):
    root = write(flat(tmp_path / "images", a=20, b=20), {"a/bad.png": b""})
    with refused("1 bad file", "a/bad.png is empty"):
        run(tmp_path, streamed(config, root=str(root)))
    assert not run_folder(config, tmp_path).folder.exists()
