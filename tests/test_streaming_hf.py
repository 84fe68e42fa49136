"""Hugging Face data sets that are read as they come: each process its share, each image once an epoch."""

import zipfile
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from made_folder import png, refused

from partialsym.config import ConfigError, DataConfig
from partialsym.data import batched
from partialsym.data import streams as module
from partialsym.data.hf import hf
from partialsym.data.streams import Passes
from partialsym.evaluation import imbalance
from partialsym.loading import loaders
from partialsym.measure import Preprocessing

PREPROCESS = Preprocessing((0.5,), (0.25,))


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # read when the library is first imported
    datasets = pytest.importorskip("datasets", reason="needs the extra `hf`")
    datasets.disable_progress_bars()
    return datasets


def rows(library, count, start=0, contents=None, labels=None):
    """Grey images of 4 × 5 pixels by number, with that number in their path."""
    features = library.Features({"picture": library.Image(), "kind": library.ClassLabel(names=["a", "b"])})
    contents = [png(start + i, mode="L") for i in range(count)] if contents is None else contents
    pictures = [{"bytes": content, "path": f"{start + i}.png"} for i, content in enumerate(contents)]
    labels = [i % 2 for i in range(count)] if labels is None else labels
    return library.Dataset.from_dict({"picture": pictures, "kind": labels}, features=features)


def saved(library, place, train, **changes):
    """On disk, with six images each for validation and test."""
    parts = {"train": train, "validation": rows(library, 6, 8000), "test": rows(library, 6, 9000), **changes}
    library.DatasetDict({which: part for which, part in parts.items() if part is not None}).save_to_disk(place)
    return str(place)


@pytest.fixture
def hub(library, tmp_path, monkeypatch):
    """A data set in shards of these sizes, as `load_dataset` streams it; `known`: as many training images, it says."""

    load_dataset = library.load_dataset

    def serve(*sizes, known=None, change=lambda split: split):
        for which, count, start in (("test", 6, 9000), ("validation", 6, 8000)):
            rows(library, count, start).to_parquet(tmp_path / f"{which}.parquet")
        start = 0
        for k, size in enumerate(sizes):
            rows(library, size, start).to_parquet(tmp_path / f"train-{k}.parquet")
            start += size
        files = {"train": [str(tmp_path / f"train-{k}.parquet") for k in range(len(sizes))]}
        files |= {which: str(tmp_path / f"{which}.parquet") for which in ("validation", "test")}
        real = load_dataset("parquet", data_files=files, streaming=True)
        if known is not None:
            real["train"].info.splits = library.SplitDict()
            real["train"].info.splits.add(library.SplitInfo("train", num_examples=known))
        loaded = library.IterableDatasetDict({which: change(split) for which, split in real.items()})

        def load(name, config, *, cache_dir, streaming):
            assert streaming
            return loaded

        monkeypatch.setattr(library, "load_dataset", load)

    return serve


def passes(data, batch_size, processes=1, epoch=0, seed=0, repeats=1):
    """The images in each batch of every process, by number."""
    found = []
    for rank in range(processes):
        order = Passes(data.trained_on, batch_size, seed, repeats, rank, processes)
        order.set_epoch(epoch)
        batches = [[numbered(picture) for picture in batch] for batch in order]
        assert len(batches) == len(order)
        found.append(batches)
    return found


def numbered(picture):
    return next(i for i in range(1000) if png(i, mode="L") == picture.source)


