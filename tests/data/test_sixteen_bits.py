"""16-bit grey: as many levels as there are, on one range of the training images, wherever they are read."""

import io
import logging

import numpy as np
import pytest
import torch
from made_folder import SPLITS, flat, png, refused, three, write
from made_png import png as raw_png
from made_sixteen import SIZE, deep, sixteen, values
from made_streams import batches_of, rows, saved
from PIL import Image

from partialsym.config import ConfigError, DataConfig
from partialsym.data.batches import streaming as module
from partialsym.data.reading import as_float, fitted, read_images
from partialsym.data.sources.folder import folder
from partialsym.data.sources.hf import hf


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [1, 120, 255, 1023, 4095, 65535])
def test_as_many_levels_are_left_as_there_are(tmp_path, top, form):
    data = folder(sixteen(tmp_path, top=top, form=form))
    held = {tuple(values(path.read_bytes()).flatten().tolist()) for path in tmp_path.glob("*/*")}
    low, high = data.range
    found = [(image * (high - low) + low).round() for image in data.train.images]
    assert {tuple(image.int().flatten().tolist()) for image in found} < held
    there = torch.cat(found).unique()
    assert (int(there[0]), int(there[-1])) == data.range
    assert len(data.train.images.unique()) == len(there)
    assert (float(data.train.images.min()), float(data.train.images.max())) == (0, 1)
    assert 0.4 < data.mean[0] < 0.6
    std, mean = torch.std_mean(data.train.images.double(), correction=0)
    assert (data.mean[0], data.std[0]) == pytest.approx((float(mean), float(std)), rel=1e-6)


