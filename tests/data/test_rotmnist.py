"""rotMNIST: made from MNIST, or read from the authors' archive; refused where it is another."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from partialsym.data import load
from partialsym.data.sources.rotmnist import MEMBERS, generate, rotmnist
from partialsym.groups.base import rotation
from partialsym.measure import rotate
from partialsym.warp import warp

SIZES = {"train": 6, "validation": 3, "test": 4}


def arrays(train=20, test=10):
    rng = np.random.default_rng(0)
    made = {}
    for part, count in (("train", train), ("test", test)):
        made[f"x_{part}"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        made[f"y_{part}"] = rng.integers(0, 10, count, dtype=np.uint8)
    return made


def archive(folder, change=None, name="mnist_rotation_new.zip"):
    """An archive as the authors', with few images; returns its MD5."""
    rng = np.random.default_rng(1)
    pool, test = (np.c_[rng.random((n, 784)).round(6), rng.integers(0, 10, n)] for n in (9, 4))
    tables = dict(zip(MEMBERS, (pool, test), strict=True))
    if change:
        change(tables)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as file:
        for member, table in tables.items():
            text = io.StringIO()
            np.savetxt(text, table, fmt="%.6f")
            file.writestr(member, text.getvalue())
    return hashlib.md5((folder / name).read_bytes()).hexdigest(), pool, test


@pytest.mark.long
def test_the_real_one_has_its_digest_and_sizes():
    root = Path(os.environ.get("PARTIALSYM_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (root / "mnist.npz").exists():
        pytest.skip("MNIST is not on this machine: set PARTIALSYM_DATA")
    data = load("rotMNIST", root)  # raises where the sha256 is another
    assert (data.name, data.size, data.channels) == ("rotMNIST-generated", (28, 28), 1)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [10_000, 2_000, 50_000]
    few = data.with_train(125, 0)
    assert set(few.train.originals.tolist()) < set(data.with_train(250, 0).train.originals.tolist())
    assert torch.equal(few.test.images, data.test.images)
    with pytest.raises(ValueError, match="has 10000 training images, fewer than the requested 10001"):
        data.with_train(10_001, 0)


def test_generated_digits_are_those_of_mnist_each_once_turned_by_its_angle():
    made, count = arrays(), 17
    images, labels = generate(made, count, seed=3)
    random = np.random.RandomState(3)
    order, angles = random.permutation(30)[:count], random.uniform(0, 2 * np.pi, count)
    pixels = np.concatenate([made["x_train"], made["x_test"]])[order]
    assert labels.tolist() == np.concatenate([made["y_train"], made["y_test"]])[order].tolist()
    for image, pixel, angle in zip(images, pixels, angles, strict=True):
        expected = rotate(torch.from_numpy(pixel).double()[None, None], float(np.degrees(angle)))
        assert float((image - expected[0]).abs().max()) <= 0.5 + 1e-9
    assert not torch.equal(images, generate(made, count, seed=4)[0])
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)


def test_warp_moves_a_quarter_turn_and_a_mirroring_exactly():
    x = torch.rand(4, 2, 6, 6, dtype=torch.float64)
    quarters = rotation(torch.arange(4, dtype=torch.float64) * torch.pi / 2)
    expected = torch.stack([image.rot90(k, (-2, -1)) for k, image in enumerate(x)])
    torch.testing.assert_close(warp(x, quarters), expected, rtol=0, atol=1e-12)
    mirror = torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(warp(x, mirror), x.flip(-1), rtol=0, atol=1e-12)
    wide = torch.rand(1, 1, 6, 10, dtype=torch.float64)
    angle = torch.tensor([0.3], dtype=torch.float64)
    torch.testing.assert_close(warp(wide, rotation(angle)), rotate(wide, float(angle.rad2deg())), rtol=0, atol=1e-12)
    assert float((warp(x, quarters[1:2]) - x.rot90(-1, (-2, -1))).abs().max()) > 0.1  # the other way round


def test_the_authors_archive_is_read_and_goes_first(tmp_path):
    md5, pool, test = archive(tmp_path)
    data = rotmnist(tmp_path, archive_md5=md5, sizes=SIZES)
    assert data.name == "rotMNIST"
    found = torch.cat([data.train.images, data.validation.images, data.test.images])
    rows = np.concatenate([pool, test])
    np.testing.assert_allclose(found.flatten(1).numpy(), rows[:, :-1], atol=1e-6)
    assert torch.cat([data.train.labels, data.validation.labels, data.test.labels]).tolist() == rows[:, -1].tolist()


def shorter(tables):
    tables[MEMBERS[1]] = tables[MEMBERS[1]][:-1]


def longer(tables):
    tables[MEMBERS[0]] = np.concatenate([tables[MEMBERS[0]]] * 2)


def mislabelled(tables):
    tables[MEMBERS[0]][2, -1] = 10


def nameless(tables):
    tables["other.amat"] = tables.pop(MEMBERS[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shorter, r"mnist_all_rotation_normalized_float_test.amat is \[3, 785\], expected \[4, 785\]"),
        (longer, r"train_valid.amat is \[10, 785\], expected \[9, 785\]"),
        (mislabelled, r"labels span \[0, 10\], expected whole numbers 0 to 9"),
        (nameless, "no item named 'mnist_all_rotation_normalized_float_test.amat'"),
    ],
)
def test_a_bad_archive_is_named(tmp_path, change, message):
    md5, *_ = archive(tmp_path, change)
    with pytest.raises(ValueError, match=f"mnist_rotation_new.zip: .*{message}"):
        rotmnist(tmp_path, archive_md5=md5, sizes=SIZES)


@pytest.mark.parametrize("harm", [lambda raw: raw[:-9], lambda raw: raw[:400] + bytes(99) + raw[499:]])
def test_a_cut_or_damaged_archive_is_named(tmp_path, harm):
    path = tmp_path / "mnist_rotation_new.zip"
    archive(tmp_path)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ValueError, match=r"mnist_rotation_new.zip: (File is not a zip|Bad CRC|Error -3)"):
        rotmnist(tmp_path, archive_md5=hashlib.md5(path.read_bytes()).hexdigest(), sizes=SIZES)


def test_an_altered_archive_a_loose_file_and_altered_mnist_are_refused(tmp_path):
    archive(tmp_path)
    with pytest.raises(ValueError, match=r"MD5 .*, expected 0f9a947ff3d30e95cd685462cbf3b847"):
        rotmnist(tmp_path, sizes=SIZES)
    (tmp_path / "mnist_rotation_new.zip").unlink()
    np.savez(tmp_path / "mnist.npz", **arrays())
    made = rotmnist(tmp_path, sizes=SIZES, content_md5={}, sha256=None)
    assert (made.name, len(made.test)) == ("rotMNIST-generated", 4)
    with pytest.raises(ValueError, match=r"rotMNIST generated from MNIST has sha256 .*, expected aab54414"):
        rotmnist(tmp_path, sizes=SIZES, content_md5={})
    (tmp_path / MEMBERS[0]).write_text("0 0")
    with pytest.raises(ValueError, match=r"train_valid.amat: must be inside mnist_rotation_new.zip"):
        rotmnist(tmp_path, sizes=SIZES, content_md5={}, sha256=None)
