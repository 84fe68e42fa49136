"""Images brought to one size: exact where pixels are only cut off, and of every shape."""

import numpy as np
import pytest
import torch
from made_folder import refused
from PIL import Image

from partialsym.data.reading import fitted, read_images
from partialsym.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
RAMP = torch.arange(24, dtype=torch.uint8).view(1, 4, 6)


def test_resizing_takes_the_whole_and_cropping_the_middle():
    assert fitted(RAMP, (4, 6)) is RAMP
    assert torch.equal(fitted(RAMP, (4, 4), "crop"), RAMP[:, :, 1:5])
    assert torch.equal(fitted(RAMP, (4, 3), "crop"), RAMP[:, :, 1:4])  # an odd border: one more at the right
    assert torch.equal(fitted(RAMP, (2, 6), "crop"), RAMP[:, 1:3])
    assert torch.equal(fitted(RAMP, (2, 3), "centre"), RAMP[:, 1:3, 1:4])
    for size in ((5, 3), (2, 7)):
        with pytest.raises(InputError, match="the image has 4×6 pixels, fewer than its centre crop"):
            fitted(RAMP, size, "centre")
    halves = torch.tensor([[0, 200]], dtype=torch.uint8).repeat_interleave(8, 1).expand(16, -1)[None]
    assert fitted(halves, (2, 2)).tolist() == [[[29, 171], [29, 171]]]  # a triangle over 16: 1 of 7 parts
    assert fitted(halves, (16, 4), "crop")[0, 0].unique().tolist() == [0, 200]


@pytest.mark.parametrize("fit", ["resize", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (40, 7), (7, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_can_be_had(fit, size, channels):
    for shape in ((1, 1), (3, 50), (50, 3), (20, 20)):
        flat = torch.full((channels, *shape), 77, dtype=torch.uint8)
        flat[1:] = 5
        image = fitted(flat, size, fit)
        assert image.shape == (channels, *size)
        assert (image[0] == 77).all()
        assert (image[1:] == 5).all()


def test_cropping_keeps_shapes_and_resizing_does_not():
    square = torch.zeros(1, 40, 80, dtype=torch.uint8)
    square[:, 10:30, 28:48] = 255
    cropped, squeezed = fitted(square, (20, 20), "crop"), fitted(square, (20, 20), "resize")
    assert ((cropped > 127).sum(1).max(), (cropped > 127).sum(2).max()) == (10, 10)
    assert ((squeezed > 127).sum(1).max(), (squeezed > 127).sum(2).max()) == (10, 5)


def test_a_wrong_size_or_fit_is_refused():
    for size in ((0, 3), (3,), (2.0, 2), (True, 2)):
        with refused("size is"):
            fitted(RAMP, size)
    with refused("fit is 'pad'", "'resize', 'crop'"):
        fitted(RAMP, (2, 2), "pad")


def test_many_files_are_one_tensor(tmp_path):
    for i, image in enumerate((Image.fromarray(NOISE), Image.fromarray(NOISE[:, :, 0]))):
        image.save(tmp_path / f"{i}.png")
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    images = read_images(files, (20, 30), 3)
    assert images.dtype == torch.float32
    assert torch.equal(images[0], torch.from_numpy(NOISE).permute(2, 0, 1) / 255)
    assert torch.equal(images[1], images[0, :1].expand(3, -1, -1))
    assert read_images(files, (8, 8), 1, "crop").shape == (2, 1, 8, 8)
    with refused("the model needs 2 channels"):
        read_images(files, (8, 8), 2)
