"""Asking of a Hugging Face data set that was saved to disk."""

import io

import pytest
from made_folder import png
from PIL import Image
from processes import POOLS, pools_are

from partialsym.ask import METHODS, planning
from partialsym.ask.question import Question
from partialsym.cli.main import main
from partialsym.config import ConfigError, DataConfig
from partialsym.runs.run import Run
from partialsym.training.fit import load_data

CLASSES = ["zebra", "<b>ape</b>"]  # not in the order of their names, as those of folders are
SIZE, TEST = 12, 200


@pytest.fixture
def save(library, tmp_path):
    """Writes a folder with three splits and two columns of labels, its images numbered from `first`."""
    kinds = {"kind": library.ClassLabel(names=CLASSES), "other": library.ClassLabel(names=["x", "y"])}
    features = library.Features({"picture": library.Image(), **kinds})

    def rows(first, count):
        pictures = [{"bytes": png(first + i, (SIZE, SIZE), "L"), "path": None} for i in range(count)]
        labels = {"kind": [i % 2 for i in range(count)], "other": [i // 2 % 2 for i in range(count)]}
        return library.Dataset.from_dict({"picture": pictures, **labels}, features=features)

    def write(first=0):
        splits = {"train": rows(first, 22), "valid": rows(100, 4), "test": rows(TEST, 4)}
        library.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
        return tmp_path / "saved"

    return write


def test_a_question_is_of_the_images_and_the_labels_that_were_named(save, tmp_path):
    names = tuple(METHODS["Mirror"])
    lengths, seconds = (planning.Length(3, 1, None),), dict.fromkeys(names, planning.Seconds(1.0, 1.0))
    plan = planning.Plan(8, None, names, 11, lengths, seconds, dict.fromkeys(names, 1))

    def question(place, label="kind"):
        data = DataConfig(str(place), source="hf", label=label)
        return Question.of(data, "Mirror", tmp_path / "ask", load_data(data))

    asked = question(save()).planned(plan)
    assert question(save()) == asked
    with pytest.raises(ConfigError, match="other images, not these"):
        question(save(), label="other")  # the same pixels
    with pytest.raises(ConfigError, match="other images, not these"):
        question(save(first=1))


@pytest.mark.parametrize("options", [[], ["--data.root", "saved"]])
def test_without_a_name_it_is_said_where_one_is_given(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ask", "--data", "hf", *options]) == 1
    message = capsys.readouterr().err
    assert "--data hf --data.name NAME" in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=POOLS)
def brief(request, monkeypatch):
    """Six steps a network, of the least width."""
    pools_are(request.param, monkeypatch)
    monkeypatch.setattr(planning, "LEAST", 1)
    monkeypatch.setattr(planning, "MOST", 6)
    monkeypatch.setattr(planning, "WIDTHS", (2,))
    monkeypatch.setattr("partialsym.ask.schedule.MOST_SEEDS", 1)
    monkeypatch.setattr("partialsym.ask.look.STEPS", 2)


def command(name, out):
    asked = ["ask", "--data", "hf", "--data.name", str(name), "--data.label", "kind", "--group", "Mirror"]
    return [*asked, "--seeds", "1", "--workers", "2", "--budget", "99h", "--out", str(out)]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_saved_data_set_is_asked_of_and_its_runs_find_it_from_anywhere(save, brief, tmp_path, monkeypatch, capsys):
    saved = save()
    monkeypatch.chdir(saved.parent)
    assert main(command("saved", "ask")) == 0
    assert "Mirroring: not enough evidence. Both methods share only 1 of 3 seeds" in capsys.readouterr().out
    page = (tmp_path / "ask" / "report.html").read_text(encoding="utf-8")
    assert "<b>ape" not in page
    assert "On 22 training images" in page
    runs = {run.folder.parent.name: run for run in map(Run, (tmp_path / "ask" / "runs").glob("*/seed0"))}
    assert set(runs) == {"plain", "augmented", "Mirror-full", "Mirror-partial"}
    for run in runs.values():
        assert run.model().classes == tuple(CLASSES)
        assert run.result()["images"].items() >= {"train": 22, "validation": 4, "test": 4}.items()
        assert run.config().data.name == str(saved)

    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["evaluate", str(runs["plain"].folder)]) == 0
    assert f"{100 * runs['plain'].result()['accuracy']['test']:.2f} %" in capsys.readouterr().out
    Image.open(io.BytesIO(png(TEST, (SIZE, SIZE), "L"))).save("one.png")
    assert main(["predict", str(runs["plain"].folder), "one.png"]) == 0
    assert capsys.readouterr().out.split("\t")[1] in {"zebra", "<b>ape</b>"}
    assert main(["report", str(runs["plain"].folder), "--out", "page.html"]) == 0
    assert (elsewhere / "page.html").is_file()
