"""People's own images through the command line: trained on, evaluated, predicted."""

import csv
import io
import json

import pytest
from made_folder import HOSTILE, flat, png

from partialsym.cli.main import main
from partialsym.runs.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SMALL = ["--model.group", "SE2", "--model.samples", "2", "--model.width", "2", "--model.kernel_size", "3"]
BRIEF = ["--training.epochs", "1", "--training.batch_size", "8", "--progress", "false"]


def fit(tmp_path, name, *options):
    out = ["--out", str(tmp_path / "runs"), "--name", name]
    return main(["fit", *out, *SMALL, *BRIEF, *options]), Run(tmp_path / "runs" / name / "seed0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder whose name is that of a paired data set, with hostile classes, and a run on it."""
    place = tmp_path_factory.mktemp("own")
    root = flat(place / "mine-180", **{HOSTILE[0]: 12, HOSTILE[2]: 9})
    # `--data folder` is short for `--data.source folder`
    status, run = fit(
        place, "own", "--data", "folder", "--data.root", str(root), "--data.size", "12", "--data.fit=crop"
    )
    assert status == 0
    return root, run


def test_a_folder_is_trained_on_and_its_result_says_what_it_is(trained):
    _, run = trained
    result = run.result()
    assert (result["data"], result["config"]["data"]["source"]) == ("mine-180", "folder")
    assert result["imbalance"]["train"]["largest"] == HOSTILE[0]
    assert sum(result["imbalance"]["test"]["images"].values()) == result["images"]["test"]
    assert set(result["scores"]) == {"balanced_accuracy", "auroc", "calibration_error"}
    assert all(0 <= value <= 1 for value in result["scores"].values())
    assert not {"copy_gap", "response"} & result.keys()  # its name is a coincidence
    model = run.model()
    assert (model.size, model.fit, len(model.preprocess.mean)) == ((12, 12), "crop", 3)
    assert set(model.classes) == {HOSTILE[0], HOSTILE[2]}


def test_evaluate_finds_the_folder_again_and_another_root_may_be_given(trained, capsys):
    root, run = trained
    assert main(["evaluate", str(run.folder)]) == 0
    found = capsys.readouterr().out
    assert f"{100 * run.result()['accuracy']['test']:.2f} %" in found
    moved = root.rename(root.with_name("moved"))
    assert main(["evaluate", str(run.folder)]) == 1
    assert "must be an existing folder" in capsys.readouterr().err
    assert main(["evaluate", str(run.folder), "--data.root", str(moved)]) == 0
    assert capsys.readouterr().out == found
    moved.rename(root)


def test_probabilities_as_text_csv_and_json_agree(trained, capsys):
    root, run = trained
    files = [str(path) for path in sorted(root.rglob("*.png"))[:3]]
    said = {}
    for form in ("text", "csv", "json"):
        assert main(["predict", str(run.folder), *files, "--format", form]) == 0
        said[form] = capsys.readouterr().out
    rows = json.loads(said["json"])
    table = list(csv.DictReader(io.StringIO(said["csv"])))
    assert [row["file"] for row in rows] == [row["file"] for row in table] == files
    for row, cells in zip(rows, table, strict=True):
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["class"] == cells["class"] == max(row["probabilities"], key=row["probabilities"].get)
        assert {name: float(cells[name]) for name in row["probabilities"]} == pytest.approx(
            row["probabilities"], abs=1e-6
        )
        assert f"{row['probabilities'][row['class']]:.4f}" in said["text"]


def test_a_folder_may_be_called_otherwise(tmp_path):
    root = flat(tmp_path / "images", a=12, b=9)
    options = ["--data.name", "tiles of May", "--data.size", "12"]
    _, run = fit(tmp_path, "named", "--data", "folder", "--data.root", str(root), *options)
    assert run.result()["data"] == "tiles of May"


def test_every_bad_file_is_listed_on_a_line_of_its_own(tmp_path, capsys):
    root = flat(tmp_path / "bad", a=4, b=4)
    (root / "a" / "broken.png").write_bytes(png(0)[:60])
    (root / "b" / "notes.txt").write_text("x")
    status, run = fit(tmp_path, "bad", "--data=folder", "--data.root", str(root))
    error = capsys.readouterr().err
    assert status == 1
    assert sum("broken.png" in line for line in error.splitlines()) == 1
    assert sum("notes.txt" in line for line in error.splitlines()) == 1
    assert len(error.splitlines()) == 3
    assert not run.folder.exists()


def test_a_saved_hugging_face_data_set_is_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs the extra `hf`")
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    content = {"image": [{"bytes": png(i, (12, 12)), "path": None} for i in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(str(tmp_path / "saved"))
    monkeypatch.chdir(tmp_path)
    status, run = fit(tmp_path, "hf", "--data", "hf", "--data.name", "saved")
    assert status == 0
    assert run.result()["images"]["train"] == 14
    assert run.result()["data"] == "saved"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(run.folder)]) == 0
