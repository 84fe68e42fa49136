"""The bounds that hostile files are tested under hold, and the bombs are bombs."""

import gzip
import io
import os
import pickle
import zipfile

import pytest
from hostile import Late, bounded, gzip_bomb, pickle_bomb, sparse, zip_bomb


def test_a_reader_without_end_is_stopped():
    with pytest.raises(Late), bounded(seconds=0.1):
        sum(1 for _ in iter(int, 1))


def test_a_reader_without_bound_is_stopped(tmp_path):
    with pytest.raises(MemoryError), bounded():
        sparse(tmp_path / "x").read_bytes()
    assert len(bomb := zip_bomb("x")) < 2**21  # noqa: RUF018
    with pytest.raises(MemoryError), bounded(128), zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        archive.read("x")


def test_gzip_bombs_are_bombs():
    assert len(bomb := gzip_bomb()) < 2**23  # noqa: RUF018
    with pytest.raises(MemoryError), bounded(128):
        gzip.decompress(bomb)


def test_pickle_bombs_go_off(tmp_path):
    pickle.loads(pickle_bomb(tmp_path / "proof"))
    assert os.listdir(tmp_path) == ["proof"]
