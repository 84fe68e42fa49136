"""Every script of examples/ runs, prints what its page shows, and learns what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from partialsym.data import Dataset, Split

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
PAGES = {page.stem: page for page in sorted((ROOT / "docs" / "examples").glob("*.md"))}


def script(page):
    (name,) = re.findall(r'^--8<-- "examples/(\w+\.py)"$', page.read_text(encoding="utf-8"), re.MULTILINE)
    return ROOT / "examples" / name


def shown(page):
    return re.search(r"^```text\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]


def numbers(line):
    return [float(number) for number in NUMBER.findall(line)]


def run(name, folder):
    """What the script prints, as its own process, outside of the checkout."""
    path = script(PAGES[name])
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, encoding="utf-8", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    assert NUMBER.sub("#", done.stdout) == NUMBER.sub("#", shown(PAGES[name]))  # digits differ from machine to machine
    return done.stdout.splitlines()


def test_every_script_has_its_page_and_every_page_is_found():
    assert sorted(script(page).name for page in PAGES.values()) == sorted(f.name for f in ROOT.glob("examples/*.py"))
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(nav[: nav.index("plugins:")])["extra"]["version"] == {"provider": "mike"}
    for name in PAGES:
        assert f"examples/{name}.md" in nav


@pytest.mark.parametrize("name", ["cifar-resnet18", "lifted-network", "segmentation"])
def test_a_network_takes_fewer_than_40_lines(name):
    assert len(script(PAGES[name]).read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.long
def test_own_training_loop(tmp_path):
    full, partial, *layers = map(numbers, run("own-training-loop", tmp_path))
    assert full[0] == 50  # by symmetry: an image and its copy get one answer
    assert partial[0] > 85
    assert min(layer[-1] for layer in layers) < 150


@pytest.mark.long
@pytest.mark.slow
def test_own_network(tmp_path):
    full, _, _, partial, _, _, kept = map(numbers, run("own-network", tmp_path))
    assert full[0] < 92 < partial[0]
    assert kept[0] < 90


@pytest.mark.long
def test_segmentation(tmp_path):
    plain, left, rotated, kept = map(numbers, run("segmentation", tmp_path))
    assert plain[-3] > plain[-2] + 0.2  # upright, and turned by 90°
    assert rotated[-3] == rotated[-2] > 0.6
    assert left[0] > 0.1
    assert kept == [0, 100]


def test_a_partial_resnet(monkeypatch, capsys):
    """As it stands, but for one epoch of few random images and few channels."""
    images, labels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8)
    splits = [Split(images, labels, torch.arange(8) + 8 * i) for i in range(3)]
    data = Dataset("CIFAR-10", tuple(map(str, range(10))), *splits, (0.5,) * 3, (0.3,) * 3)
    monkeypatch.setattr("partialsym.data.load", lambda name: data)
    code = script(PAGES["cifar-resnet18"]).read_text(encoding="utf-8")
    small = code.replace("EPOCHS, BATCH, WIDTH = 60, 128, 64", "EPOCHS, BATCH, WIDTH = 1, 4, 2")
    assert small != code
    exec(compile(small, "cifar_resnet18.py", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("of 8 test images are right")
    assert said[1] == "lifting uses ±180°"
    assert len(said) > 10


@pytest.mark.long
def test_own_images(tmp_path):
    images, accuracy, *_ = map(numbers, run("own-images", tmp_path))
    assert images == [261, 28, 72]
    assert accuracy[0] > 85


@pytest.mark.long
def test_export(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    accuracy, *_ = map(numbers, run("export", tmp_path))
    assert accuracy[0] > 85


@pytest.mark.long
def test_lifted_network(tmp_path):
    plain, start, tuned = map(numbers, run("lifted-network", tmp_path))
    assert plain[0] > max(plain[4], plain[6]) + 20  # upright, and turned by 90° and 270°
    assert len({*start[4:]} | {start[0]}) == 1  # alike at every quarter turn
    assert tuned[0] > start[0]
