"""Hugging Face data sets that are read as they come: each process its share, each image once an epoch."""

from collections import Counter

import numpy as np
import pytest
from helpers import few
from made_folder import refused
from made_streams import flat, known, others, passes, rows, saved

from partialsym.data import trained_on
from partialsym.data.batches.streaming import StreamBatchSampler
from partialsym.data.sources.hf import hf


@pytest.fixture
def hub(library, tmp_path, monkeypatch):
    """A data set in shards of these sizes, as `load_dataset` streams it; `count`: as many training images, it says."""

    load_dataset = library.load_dataset
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # after each pass; else five seconds

    def serve(*sizes, count=None, change=lambda split: split):
        for which, part in others(library).items():
            part.to_parquet(tmp_path / f"{which}.parquet")
        start = 0
        for k, size in enumerate(sizes):
            rows(library, size, start).to_parquet(tmp_path / f"train-{k}.parquet")
            start += size
        files = {"train": [str(tmp_path / f"train-{k}.parquet") for k in range(len(sizes))]}
        files |= {which: str(tmp_path / f"{which}.parquet") for which in ("validation", "test")}
        real = load_dataset("parquet", data_files=files, streaming=True)
        if count is not None:
            known(library, real["train"], count)
        loaded = library.IterableDatasetDict({which: change(split) for which, split in real.items()})

        def load(name, config, *, cache_dir, streaming):
            assert streaming
            return loaded

        monkeypatch.setattr(library, "load_dataset", load)

    return serve


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("count", few([64, 61], 61))
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
    order = StreamBatchSampler(trained_on(data), 4, seed=0)
    order.set_epoch(3)
    whole = list(order)
    order.skip = 4
    assert list(order) == whole[4:]
    assert list(order) == whole


def test_the_hub_is_streamed_by_its_files(hub, library):
    hub(16, 16, 16, 16, count=64)
    data = hf("owner/name", stream=True)
    seen = passes(data, 8, 2)
    assert sorted(flat(seen[0]) + flat(seen[1])) == list(range(64))
    files = [{i // 16 for i in flat(batches)} for batches in seen]
    assert [len(own) for own in files] == [2, 2]
    thirds = passes(data, 6, 3)  # no share of four files is as large as another: each third image
    everything = [i for batches in thirds for i in flat(batches)]
    assert len(set(everything)) == len(everything) == 60


def test_processes_have_equally_many_batches_of_files_of_different_sizes(hub, library):
    hub(4, 20, count=24)
    seen = passes(hf("owner/name", stream=True), 8, 2)
    assert [len(batches) for batches in seen] == [3, 3]
    short = min(seen, key=lambda batches: len(set(flat(batches))))
    assert Counter(flat(short)) == dict.fromkeys(range(4), 3)  # begun again


def test_a_stream_without_a_length_or_other_splits_is_refused(hub, library, tmp_path):
    hub(16)
    with refused("owner/name does not say how many training images it has"):
        hf("owner/name", stream=True)
    hub(16, count=16, change=lambda split: library.IterableDataset.from_generator(lambda: iter(split)))
    with refused("owner/name: 0 columns of type Image"):
        hf("owner/name", stream=True)
    one = saved(library, tmp_path / "x", rows(library, 16), validation=None)
    with refused("has no validation images: a stream cannot be split"):
        hf(one, stream=True)
    rows(library, 16).save_to_disk(tmp_path / "y")
    with refused("has no validation and no test images"):
        hf(str(tmp_path / "y"), stream=True)


def test_decoding_threads_of_a_stream_change_no_byte(hub, library):
    hub(12, count=12)
    plain = passes(hf("owner/name", stream=True), 4)
    hub(12, count=12, change=lambda split: split.decode(num_threads=2))
    assert passes(hf("owner/name", stream=True), 4) == plain
