"""Data sets of Hugging Face's library that are streamed: made in memory, no network."""

from made_folder import png

from partialsym.data import Preprocessing, batched, trained_on
from partialsym.data.batches.streaming import StreamBatchSampler
from partialsym.training.dataloaders import loaders

PREPROCESS = Preprocessing((0.5,), (0.25,))


def rows(library, count, start=0, contents=None, labels=None, paths=None, size=(4, 5)):
    """Grey images by number, with that number in their path."""
    features = library.Features({"picture": library.Image(), "kind": library.ClassLabel(names=["a", "b"])})
    contents = [png(start + i, size, "L") for i in range(count)] if contents is None else contents
    paths = [f"{start + i}.png" for i in range(count)] if paths is None else paths
    pictures = [{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)]
    labels = [i % 2 for i in range(count)] if labels is None else labels
    return library.Dataset.from_dict({"picture": pictures, "kind": labels}, features=features)


def others(library, **options):
    """Six images each for validation and test."""
    return {"validation": rows(library, 6, 8000, **options), "test": rows(library, 6, 9000, **options)}


def saved(library, place, train, **changes):
    parts = {"train": train, **others(library), **changes}
    library.DatasetDict({which: part for which, part in parts.items() if part is not None}).save_to_disk(place)
    return str(place)


def known(library, split, count):
    """A split that says how many images it has."""
    split.info.splits = library.SplitDict()
    split.info.splits.add(library.SplitInfo("train", num_examples=count))
    split._split = library.Split.TRAIN
    return split


def passes(data, batch_size, processes=1, epoch=0, seed=0, repeats=1):
    """The images in each batch of every process, by number."""
    found = []
    for rank in range(processes):
        order = StreamBatchSampler(trained_on(data), batch_size, seed, repeats, rank, processes)
        order.set_epoch(epoch)
        batches = [[numbered(picture) for picture in batch] for batch in order]
        assert len(batches) == len(order)
        found.append(batches)
    return found


def numbered(picture):
    return next(i for i in range(1000) if png(i, mode="L") == picture.source)


def flat(batches):
    return [i for batch in batches for i in batch]


def batches_of(data, batch_size=4, epoch=0):
    both = batched(trained_on(data), PREPROCESS), batched(data.validation, PREPROCESS)
    loader, _ = loaders(*both, batch_size, seed=0)
    loader.sampler.set_epoch(epoch)
    return list(loader)