def test_what_was_done_before_loses_them(tmp_path):
    """The control of the above."""
    pixels = np.concatenate([values(path.read_bytes()).flatten() for path in sixteen(tmp_path, top=255).glob("*/*")])
    assert len(np.unique((pixels + 128) // 257)) == 2
    assert len(np.unique(pixels)) == 256


def test_the_range_is_that_of_training_images_and_what_is_beyond_is_clipped(tmp_path):
    sixteen(tmp_path / "train", low=50, top=4000)
    write(tmp_path, {"val/a/x.png": deep(901, 3000), "test/a/y.png": deep(902, 65535)})
    write(tmp_path, {"val/b/x.png": deep(903, 4000), "test/b/y.png": deep(904, 65535)})
    data = folder(tmp_path)
    pixels = torch.stack([values(path.read_bytes()) for path in sorted((tmp_path / "train").glob("*/*.png"))])
    assert data.range == (int(pixels.min()), int(pixels.max()))
    low, high = data.range
    expected = ((values(deep(902, 65535)).double() - low) / (high - low)).clamp(0, 1).float()
    torch.testing.assert_close(data.test.images[0, 0], expected)
    assert float((expected == 1).float().mean()) > 0.8
    given = folder(tmp_path, range=(0, 65535))
    assert given.range == (0, 65535)
    assert torch.equal(given.test.images[0, 0], values(deep(902, 65535)).float() / 65535)


LAYOUTS = {
    "divided": (sixteen, {}),
    "given": (lambda root: sixteen(root, low=7), {"range": (100, 3000), "channels": 3}),
    "resized": (lambda root: sixteen(root, top=65535), {"size": (5, 6), "fit": "crop", "split_seed": 4}),
    "both depths": (lambda root: write(flat(root, a=9, b=9), {f"b/deep{i}.png": deep(i) for i in range(9)}), {}),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_that_stay_where_they_are_give_the_same(tmp_path, monkeypatch, layout, workers):
    monkeypatch.setattr("partialsym.data.sources.build.SOME", 4)
    make, options = LAYOUTS[layout]
    options = {"size": SIZE, **options}
    expected, found = folder(make(tmp_path), **options), folder(tmp_path, **options, stream=True, workers=workers)
    assert (found.range, found.mean, found.std) == (expected.range, expected.mean, expected.std)
    for which in SPLITS:
        ours, theirs = getattr(found, which).images, getattr(expected, which).images
        assert ours.dtype == theirs.dtype == torch.float32
        assert torch.equal(torch.cat(list(ours.split(5))), theirs)


def test_each_depth_has_its_range(tmp_path, caplog):
    eight = np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8)
    Image.fromarray(eight).save(file := io.BytesIO(), "PNG")
    three(tmp_path, (3, 1, 1), classes=("b",))
    write(tmp_path, {f"{which}/a/1.png": deep(i) for i, which in enumerate(("train", "val", "test"))})
    write(tmp_path, {"train/a/0.png": file.getvalue()})
    with caplog.at_level(logging.INFO):
        data = folder(tmp_path, size=SIZE, channels=1)
    assert torch.equal(data.train.images[0, 0], torch.from_numpy(eight) / 255)
    assert "4 training images have 8 bits and 1 have 16: each kind has its own range" in caplog.text
    assert "in 16-bit images" in caplog.text


def test_eight_bits_are_as_they_were(tmp_path):
    data = folder(flat(tmp_path, a=6, b=6))
    assert (data.range, data.train.images.dtype) == (None, torch.uint8)
    assert folder(tmp_path, range=(0, 65535)).train.images.dtype == torch.uint8


def test_what_has_no_range_is_refused(tmp_path):
    for wrong in ((5, 5), (9, 3), (0, 65536), (-1, 5), (0.0, 1.0), [0, 1], 7):
        with refused(f"range is {wrong!r}: it must be two ints"):
            folder(tmp_path, range=wrong)
    three(tmp_path / "late", (3, 1, 1))
    write(tmp_path / "late", {"test/a/deep.png": deep(1, size=(4, 5))})
    with refused("late: some images have 16 bits, but no training image has: pass a range"):
        folder(tmp_path / "late")
    assert folder(tmp_path / "late", range=(0, 4095)).test.images.dtype == torch.float32
    flats = {f"{name}/{i}.tif": deep(0, 7, 7, size=(4, 5 + i + 3 * (name == "b"))) for name in "ab" for i in range(3)}
    with refused("all pixels of 16-bit training images are 7: pass a range"):
        folder(write(tmp_path / "flat", flats), size=(4, 4))
    with pytest.raises(ConfigError, match=r"data.range is \(9, 3\): must be two numbers, 0 <= low < high <= 65535"):
        DataConfig(source="folder", root="x", range=(9, 3))
    with pytest.raises(ConfigError, match=r"data.range is \(0, 9\): must be left out: it is for own images"):
        DataConfig(range=(0, 9))
    with pytest.raises(ValueError, match="uint16 with a range"):
        as_float(torch.zeros(1, 2, 2, dtype=torch.uint16))


SAID = {
    "little": ({"top": 255}, {}, ["16-bit images use 0…255 of 0…65535, less than a tenth"]),
    "enough": ({"top": 40_000}, {}, []),
    "little of what was given": ({"top": 200}, {"range": (0, 4095)}, ["use 0…200 of 0…4095, less than a tenth"]),
    "enough of what was given": ({"top": 4095}, {"range": (0, 4095)}, []),
    "beyond": ({"top": 65535}, {"range": (0, 40_000)}, [" % of the pixels of 16-bit images are beyond 0…40000"]),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_strange_about_a_range_is_said_once(tmp_path, caplog, case):
    made, options, expected = SAID[case]
    with caplog.at_level(logging.INFO):
        data = folder(sixteen(tmp_path, **made), **options)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == len(expected)
    assert all(words in message for words, message in zip(expected, warned, strict=True))
    (said,) = (record.getMessage() for record in caplog.records if record.levelno == logging.INFO)
    how = "as given" if options else "the range of the training images"
    assert f"in 16-bit images {data.range[0]} becomes 0 and {data.range[1]} becomes 1, {how}" in said


def test_eight_bits_that_use_little_are_mentioned_and_a_range_for_none(tmp_path, caplog):
    dark = {}
    for i in range(8):
        Image.fromarray(values(deep(i, 3)).numpy().astype(np.uint8)).save(file := io.BytesIO(), "PNG")
        dark[f"{'ab'[i % 2]}/{i}.png"] = file.getvalue()
    folder(write(tmp_path, dark), range=(0, 4095))
    first, second = caplog.messages
    assert "8-bit images use 0…3 of 0…255, less than a tenth" in first
    assert "the given range has no effect, because no image has 16 bits" in second


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2)])
def test_12_bits_in_colour_or_beside_alpha_lose_what_8_bits_do_not_hold_and_it_is_said(
    tmp_path, caplog, colour, channels
):
    files = {}
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 4096, (5, 5, channels)).astype(">u2")
        pixels[..., 1 if channels == 2 else 3 :] = 65535  # opaque
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        files[f"{'ab'[i % 2]}/{i}.png"] = raw_png(5, 5, 16, colour, rows)
    data = folder(write(tmp_path, files))
    assert (data.train.images.dtype, int(data.train.images.max())) == (torch.uint8, 15)
    assert "8-bit images use 0…15 of 0…255, less than a tenth" in caplog.text