def flat(batches):
    return [i for batch in batches for i in batch]


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("count", [64, 61])
def test_each_process_has_shards_of_its_own_and_no_image_comes_twice(library, tmp_path, count, processes):
    data = hf(saved(library, tmp_path / "x", rows(library, count)), stream=True)
    seen = passes(data, 8, processes)
    assert [list(map(len, batches)) for batches in seen] == [[8 // processes] * (count // 8)] * processes
    everything = [i for batches in seen for i in flat(batches)]
    assert len(set(everything)) == len(everything) == count // 8 * 8
    sizes = [count // 8 + (k < count % 8) for k in range(8)]
    shard = np.repeat(np.arange(8), sizes)
    owners = [set(shard[flat(batches)].tolist()) for batches in seen]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 8


def test_without_a_share_for_each_process_images_come_twice(library, tmp_path, monkeypatch):
    data = hf(saved(library, tmp_path / "x", rows(library, 64)), stream=True)
    monkeypatch.setattr("datasets.distributed.split_dataset_by_node", lambda split, rank, processes: split)
    assert max(Counter(i for batches in passes(data, 8, 2) for i in flat(batches)).values()) == 2


def test_an_order_depends_on_seed_and_epoch(library, tmp_path):
    data = hf(saved(library, tmp_path / "x", rows(library, 24)), stream=True)
    first = passes(data, 4)
    assert first == passes(data, 4)
    orders = [passes(data, 4), passes(data, 4, epoch=1), passes(data, 4, epoch=2), passes(data, 4, seed=1)]
    assert all(sorted(flat(order[0])) == list(range(24)) for order in orders)
    assert len({tuple(flat(order[0])) for order in orders}) == 4
    assert flat(orders[0][0]) != list(range(24))
    twice = flat(passes(data, 4, repeats=2, epoch=1)[0])
    assert sorted(twice[:24]) == sorted(twice[24:]) == list(range(24))
    assert twice[:24] != twice[24:]


def test_what_an_epoch_has_had_is_left_out_once(library, tmp_path):
    data = hf(saved(library, tmp_path / "x", rows(library, 24)), stream=True)
    order = Passes(data.trained_on, 4, seed=0)
    order.set_epoch(3)
    whole = list(order)
    order.skip = 4
    assert list(order) == whole[4:]
    assert list(order) == whole


def test_the_hub_is_streamed_by_its_files(hub, library):
    hub(16, 16, 16, 16, known=64)
    data = hf("owner/name", stream=True)
    seen = passes(data, 8, 2)
    assert sorted(flat(seen[0]) + flat(seen[1])) == list(range(64))
    files = [{i // 16 for i in flat(batches)} for batches in seen]
    assert [len(own) for own in files] == [2, 2]
    thirds = passes(data, 6, 3)  # no share of four files is as large as another: each third image
    everything = [i for batches in thirds for i in flat(batches)]
    assert len(set(everything)) == len(everything) == 60


def test_processes_have_equally_many_batches_of_files_of_different_sizes(hub, library):
    hub(4, 20, known=24)
    seen = passes(hf("owner/name", stream=True), 8, 2)
    assert [len(batches) for batches in seen] == [3, 3]
    short = min(seen, key=lambda batches: len(set(flat(batches))))
    assert Counter(flat(short)) == dict.fromkeys(range(4), 3)  # begun again


def test_a_stream_without_a_length_or_other_splits_is_refused(hub, library, tmp_path):
    hub(16)
    with refused("owner/name does not say how many training images it has"):
        hf("owner/name", stream=True)
    one = saved(library, tmp_path / "x", rows(library, 16), validation=None)
    with refused("has no validation images: a stream is not divided"):
        hf(one, stream=True)
    rows(library, 16).save_to_disk(tmp_path / "y")
    with refused("has no validation and no test images"):
        hf(str(tmp_path / "y"), stream=True)


def test_what_is_known_beforehand_is_of_the_first_images(library, tmp_path, monkeypatch):
    place = saved(library, tmp_path / "x", rows(library, 40, labels=[0] * 39 + [1]))
    monkeypatch.setattr(module, "HEAD", 12)
    data, whole = hf(place, stream=True), hf(place)
    assert (len(data.train), len(data.trained_on), len(whole.trained_on)) == (12, 40, 40)
    pictures = {tuple(image.flatten().tolist()) for image in whole.train.images}
    some = {tuple(image.flatten().tolist()) for image in data.train.images}
    assert some < pictures
    assert some != {tuple(image.flatten().tolist()) for image in whole.train.images[:12]}  # the first of a shuffled one
    assert torch.equal(data.test.images, whole.test.images)
    assert torch.equal(data.validation.images, whole.validation.images)
    assert imbalance(data)["train"]["images"].keys() == {"a", "b"}
    with refused("x is streamed: 5 of its training images cannot be chosen"):
        data.with_train(5, 0)
    with pytest.raises(ConfigError, match=r"data.train_images is 5: must be left out"):
        DataConfig(place, "hf", stream=True, train_images=5)


def batches_of(data, batch_size=4, epoch=0):
    one = batched(data.trained_on, PREPROCESS), batched(data.validation, PREPROCESS)
    loader, _ = loaders(*one, batch_size, seed=0)
    loader.sampler.set_epoch(epoch)
    return list(loader)


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


def test_decoding_threads_of_a_stream_change_no_byte(hub, library):
    hub(12, known=12)
    plain = passes(hf("owner/name", stream=True), 4)
    hub(12, known=12, change=lambda split: split.decode(num_threads=2))
    assert passes(hf("owner/name", stream=True), 4) == plain


@pytest.mark.parametrize("workers", [0, 2])
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


def test_images_behind_urls_are_fetched_where_they_are_decoded(library, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i in range(12):
            archive.writestr(f"{i}.png", png(i, mode="L"))
    features = rows(library, 1).features
    paths = [f"zip://{i}.png::{tmp_path / 'images.zip'}" for i in range(12)]
    behind = {"picture": [{"bytes": None, "path": path} for path in paths], "kind": [0, 1] * 6}
    place = saved(library, tmp_path / "x", library.Dataset.from_dict(behind, features=features))
    found = torch.cat([images for images, _ in batches_of(hf(place, stream=True, workers=2))])
    inside = saved(library, tmp_path / "y", rows(library, 12))
    assert torch.equal(found, torch.cat([images for images, _ in batches_of(hf(inside, stream=True))]))
    data = hf(place, stream=True, workers=2)
    (tmp_path / "images.zip").unlink()
    with refused("image 0 of pass 1 (zip://", "cannot be fetched"):
        batches_of(data)


def test_what_the_library_raises_within_a_stream_is_one_line(library, tmp_path, monkeypatch):
    data = hf(saved(library, tmp_path / "x", rows(library, 24)), stream=True)
    order = Passes(data.trained_on, 4, seed=0)

    def broken(rows=order.rows.split):
        yield from islice(rows, 5)
        raise RuntimeError("shard is\nbroken")

    class Broken:
        set_epoch = staticmethod(lambda epoch: None)
        __iter__ = staticmethod(broken)

    order.rows = order.rows._replace(split=Broken())
    with refused("image 5 of pass 1 cannot be read: shard is broken"):
        list(order)
