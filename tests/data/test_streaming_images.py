"""What is read of streamed Hugging Face data sets: pixels, errors, a training that goes on where it was."""

import shutil
import signal
import zipfile
from dataclasses import replace
from itertools import islice

import pytest
import torch
from faults import APART, SMALL
from helpers import few
from made_folder import png, refused
from made_streams import PREPROCESS, batches_of, flat, known, others, passes, rows, saved
from sent import send
from training import run, same, weights

from partialsym._utils.signals import Preempted
from partialsym.ask import ask
from partialsym.config import ConfigError, DataConfig
from partialsym.data import trained_on
from partialsym.data.batches import streaming as module
from partialsym.data.batches.streaming import StreamBatchSampler
from partialsym.data.sources.hf import hf
from partialsym.training.evaluation import imbalance

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_what_is_known_beforehand_is_of_the_first_images(library, tmp_path, monkeypatch):
    place = saved(library, tmp_path / "x", rows(library, 40, labels=[0] * 39 + [1]))
    monkeypatch.setattr(module, "HEAD", 12)
    data, whole = hf(place, stream=True), hf(place)
    assert (len(data.train), len(trained_on(data)), len(trained_on(whole))) == (12, 40, 40)
    pictures = {tuple(image.flatten().tolist()) for image in whole.train.images}
    some = {tuple(image.flatten().tolist()) for image in data.train.images}
    assert some < pictures
    assert some != {tuple(image.flatten().tolist()) for image in whole.train.images[:12]}  # the first of a shuffled one
    assert torch.equal(data.test.images, whole.test.images)
    assert torch.equal(data.validation.images, whole.validation.images)
    assert imbalance(data)["train"]["images"].keys() == {"a", "b"}
    with refused("x is streamed: 5 of its training images cannot be selected"):
        data.with_train(5, 0)
    with pytest.raises(ConfigError, match=r"data.train_images is 5: must be left out"):
        DataConfig(place, "hf", stream=True, train_images=5)


def test_batches_are_those_images_whatever_reads_them(library, tmp_path):
    place = saved(library, tmp_path / "x", rows(library, 24))
    whole = hf(place)
    order = flat(passes(hf(place, stream=True), 4)[0])
    state = torch.get_rng_state()
    for workers in (0, 1, 2):
        batches = batches_of(hf(place, stream=True, workers=workers))
        assert torch.equal(torch.cat([images for images, _ in batches]), PREPROCESS(whole.train.images[order]))
        assert torch.equal(torch.cat([labels for _, labels in batches]), whole.train.labels[order])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", few([0, 2], 0))
@pytest.mark.parametrize(
    ("content", "label", "reason"),
    [
        (b"no image", 0, "cannot be read as an image"),
        (png(1, (6, 6), "L"), 0, r"is [1, 6, 6] [C, H, W]: it must be [1, 4, 5]"),
        (png(1), 0, "is [3, 4, 5] [C, H, W]: it must be [1, 4, 5]"),
        (png(1, mode="L"), -1, "has no label"),
        (png(1, mode="L"), None, "has no label"),
    ],
    ids=["none", "larger", "coloured", "-1", "unlabelled"],
)
def test_a_bad_image_in_the_middle_is_named(library, tmp_path, monkeypatch, workers, content, label, reason):
    contents, labels = [png(i, mode="L") for i in range(24)], [0, 1] * 12
    contents[17], labels[17] = content, label
    place = saved(library, tmp_path / "x", rows(library, 24, contents=contents, labels=labels))
    monkeypatch.setattr(module, "HEAD", 3)
    data = hf(place, stream=True, workers=workers)
    with pytest.raises(ValueError, match=r"^image \d+ of pass 1 \(17\.png\) ") as error:
        batches_of(data)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_images_among_the_first_are_named_before_training(library, tmp_path):
    contents = [png(i, mode="L") for i in range(24)]
    contents[17] = contents[3] = b"no image"
    place = saved(library, tmp_path / "x", rows(library, 24, contents=contents))
    with refused("2 bad files", "of the stream (17.png) cannot be read as an image", "(3.png)"):
        hf(place, stream=True)


def test_images_behind_urls_are_fetched_where_they_are_decoded(library, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i in range(12):
            archive.writestr(f"{i}.png", png(i, mode="L"))
    paths = [f"zip://{i}.png::{tmp_path / 'images.zip'}" for i in range(12)]
    behind = rows(library, 12, contents=[None] * 12, paths=paths)
    parts = {which: part.to_iterable_dataset() for which, part in {"train": behind, **others(library)}.items()}
    known(library, parts["train"], 12)
    monkeypatch.setattr(library, "load_dataset", lambda *args, **options: library.IterableDatasetDict(parts))
    data = hf("owner/name", stream=True, workers=2)
    found = torch.cat([images for images, _ in batches_of(data)])
    inside = PREPROCESS(hf(saved(library, tmp_path / "x", rows(library, 12))).train.images)
    assert sorted(found.flatten(1).tolist()) == sorted(inside.flatten(1).tolist())
    with refused("12 bad files", "of the stream (zip:", "does not exist"):  # those of others lead nowhere
        hf(saved(library, tmp_path / "y", behind), stream=True)
    (tmp_path / "images.zip").unlink()
    with refused("image 0 of pass 1 (zip://", "cannot be fetched"):
        batches_of(data)


def test_what_the_library_raises_within_a_stream_is_one_line(library, tmp_path, monkeypatch):
    data = hf(saved(library, tmp_path / "x", rows(library, 24)), stream=True)
    order = StreamBatchSampler(trained_on(data), 4, seed=0)

    def broken(rows=order.rows.split):
        yield from islice(rows, 5)
        raise RuntimeError("shard is\nbroken")

    class Broken:
        set_epoch = staticmethod(lambda epoch: None)
        __iter__ = staticmethod(broken)

    order.rows = order.rows._replace(split=Broken())
    with refused("image 5 of pass 1 cannot be read: shard is broken"):
        list(order)


@pytest.mark.long
def test_training_on_a_stream_goes_on_where_it_was_whatever_reads_it(library, tmp_path, monkeypatch):
    parts = {which: rows(library, 10, start, size=(28, 28)) for which, start in (("validation", 800), ("test", 900))}
    place = saved(library, tmp_path / "x", rows(library, 50, size=(28, 28)), **parts)
    data = DataConfig(place, source="hf", stream=True, augment=("crop", "flip"))
    config = replace(SMALL, data=data, training=replace(SMALL.training, batch_size=8))
    whole = run(tmp_path / "whole", config)
    assert whole.result()["images"]["train"] == 50
    with monkeypatch.context() as patch:
        send(patch, signal.SIGTERM, "training_step", 8)
        with pytest.raises(Preempted):
            run(tmp_path / "cut", config)
    shutil.copytree(tmp_path / "cut", tmp_path / "lost")
    cut = run(tmp_path / "cut", replace(config, data=replace(data, workers=0)), resume=True)
    assert same(weights(whole), weights(cut))
    assert whole.history() == cut.history()
    apart = dict.fromkeys((*APART, "config"))
    assert {**whole.result(), **apart} == {**cut.result(), **apart}
    monkeypatch.setattr(StreamBatchSampler, "skip", property(lambda order: 0, lambda order, skip: None), raising=False)
    lost = run(tmp_path / "lost", replace(config, data=replace(data, workers=0)), resume=True)
    assert not same(weights(whole), weights(lost))
    with pytest.raises(ConfigError, match=r"data\.stream is True: must be false: a question needs all images"):
        ask(data, out=tmp_path / "ask")
