"""What a release has written, later versions read: run folders made once by `tests/fixtures/make.py`."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from partialsym.cli.main import main
from partialsym.config import ConfigError, Experiment
from partialsym.models.saving import StoreError
from partialsym.runs.run import Run
from partialsym.runs.verify import examine
from partialsym.training.fit import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMATS = sorted(FIXTURES.glob("format-*"))
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # another processor sums in another order


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make", FIXTURES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runs(request, tmp_path):
    """A copy that may be written to."""
    return shutil.copytree(request.param, tmp_path / "runs")


every_format = pytest.mark.parametrize("runs", FORMATS, indirect=True, ids=[folder.name for folder in FORMATS])


def test_there_are_fixtures_and_they_are_small():
    assert FORMATS
    for folder in FORMATS:
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 200_000


@every_format
def test_a_finished_run_is_read_whole(runs, make):
    run = Run(runs / "finished" / "seed0")
    assert examine(run).faults == []
    assert run.config().to_dict() == Experiment.from_dict(run.result()["config"]).to_dict()
    assert run.history() == run.result()["history"]
    expected = json.loads((runs / "answers.json").read_text())
    torch.testing.assert_close(torch.tensor(make.answers(run)), torch.tensor(expected), **CLOSE)
    assert train(run.config(), runs, resume=True).folder == run.folder


@every_format
def test_a_stopped_run_goes_on_and_ends_as_the_finished_one_did(runs, make):
    stopped = Run(runs / "stopped" / "seed0")
    assert not stopped.finished
    assert examine(stopped).faults == []
    resumed = train(stopped.config(), runs, resume=True, progress=False)
    expected = json.loads((runs / "answers.json").read_text())
    torch.testing.assert_close(torch.tensor(make.answers(resumed)), torch.tensor(expected), **CLOSE)
    assert examine(resumed).faults == []


@every_format
def test_the_config_of_a_run_is_a_config_to_start_from(runs, capsys):
    config = runs / "finished" / "seed0" / "config.yaml"
    assert main(["fit", "--config", str(config), "--out", str(runs), "--resume"]) == 0


def newer(path):
    """The same file, of a later format."""
    if path.suffix == ".yaml":
        path.write_text(re.sub(r"^# format \d+\n", "# format 9\n", path.read_text()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 9}))
    else:
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["partialsym"]["format"] = 9
        torch.save(checkpoint, path)


@pytest.mark.parametrize(
    ("file", "read", "error"),
    [
        ("config.yaml", lambda run: run.config(), ConfigError),
        ("result.json", lambda run: run.result(), ValueError),
        ("manifest.json", lambda run: run.manifest(), ValueError),
        ("model/model.json", lambda run: run.model(), StoreError),
        ("checkpoints/last.ckpt", lambda run: _raise(examine(run).faults), ValueError),
    ],
)
def test_every_file_says_its_format_and_a_later_one_is_refused_by_name(tmp_path, file, read, error):
    run = Run(shutil.copytree(FORMATS[-1] / "finished" / "seed0", tmp_path / "seed0"))
    newer(run.folder / file)
    with pytest.raises(error, match=rf"{Path(file).name} has format version 9[:;] this version reads 1"):
        read(run)


def _raise(faults):
    raise ValueError("\n".join(faults))


def test_a_run_of_the_first_release_which_had_fewer_formats_is_read(tmp_path, capsys):
    run = Run(shutil.copytree(FORMATS[0] / "stopped" / "seed0", tmp_path / "stopped" / "seed0"))
    path = run.folder / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    del tree["training"]["diverged"]
    path.write_text(yaml.safe_dump(tree))
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    del checkpoint["partialsym"]["format"]
    torch.save(checkpoint, run.checkpoint)
    assert train(run.config(), tmp_path, resume=True, progress=False).finished
    (run.folder / "manifest.json").unlink()
    assert main(["check", str(run.folder)]) == 0
    assert "no manifest.json: the run is of an earlier version" in capsys.readouterr().out
