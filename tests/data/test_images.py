"""One image file: the exact pixels of every kind, and a reason in a line for what is refused."""

import io
import os
import resource
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from made_png import png
from PIL import Image

from partialsym.data.reading import MOST_PIXELS, decode, read_image

RED, GREEN = (255, 0, 0), (0, 255, 0)
NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@contextmanager
def refused(name, *words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        yield
    message = str(error.value)
    assert isinstance(error.value, ValueError)
    assert message.startswith(str(name))
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def saved(image, form="PNG", **options):
    image.save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def made(mode, *pixels, palette=None):
    """An image one pixel high."""
    image = Image.new(mode, (len(pixels), 1))
    if palette is not None:
        image.putpalette(palette)
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)
    return image


def read(content, channels=None):
    """Pixels as a list of rows' colours, an int or a tuple each."""
    image = decode(io.BytesIO(content), "x", channels)
    assert image.dtype in (torch.uint8, torch.uint16)
    assert image.is_contiguous()
    rows = image.permute(1, 2, 0).tolist()
    return [[pixel[0] if len(pixel) == 1 else tuple(pixel) for pixel in row] for row in rows]


PALE = [*RED, 9, 9, 9, *GREEN]
WIDE = np.array([[0, 128, 129, 257, 65535]], np.uint16)
KINDS = {
    "grey": (saved(made("L", 0, 7, 255)), [0, 7, 255]),
    "RGB": (saved(made("RGB", RED, (1, 2, 3))), [RED, (1, 2, 3)]),
    "grey RGB stays RGB": (saved(made("RGB", (5, 5, 5))), [(5, 5, 5)]),
    "1 bit": (saved(made("1", 0, 255)), [0, 255]),
    "palette": (saved(made("P", 0, 1, 2, palette=PALE)), [RED, (9, 9, 9), GREEN]),
    "grey palette": (saved(made("P", 0, 1, palette=[4, 4, 4, 8, 8, 8])), [4, 8]),
    "GIF": (saved(made("P", 0, 2, palette=PALE), "GIF"), [RED, GREEN]),
    "palette, clear entry": (saved(made("P", 0, 2, palette=PALE), transparency=2), [RED, (255, 255, 255)]),
    "palette, alphas": (
        saved(made("P", 0, 2, palette=PALE), transparency=bytes([255, 255, 0])),
        [RED, (255, 255, 255)],
    ),
    "LA": (saved(made("LA", (7, 255), (7, 0), (0, 51))), [7, 255, 204]),
    "PA": (saved(made("PA", (0, 255), (2, 0), palette=PALE), "TIFF"), [RED, (255, 255, 255)]),
    "RGBA": (
        saved(made("RGBA", (*RED, 255), (1, 2, 3, 0), (0, 0, 0, 51))),
        [RED, (255, 255, 255), (204, 204, 204)],
    ),
    "opaque RGBA": (saved(made("RGBA", (1, 2, 3, 255))), [(1, 2, 3)]),
    "CMYK": (saved(made("CMYK", (0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)), "TIFF"), [RED, (0,) * 3, (255,) * 3]),
    "16 bits": (saved(Image.fromarray(WIDE)), WIDE[0].tolist()),
    "16 bits, TIFF": (saved(Image.fromarray(WIDE), "TIFF"), WIDE[0].tolist()),
    "16 bits, PGM": (b"P5 3 1 65535\n" + np.array([0, 257, 65535], ">u2").tobytes(), [0, 257, 65535]),
    "16-bit colour": (png(1, 1, 16, 2, b"\0\1\2\3\4\5\6"), [(1, 3, 5)]),
    "1 bit, clear black": (png(2, 1, 1, 0, b"\0\x40", b"\0\0"), [255, 255]),
    "2 bits, clear": (png(2, 1, 2, 0, b"\0\x40", b"\0\1"), [255, 0]),
    "4 bits, clear": (png(2, 1, 4, 0, b"\0\x5a", b"\0\5"), [255, 170]),
    "8 bits, clear": (png(2, 1, 8, 0, b"\0\x05\x5a", b"\0\5"), [255, 90]),
    "16 bits, clear": (png(2, 1, 16, 0, b"\0\1\1\2\2", b"\1\1"), [65535, 514]),
    "RGB, clear": (png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", b"\0\1\0\2\0\3"), [(255, 255, 255), (4, 5, 6)]),
}


@pytest.mark.parametrize(("content", "expected"), KINDS.values(), ids=KINDS)
def test_every_kind_has_the_pixels_it_shows(content, expected):
    assert read(content) == [expected]
    in_colour = [pixel if isinstance(pixel, tuple) else (pixel,) * 3 for pixel in expected]
    assert read(content, 3) == [in_colour]
    luma = [round((19595 * r + 38470 * g + 7471 * b) / 65536) for r, g, b in in_colour]
    assert read(content, 1) == [luma]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_images_stand_upright(orientation, form):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    lossless = {"lossless": True} if form == "WEBP" else {}
    content = saved(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **lossless)
    assert read(content, 1) == upright.tolist()


def test_a_photograph_with_a_preview_is_the_photograph():
    first, second = Image.fromarray(NOISE), Image.new("RGB", (30, 20))
    content = saved(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert torch.equal(decode(io.BytesIO(content), "x"), decode(io.BytesIO(saved(first, "JPEG")), "x"))


WHOLE = saved(Image.fromarray(NOISE))
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (30, 20), RED)]}
MODES = "must be 8 bits per channel, or 16-bit grey"
REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"a,b\n1,2\n", "cannot be read as an image: it is not an image"),
    "header cut": (WHOLE[:20], "cannot be read as an image: "),
    "magic alone": (WHOLE[:8], "its header is damaged"),
    "cut": (WHOLE[: len(WHOLE) // 2], "cannot be read as an image: image file is truncated"),
    "bit flip": (WHOLE[:500] + bytes([WHOLE[500] ^ 255]) + WHOLE[501:], "broken data stream"),
    "JPEG cut": (saved(Image.fromarray(NOISE), "JPEG")[:-60], "truncated"),
    "TIFF cut": (saved(Image.fromarray(NOISE), "TIFF")[:-900], "cannot be read as an image: "),
    "width 0": (png(0, 5, 8, 2, b"\0"), "has width 0 and height 5: both must be >= 1"),
    "GIF, height 0": (b"GIF89a\5\0\0\0\0\0\0;", "has width 5 and height 0"),
    "float": (saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), f"has mode F: {MODES}"),
    "32 bits": (saved(Image.fromarray(np.ones((2, 2), np.int32)), "TIFF"), f"has mode I: {MODES}"),
    "16-bit colour, clear": (png(1, 1, 16, 2, b"\0\1\2\3\4\5\6", bytes(6)), "16 bits per channel and a transparent"),
    "white is 0": (saved(Image.fromarray(WIDE), "TIFF", tiffinfo={262: 0}), "with white as 0"),
    "PostScript": (saved(Image.fromarray(NOISE), "EPS"), "is PostScript"),
    **{
        f"animated {form}": (saved(Image.fromarray(NOISE), form, **FRAMES), "is animated or has several pages")
        for form in ("GIF", "PNG", "WEBP", "TIFF")
    },
}


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_image_is_refused_in_a_line(tmp_path, content, words):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with refused(path, words):
        read_image(path)
    with refused("the seventh", words):
        read_image(path, name="the seventh")


