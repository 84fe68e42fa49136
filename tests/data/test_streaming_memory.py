"""A folder larger than the memory it is trained in."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

STEPS, SIDE = 5, 128  # pixels: 49 kB an image
CODE = """
import json, multiprocessing, os, sys
from pathlib import Path
from faults import SMALL
from dataclasses import replace
from partialsym.config import DataConfig
from partialsym.training.module import ClassifierModule
from partialsym.training.fit import train

def peak(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1000

def step(self, *arguments, before=ClassifierModule.training_step):
    if self.global_step == STEPS:
        print(json.dumps([peak(os.getpid()), *(peak(child.pid) for child in multiprocessing.active_children())]))
        sys.stdout.flush()
        os._exit(0)  # workers notice
    return before(self, *arguments)

ClassifierModule.training_step = step
data = DataConfig(source="folder", root=sys.argv[1], stream=sys.argv[2] == "stream", channels=3)
settings = replace(SMALL.training, batch_size=4, recalibration_images=4)
train(replace(SMALL, data=data, training=settings), sys.argv[3], progress=False)
"""


def images(root, count):
    """In two classes, each of one colour but for its first pixels, which number it."""
    for i in range(count):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[0, :2] = (i % 256, i // 256, 7), (0, 9, 0)
        (folder := root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
        (folder / f"{i}.png").write_bytes(file.getvalue())
    return root


def peaks(root, how, out):
    """Peak memory in MB of the process that trains, and of those that read for it."""
    code = CODE.replace("STEPS", str(STEPS))
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), how, str(out / how / root.name)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_does_not_grow_with_a_folder_that_is_streamed(tmp_path, capsys):
    count = 8400
    few, many = images(tmp_path / "few", 60), images(tmp_path / "many", count)
    pixels = count * SIDE * SIDE * 3 / 1e6
    (base, *_), (kept, *_) = (peaks(root, "memory", tmp_path) for root in (few, many))
    (small, *_), (grown, *readers) = (peaks(root, "stream", tmp_path) for root in (few, many))
    with capsys.disabled():
        said = f"in memory {base:.0f} → {kept:.0f} MB, streamed {small:.0f} → {grown:.0f} MB, readers {readers}"
        print(f"\n{pixels:.0f} MB of pixels: {said}")  # noqa: T201
    assert kept - base > pixels
    assert grown - small < 0.15 * pixels
    assert len(readers) == 2
    assert max(readers) - small < 0.15 * pixels
