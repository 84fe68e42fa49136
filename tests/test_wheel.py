"""What is released: the wheel, installed without the checkout, has everything that the package needs."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

import partialsym as ps

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[1]
MODEL = {"group": "Mirror", "samples": 2, "width": 2, "hidden": 4, "kernel_size": 3}
TINY = [
    *("--data.name", "digits-6-M", "--training.epochs", "1", "--training.compile", "never", "--progress", "false"),
    *(part for key, value in MODEL.items() for part in (f"--model.{key}", str(value))),
]
NETWORK = """
import json, partialsym as ps, torch
torch.manual_seed(0)
net = ps.GResNet("SE2", width=2, samples=4, kernel_size=3, hidden=4).eval()
x = torch.rand(2, 1, 12, 12)
plain = ps.to_conv2d(net, x)
ps.save_model(net, "saved")
print(json.dumps({
    "file": ps.__file__,
    "error": float((plain(x) - net(x)).abs().max()),
    "values": float(ps.load_model("saved")[0](x).abs().sum()),
}))
"""


def python(*arguments, cwd, path=(), check=True):
    """Without site: neither an editable install nor the working directory is on the path, only `path`."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PARTIALSYM_DATA": str(cwd / "no data")}
    done = subprocess.run(
        [sys.executable, "-S", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=env
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def libraries():
    """Where torch is, and partialsym is not but by an editable install."""
    folder = Path(torch.__file__).parents[1]
    assert not (folder / "partialsym").exists()
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the source archive, as a release builds it."""
    pytest.importorskip("hatchling", reason="the extra `dev` is not installed")
    out = tmp_path_factory.mktemp("dist")

    def build(target, source):
        command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=source)
        assert done.returncode == 0, done.stderr
        (made,) = out.glob({"sdist": "*.tar.gz", "wheel": "*.whl"}[target])
        return made

    with tarfile.open(build("sdist", ROOT)) as archive:
        archive.extractall(out, filter="data")
    return build("wheel", out / f"partialsym-{ps.__version__}")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_holds_the_files_of_the_package_and_nothing_else(wheel):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "partialsym"]
    kept = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.split()
    assert "partialsym/py.typed" in kept
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = f"partialsym-{ps.__version__}.dist-info"
        metadata = archive.read(f"{about}/METADATA").decode()
        assert archive.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert names == set(kept)
    assert {Path(name).suffix for name in names} >= {".py", ".html", ".css", ".js", ".yaml", ".typed"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in (
        f"Version: {ps.__version__}",
        "License-Expression: Apache-2.0",
        *map("Classifier: {}".format, project["classifiers"]),
    ):
        assert line in metadata.splitlines()


def test_layers_come_from_the_wheel(installed, libraries, tmp_path):
    done = python("-c", NETWORK, cwd=tmp_path, path=(installed, libraries))
    found = json.loads(done.stdout)
    assert Path(found["file"]) == installed / "partialsym" / "__init__.py"
    assert found["error"] < 1e-5
    assert found["values"] > 0


def test_without_the_wheel_there_is_no_package(libraries, tmp_path):
    """Or these tests would see the checkout."""
    done = python("-c", "import torch; import partialsym", cwd=tmp_path, path=(libraries,), check=False)
    assert done.returncode == 1
    assert "No module named 'partialsym'" in done.stderr


def test_the_command_line_comes_from_the_wheel(installed, libraries, tmp_path):
    """A table, a run, its page and its model: with the tables and the templates that lie in the wheel."""
    command = next(installed.glob("*/partialsym*"), None)  # `bin` or `Scripts`
    assert command is not None

    def partialsym(*arguments):
        return python(command, *arguments, cwd=tmp_path, path=(installed, libraries)).stdout

    assert "usage: partialsym" in partialsym("--help")
    committed = (ROOT / "results" / "mnist6" / "table.md").read_text(encoding="utf-8")
    shown = partialsym("table", "mnist6", "--results", ROOT / "results")
    rows = [line for line in committed.splitlines() if line.startswith("| ")]
    assert len(rows) > 8
    assert [line for line in shown.splitlines() if line.startswith("| ")] == rows
    partialsym("fit", "--name", "tiny", *TINY)
    partialsym("report", "runs/tiny/seed0", "--out", "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.search(r"<style>.*</style>", page, re.DOTALL)
    assert "tiny" in page
    partialsym("export", "runs/tiny/seed0", "--out", "model.pt2")
    assert (tmp_path / "model.pt2").stat().st_size > 1000


def test_the_library_folder_is_that_of_this_interpreter(libraries):
    assert libraries in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
