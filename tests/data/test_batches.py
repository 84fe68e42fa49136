"""Batches by index: the order of an epoch, and the same batches as image by image."""

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from partialsym.data import EpochBatchSampler, InMemoryBatches, Preprocessing, Split
from partialsym.training.dataloaders import loaders

PREPROCESS = Preprocessing((0.1, 0.4), (0.3, 0.2))


def split(n=23, dtype=torch.uint8):
    eight = torch.randint(0, 256, (n, 2, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    return Split(eight if dtype == torch.uint8 else eight / 255, torch.arange(n) % 3, torch.arange(n))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("n", "batch_size"), [(23, 5), (20, 5), (3, 64)])
def test_batches_are_those_of_a_loader_that_collates_image_by_image(dtype, n, batch_size):
    train, validation = split(n, dtype), split(300, dtype)
    found = loaders(InMemoryBatches(train, PREPROCESS), InMemoryBatches(validation, PREPROCESS), batch_size, seed=7)
    plain = [TensorDataset(PREPROCESS(s.images), s.labels) for s in (split(n, torch.float32), split(300))]
    sampler = DistributedSampler(plain[0], num_replicas=1, rank=0, shuffle=True, seed=7)
    expected = DataLoader(plain[0], min(batch_size, n), sampler=sampler, drop_last=True), DataLoader(plain[1], 150)
    for epoch in (0, 1, 5):
        sampler.set_epoch(epoch)
        found[0].sampler.set_epoch(epoch)
        for ours, torchs in zip(found, expected, strict=True):
            assert len(ours) == len(torchs)
            for (images, labels), (images_, labels_) in zip(ours, torchs, strict=True):
                assert torch.equal(images, images_)
                assert torch.equal(labels, labels_)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_what_one_has(processes):
    train, validation = (InMemoryBatches(split(n), PREPROCESS) for n in (47, 600))
    alone = loaders(train, validation, 12, seed=3, repeats=2)
    together = [loaders(train, validation, 12, 3, 2, rank, processes) for rank in range(processes)]
    for loader in (alone, *together):
        loader[0].sampler.set_epoch(4)
    batches = [torch.stack(parts, 1).flatten() for parts in zip(*(pair[0].sampler for pair in together), strict=True)]
    assert torch.equal(torch.stack(batches), torch.stack(list(alone[0].sampler)))
    shares = [list(pair[1].sampler) for pair in together]
    assert len({len(share) for share in shares}) == 1
    assert torch.cat([batch for share in shares for batch in share]).sort().values.tolist() == list(range(600))


def test_a_batch_that_cannot_be_shared_and_too_many_processes_are_refused():
    few = InMemoryBatches(split(5), PREPROCESS)
    with pytest.raises(ValueError, match="batch_size is 5: it must be a multiple of 2"):
        EpochBatchSampler(few, 5, seed=0, processes=2)
    with pytest.raises(ValueError, match="trainer is 6: must be at most 5 processes"):
        loaders(few, few, 6, seed=0, processes=6)


def test_an_iterator_follows_an_epoch_that_is_set_before_its_first_batch():
    order = EpochBatchSampler(InMemoryBatches(split(), PREPROCESS), 5, seed=0)
    begun = iter(order)
    order.set_epoch(2)
    assert torch.equal(torch.cat(list(begun)), torch.cat(list(order)))
    order.set_epoch(3)
    assert not torch.equal(next(iter(order)), torch.arange(5))


def test_loading_draws_nothing_from_the_global_generator():
    state = torch.get_rng_state()
    resident = InMemoryBatches(split(), PREPROCESS)
    for loader in loaders(resident, resident, 5, seed=0):
        list(loader)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_resident_stays_8_bit_and_is_not_copied_on_its_own_device():
    data = split()
    resident = InMemoryBatches(data, PREPROCESS, "cpu")
    assert resident.images.data_ptr() == data.images.data_ptr()
    images, labels = resident[torch.tensor([4, 0])]
    assert (images.dtype, labels.tolist()) == (torch.float32, [1, 0])


def test_indices_and_batches_are_where_the_images_are():
    resident = InMemoryBatches(split(), PREPROCESS, "meta")
    for loader in loaders(resident, resident, 5, seed=0):
        for index, batch in zip(loader.sampler, loader, strict=True):
            assert {x.device.type for x in (index, *batch)} == {"meta"}


def test_augmentation_comes_before_preprocessing_on_pixels_in_0_to_1():
    index, data = torch.tensor([3, 1]), split()
    images, _ = InMemoryBatches(data, PREPROCESS, augment=lambda x: 1 - x)[index]
    assert torch.equal(images, PREPROCESS(1 - data.images[index] / 255))


@pytest.mark.parametrize("batch_size", [0, 24])
def test_an_order_without_a_batch_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}: it must be from 1 to 23"):
        EpochBatchSampler(InMemoryBatches(split(), PREPROCESS), batch_size, seed=0)


def test_an_epoch_of_several_passes_sees_every_image_as_often():
    resident = InMemoryBatches(split(), PREPROCESS)
    order = EpochBatchSampler(resident, 5, seed=0, repeats=5)
    assert len(order) == 23  # 5 × 23 images in batches of 5: nothing is left over
    index = torch.cat(list(order))
    assert index.bincount().tolist() == [5] * 23
    passes = index.split(23)
    assert all(sorted(one.tolist()) == list(range(23)) for one in passes)
    assert not torch.equal(passes[0], passes[1])
    assert len(EpochBatchSampler(resident, 7, seed=0, repeats=2)) == 6
    assert torch.equal(
        torch.cat(list(EpochBatchSampler(resident, 5, seed=0))), torch.cat(list(EpochBatchSampler(resident, 5, 0, 1)))
    )
