"""An editor knows the type of every public name: mypy and pyright on what a user writes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import partialsym as ps

ROOT = Path(ps.__file__).parents[1]
EXAMPLE = """
import torch
import partialsym as ps
from partialsym import *

rotations = ps.SE2()
conv = ps.GroupConv(1, 8, domain=ps.T2(), codomain=ps.haar(rotations, samples=8), kernel_size=5)
net = ps.GResNet("SE2", width=4, kernel_size=3, partial=False)
reveal_type(net)
reveal_type(Signal.image(torch.randn(4, 1, 28, 28)))
ps.GResNet("SE2", width="4")
ps.GResNet("SE2", kernel_size="3")
ps.GResNet("SE2", widht=4)
ps.nothing
"""
LINES = [EXAMPLE[: EXAMPLE.index(text)].count("\n") + 1 for text in ('width="4"', 'size="3"', "widht", "ps.nothing")]


@pytest.fixture
def example(tmp_path):
    file = tmp_path / "example.py"
    file.write_text(EXAMPLE, encoding="utf-8")
    return file


@pytest.mark.long
def test_mypy_knows_the_public_names(example):
    command = [sys.executable, "-m", "mypy", "--config-file=", "--output=json", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=example.parent, env={"MYPYPATH": str(ROOT)})
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [one["line"] for one in found if one["severity"] == "error"] == LINES, done.stdout
    types = " ".join(one["message"] for one in found if one["severity"] == "note")
    assert "partialsym.models.gresnet.GResNet" in types
    assert "partialsym.signal.Signal" in types


@pytest.mark.long
def test_pyright_knows_the_public_names(example):
    pyright = shutil.which("basedpyright", path=Path(sys.executable).parent)
    if pyright is None:
        pytest.skip("basedpyright is not installed")
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, str(example)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=example.parent)
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert [one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"] == LINES
    types = " ".join(one["message"] for one in found if one["severity"] == "information")
    assert 'Type of "net" is "GResNet"' in types
    assert '"Signal"' in types
