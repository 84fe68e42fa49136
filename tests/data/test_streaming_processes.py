"""Streamed images under several processes: each image once an epoch, as many batches in each process."""

import io
import json
import multiprocessing
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from faults import SMALL
from PIL import Image
from processes import ended, signal_the_second, start, together
from training import same, weights

from partialsym.config import DataConfig, TrainerConfig
from partialsym.data.batches.batching import _Batches
from partialsym.training.fit import run_folder
from partialsym.training.module import ClassifierModule

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
COUNT, BATCH, EPOCHS = 61, 8, 2
STEPS = COUNT // BATCH


def flat(number):
    """An image of one grey."""
    Image.fromarray(np.full((28, 28), number, np.uint8)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def experiment(data, processes):
    training = replace(SMALL.training, batch_size=BATCH, epochs=EPOCHS, precision="32", recalibration_images=20)
    return replace(SMALL, data=data, training=training, trainer=TrainerConfig(processes))


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for which, numbers in (("train", range(COUNT)), ("val", range(200, 210)), ("test", range(220, 230))):
        for number in numbers:
            (place := root / which / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(flat(number))
    return DataConfig(source="folder", root=str(root), augment=("crop", "flip"))


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    library = pytest.importorskip("datasets", reason="needs the extra `hf`")
    library.disable_progress_bars()
    features = library.Features({"image": library.Image(), "label": library.ClassLabel(names=["a", "b"])})

    def rows(numbers):
        content = {"image": [{"bytes": flat(i), "path": None} for i in numbers], "label": [i % 2 for i in numbers]}
        return library.Dataset.from_dict(content, features=features)

    parts = {"train": rows(range(COUNT)), "validation": rows(range(200, 210)), "test": rows(range(220, 230))}
    library.DatasetDict(parts).save_to_disk(place := str(tmp_path_factory.mktemp("saved")))
    return DataConfig(place, source="hf", stream=True)


def note(out, forget=False):
    """Writes down the numbers of the images that a process trains on; `forget`: all read everything."""
    multiprocessing.set_start_method("fork", force=True)  # for workers: a fork of a forkserver's would import all anew
    seen, ready, end = [], _Batches.ready, ClassifierModule.on_train_epoch_end

    def noted(self, batch):
        seen.append(batch[0].flatten(1).amax(1).tolist())
        return ready(self, batch)

    def on_train_epoch_end(self):
        end(self)
        trained = [batch for batch in seen if max(batch) < COUNT]
        (out / f"seen{self.global_rank}.json").write_text(json.dumps(trained))

    _Batches.ready, ClassifierModule.on_train_epoch_end = noted, on_train_epoch_end
    if forget:
        import datasets.distributed

        datasets.distributed.split_dataset_by_node = lambda split, rank, processes: split


def seen(config, out, forget=False):
    """For every process the numbers of the images in its batches."""
    out.mkdir()
    together(config, out, partial(note, out, forget))
    return [json.loads((out / f"seen{rank}.json").read_text()) for rank in range(config.trainer.processes)]


def assert_shared(found):
    """Every process has as many batches of one size, and together they have no image twice in an epoch."""
    share = BATCH // len(found)
    assert [[len(batch) for batch in one] for one in found] == [[share] * STEPS * EPOCHS] * len(found)
    for epoch in range(EPOCHS):
        own = [{i for batch in one[epoch * STEPS : (epoch + 1) * STEPS] for i in batch} for one in found]
        assert sum(map(len, own)) == len(set.union(*own)) == STEPS * BATCH
    return own


def test_processes_that_read_a_folder_share_it_and_learn_what_they_do_in_memory(in_folder, tmp_path):
    memory = seen(experiment(in_folder, 2), tmp_path / "memory")
    streamed = experiment(replace(in_folder, stream=True), 2)
    found = seen(streamed, tmp_path / "files")
    assert_shared(found)
    assert found == memory
    assert same(*(weights(run_folder(SMALL, tmp_path / name)) for name in ("memory", "files")))
    assert ended(start(streamed, tmp_path / "cut", signal_the_second)) == [1, 1]
    together(replace(streamed, data=replace(streamed.data, workers=1)), tmp_path / "cut", resume=True)
    assert same(*(weights(run_folder(SMALL, tmp_path / name)) for name in ("memory", "cut")))


def test_processes_that_read_a_hugging_face_data_set_have_shards_of_their_own(on_disk, tmp_path):
    config = experiment(on_disk, 2)
    own = assert_shared(seen(config, tmp_path / "whole"))
    shard = np.repeat(np.arange(BATCH), [COUNT // BATCH + (k < COUNT % BATCH) for k in range(BATCH)])
    assert not {shard[i] for i in own[0]} & {shard[i] for i in own[1]}
    assert ended(start(config, tmp_path / "cut", signal_the_second)) == [1, 1]
    together(replace(config, data=replace(on_disk, workers=0)), tmp_path / "cut", resume=True)
    assert same(*(weights(run_folder(SMALL, tmp_path / name)) for name in ("whole", "cut")))


def test_processes_that_all_read_everything_would_be_noticed(on_disk, tmp_path):
    found = seen(experiment(on_disk, 2), tmp_path / "forgot", forget=True)
    with pytest.raises(AssertionError):
        assert_shared(found)