def test_resizing_keeps_the_depth():
    deep_image = values(deep(0, 65535, size=(24, 18))).to(torch.uint16)[None]
    exact = torch.nn.functional.interpolate(
        deep_image[None].double(), (7, 5), mode="bilinear", antialias=True, align_corners=False
    )[0]
    found = fitted(deep_image, (7, 5))
    assert found.dtype == torch.uint16
    assert float((found.double() - exact).abs().max()) < 0.51  # half a step of 16 bits: 8 would be off by 128
    assert torch.equal(fitted(deep_image, (20, 18), "crop").int(), deep_image[:, 2:22].int())
    assert fitted(deep_image.expand(3, -1, -1), (7, 5)).equal(found.expand(3, -1, -1))


def test_a_file_of_all_16_bits_is_predicted_as_one_of_8(tmp_path):
    eight = np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(257 * eight.astype(np.uint16)).save(tmp_path / "16.png")
    small, large = read_images([tmp_path / "8.png", tmp_path / "16.png"], SIZE, 1)
    assert torch.equal(small, large)


def test_a_stream_takes_the_range_of_its_first_images(library, tmp_path, monkeypatch):
    sizes = {"size": (4, 5)}
    contents = [deep(i, 255 + i, **sizes) for i in range(24)]
    held = [rows(library, 6, contents=[deep(start + i, **sizes) for i in range(6)]) for start in (100, 200)]
    place = saved(library, tmp_path / "x", rows(library, 24, contents=contents), validation=held[0], test=held[1])
    monkeypatch.setattr(module, "HEAD", 5)
    data = hf(place, stream=True, workers=0)
    whole, given = hf(place), hf(place, stream=True, workers=0, range=(0, 4095))
    assert data.range[1] <= whole.range[1]
    for flow, (low, high) in ((data, data.range), (given, (0, 4095))):
        order = torch.cat([images for images, _ in batches_of(flow)]) * 0.25 + 0.5
        expected = [((values(c).double() - low) / (high - low)).clamp(0, 1) for c in contents]
        for image in order[:, 0]:
            assert min(float((image - e).abs().max()) for e in expected) < 1e-6


def test_a_stream_whose_first_images_have_8_bits_has_no_range_for_16(library, tmp_path, monkeypatch):
    contents = [png(i, mode="L") for i in range(24)]
    contents[17] = deep(1, size=(4, 5))
    place = saved(library, tmp_path / "x", rows(library, 24, contents=contents))
    monkeypatch.setattr(module, "HEAD", 3)
    with pytest.raises(ValueError, match=r"^image \d+ of pass 1 \(17\.png\) has 16 bits, but .* pass a range\.$"):
        batches_of(hf(place, stream=True, workers=0))
    assert len(batches_of(hf(place, stream=True, workers=0, range=(0, 4095)))) == 6