def test_what_is_whole_is_read():
    """The controls of the above."""
    assert torch.equal(decode(io.BytesIO(WHOLE), "x"), torch.from_numpy(NOISE).permute(2, 0, 1))
    for form in ("GIF", "WEBP", "TIFF"):
        assert decode(io.BytesIO(saved(Image.fromarray(NOISE), form)), "x").shape == (3, 20, 30)


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 9_000), (8_001, 8_000)])
def test_bombs_are_refused_by_their_header(size, monkeypatch):
    """Beyond Pillow's own error, its warning, and neither."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("its pixels are read"))
    with refused("x", f"has {size[0] * size[1]:,} pixels: at most 64,000,000 are read"):
        decode(io.BytesIO(png(*size, 8, 2, b"\0")), "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB; the pixels are 190 MB and more


def test_just_below_the_limit_the_pixels_are_what_is_missing():
    assert MOST_PIXELS == 8_000 * 8_000
    with refused("x", "truncated"):
        decode(io.BytesIO(png(8_000, 8_000, 1, 0, b"\0")), "x")


def test_an_icon_larger_than_it_says_is_refused():
    inner = png(9_000, 9_000, 1, 0, bytes(9_000 * 1_126))
    content = struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 1, len(inner), 22) + inner
    with refused("x", "has 81,000,000 pixels"):
        decode(io.BytesIO(content), "x")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with refused(tmp_path / "pipe.png", "is a pipe: it must be a regular file"):
        read_image(tmp_path / "pipe.png")
    with refused(tmp_path, "is a folder"):
        read_image(tmp_path)
    with refused("/dev/zero", "is a device"):
        read_image("/dev/zero")
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "file").write_bytes(WHOLE)
    with refused(tmp_path / "file" / "x.png", "cannot be opened"):
        read_image(tmp_path / "file" / "x.png")
    with refused("/" + "x" * 300, "cannot be opened: File name too long"):
        read_image("/" + "x" * 300)


def test_names_stay_in_their_line(tmp_path):
    for name in ("a\nb.png", "a\x1b[2Jb.png", "a\u202eb.png", "a\udcffb.png"):
        (tmp_path / name).write_bytes(b"")
        with refused(ascii(str(tmp_path / name))):
            read_image(tmp_path / name)
    for name in ("<b>x.png", "日本 é.png", "'\".png"):
        (tmp_path / name).write_bytes(b"")
        with refused(tmp_path / name):
            read_image(tmp_path / name)


def test_other_channels_are_refused():
    for channels in (0, 2, 4, "3"):
        with refused("channels is", repr(channels)):
            decode(io.BytesIO(WHOLE), "x", channels)


@pytest.mark.long
def test_pillow_is_loaded_with_the_first_image_only():
    code = "import sys, partialsym.data.reading; sys.exit('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == 0
