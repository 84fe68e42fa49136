"""Whatever bytes a reader is given, it reads them or refuses them in a line; and what was written comes back."""

import io

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from fuzzing.targets import TARGETS, one_line
from partialsym.config import Experiment, read_yaml
from partialsym.data.reading import decode
from partialsym.data.reading.idx import header, read_idx
from partialsym.data.reading.npz import read_npz
from partialsym.data.sources.rotmnist import WIDTH, read_amat

PIXELS = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
often = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@st.composite
def damaged(draw, seeds):
    """A seed with a few bytes replaced, left out or put in."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 3)) :]
    return content


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused_in_a_line(name):
    @often
    @given(st.one_of(damaged(TARGETS[name].seeds()), st.binary(max_size=64)))
    def check(content):
        one_line(TARGETS[name], content)

    check()


def test_what_escapes_is_seen():
    """The control."""
    broken = TARGETS["idx"]._replace(read=lambda data: {}[data])
    with pytest.raises(KeyError):
        one_line(broken, b"")
    talkative = TARGETS["idx"]._replace(read=lambda data: int("a\nb"))
    silent = TARGETS["idx"]._replace(read=lambda data: (_ for _ in ()).throw(ValueError("two\nlines")))
    one_line(talkative, b"")  # quoted, so it is one line
    with pytest.raises(AssertionError, match="not one line"):
        one_line(silent, b"")


@often
@given(PIXELS)
def test_idx_comes_back(tmp_path_factory, pixels):
    path = tmp_path_factory.getbasetemp() / "idx"
    path.write_bytes(header(pixels.shape) + pixels.tobytes())
    assert np.array_equal(read_idx(path, 3), pixels)


@often
@given(PIXELS, st.booleans())
def test_npz_comes_back(tmp_path_factory, pixels, packed):
    path = tmp_path_factory.getbasetemp() / "x.npz"
    (np.savez_compressed if packed else np.savez)(path, x=pixels, y=pixels.astype("U3"))
    found = read_npz(path, ("x", "y"))
    assert np.array_equal(found["x"], pixels)
    assert np.array_equal(found["y"], pixels.astype("U3"))


@often
@given(arrays(np.float32, (2, WIDTH), elements=st.floats(-1e6, 1e6, width=32)))
def test_amat_comes_back(table):
    np.savetxt(file := io.BytesIO(), table, "%.9g")
    file.seek(0)
    assert np.array_equal(read_amat(file, "x", 2), table)


@often
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    st.sampled_from(["PNG", "BMP", "TIFF"]),
)
def test_pixels_come_back(pixels, form):
    Image.fromarray(pixels).save(file := io.BytesIO(), form)
    assert torch.equal(decode(file, "x"), torch.from_numpy(pixels).permute(2, 0, 1))


@pytest.mark.long
@settings(often, max_examples=8)
@given(st.floats(1e-9, 1e9), st.integers(0, 2**32 - 1), st.from_regex(r"\A\w[\w.+-]{0,20}\Z"))
@example(0.1, 0, "2001-01-01")
@example(0.1, 0, "null")
def test_configs_come_back(tmp_path_factory, lr, seed, name):
    config = Experiment.from_dict({"name": name, "seed": seed, "training": {"lr": lr}})
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict(), allow_unicode=True), encoding="utf-8")
    assert Experiment.from_dict(read_yaml(path)) == config
