"""The laws of augmentation: every crop a true window, offsets and flips as likely as they should be."""

import pytest
import torch
from scipy.stats import chisquare

from partialsym.config.data import AUGMENTATIONS
from partialsym.data import augmentation
from partialsym.data.transforms import AUGMENTERS

SIDE = 9  # offsets along each axis
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def windows(image):
    """All 81 crops of one image [C, H, W], by plain slicing of a picture with a black frame."""
    channels, height, width = image.shape
    framed = torch.zeros(channels, height + 8, width + 8)
    framed[:, 4 : 4 + height, 4 : 4 + width] = image
    return [framed[:, y : y + height, x : x + width] for y in range(SIDE) for x in range(SIDE)]


def different(n, *shape):
    """`n` images without a zero or a repetition in sight, so that a window tells its offset."""
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.1


def test_the_names_are_those_of_the_config():
    assert tuple(AUGMENTERS) == AUGMENTATIONS
    assert augmentation(()) is None
    with pytest.raises(ValueError, match="augmentation is 'turn': it must be one of 'crop', 'flip'"):
        augmentation(("flip", "turn"))


@pytest.mark.parametrize("size", [(6, 7), (3, 2), (1, 1)])
def test_every_crop_is_one_of_the_81_windows_of_its_own_image(size):
    images, seen = different(600, 2, *size), set()
    for image, got in zip(images, augmentation(["crop"])(images), strict=True):
        matches = [i for i, window in enumerate(windows(image)) if torch.equal(window, got)]
        assert matches
        seen.update(matches)
    assert seen == set(range(81))


def test_the_offsets_of_crops_are_uniform():
    image = different(1, 1, 9, 9)
    coordinates = {tuple(window.flatten().tolist()): i for i, window in enumerate(windows(image[0]))}
    assert len(coordinates) == 81
    got = augmentation(("crop",))(image.expand(16_200, -1, -1, -1))
    counts = torch.tensor([coordinates[tuple(x)] for x in got.flatten(1).tolist()]).bincount(minlength=81)
    assert chisquare(counts).pvalue > 1e-3
    table = counts.view(SIDE, SIDE)
    assert chisquare(table.sum(0)).pvalue > 1e-3
    assert chisquare(table.sum(1)).pvalue > 1e-3
    lopsided = counts + 100 * (torch.arange(81) < 10)  # such a test does tell an offset that is preferred
    assert chisquare(lopsided).pvalue < 1e-6


def test_half_of_the_images_are_flipped_each_by_itself():
    images = different(10_000, 1, 2, 3)
    got = augmentation(("flip",))(images)
    same = (got == images).flatten(1).all(1)
    mirrored = (got == images[..., [2, 1, 0]]).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert abs(int(mirrored.sum()) - 5_000) < 200  # four standard deviations
    runs = int((mirrored[1:] != mirrored[:-1]).sum())
    assert abs(runs - 5_000) < 200  # neighbours are independent


def oriented(count, side=9):
    """Smooth images [count, 1, side, side] that are bright on the right, and the angle of what they are, in degrees."""
    y, x = torch.meshgrid(*2 * [torch.arange(side) - (side - 1) / 2], indexing="ij")
    disc = (x.square() + y.square() <= (side / 2) ** 2).float()

    def angle(images):
        weights = images * disc
        return torch.atan2(-(weights * y).sum((1, 2, 3)), (weights * x).sum((1, 2, 3))).rad2deg() % 360

    return (0.5 + x / (2 * side)).expand(count, 1, side, side).contiguous(), angle


def test_turns_are_uniform_and_half_of_them_lose_nothing():
    images, angle = oriented(8000)
    got = augmentation(("rotate",))(images)
    quarters = torch.stack([images[0].rot90(k, (1, 2)) for k in range(4)])
    exact = (got[:, None] == quarters).flatten(2).all(2)
    assert 3800 < int(exact.any(1).sum()) < 4200  # four standard deviations
    assert chisquare(exact.sum(0)).pvalue > 1e-3
    smooth = angle(got[~exact.any(1)])
    counts = ((smooth + 22.5) % 360 / 45).long().bincount(minlength=8)
    assert chisquare(counts).pvalue > 1e-3
    assert chisquare((smooth % 90 / 15).long().bincount(minlength=6)).pvalue > 1e-3  # quarter turns are not preferred
    assert float(got.min()) > 0  # no black corners


def test_images_that_are_not_square_keep_their_shape():
    images = different(400, 2, 4, 7)
    got = augmentation(("rotate",))(images)
    halves = torch.stack([images, images.rot90(2, (2, 3))])
    exact = (got == halves).flatten(2).all(2)
    assert got.shape == images.shape
    assert 150 < int(exact.any(0).sum()) < 250
    assert min(exact.sum(1)) > 50


def test_processes_share_the_turns_of_one():
    images = different(12, 1, 5, 5)
    torch.manual_seed(5)
    alone = augmentation(("rotate",))(images)
    parts = []
    for rank in range(3):
        torch.manual_seed(5)
        parts.append(augmentation(("rotate",), rank, 3)(images[rank::3]))
    for rank, part in enumerate(parts):
        assert torch.allclose(part, alone[rank::3], atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("names", [("crop",), ("flip",), ("rotate",), ("crop", "flip"), ("flip", "crop")])
def test_shape_dtype_and_original_are_kept_and_the_global_generator_decides(names, device):
    images = different(32, 3, 5, 8).to(device)
    before, augment = images.clone(), augmentation(names)
    torch.manual_seed(7)
    first, second = augment(images), augment(images)
    torch.manual_seed(7)
    again = augment(images)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert (first.shape, first.dtype, first.device) == (images.shape, torch.float32, images.device)
    assert first.is_contiguous()
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(images, before)
    first.zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize("names", [("crop", "flip"), ("flip", "crop")])
def test_names_are_applied_in_order(names):
    images = different(64, 1, 6, 6)
    torch.manual_seed(3)
    got = augmentation(names)(images)
    torch.manual_seed(3)
    expected = images
    for name in names:
        expected = AUGMENTERS[name](expected)
    assert torch.equal(got, expected)


def test_images_of_one_batch_do_not_mix():
    images = torch.arange(1, 51, dtype=torch.float32)[:, None, None, None].expand(-1, 2, 6, 6) / 50
    for image, got in zip(images, augmentation(("crop", "flip"))(images), strict=True):
        assert set(got.unique().tolist()) <= {0.0, float(image[0, 0, 0])}
        assert torch.equal(got[0], got[1])
    assert torch.allclose(augmentation(("rotate",))(images), images, atol=1e-6)
