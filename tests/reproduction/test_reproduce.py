"""`reproduce`: the queue of a table, stopped and resumed, with rows that fail, published and printed."""

import json
import math
import shlex
from pathlib import Path

import pytest

from partialsym.cli.main import main
from partialsym.reproduction.table import Table, load_table, render, tables as all_tables
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FIRST, SECOND = "SE2/partial/digits", "T2/plain/digits"
SMALL = Table(
    "small",
    "Small, test accuracy in %",
    rows={FIRST: 99.5, SECOND: None},
    settings={
        "*": {"data": {"name": "digits-6-M"}, "model": {"width": 2, "hidden": 2, "kernel_size": 3}},
        "SE2/*": {"model": {"group": "SE2", "samples": 2}},
        "T2/*": {"model": {"group": "T2"}},
    },
    budgets={"short": {"*": {"training": {"epochs": 2, "batch_size": 64}}}, "long": {"*": {"training": {"epochs": 1}}}},
)


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr("partialsym.cli.reproduce.load_table", lambda name: SMALL)


@pytest.fixture
def steps(monkeypatch):
    """The group of the network at every training step."""
    taken, inner = [], ClassifierModule.training_step

    def training_step(self, batch, index):
        taken.append(self.model.lifting.group.name)
        return inner(self, batch, index)

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)
    return taken


def spoil(monkeypatch, group, step, do):
    """Let `do(loss)` take the place of the loss in one step of the networks of a group."""
    inner = ClassifierModule.training_step

    def training_step(self, batch, index):
        loss = inner(self, batch, index)
        return do(loss) if (self.model.lifting.group.name, self.global_step) == (group, step) else loss

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)


def stop(loss):
    raise KeyboardInterrupt


def reproduce(folder, *args):
    return main(["reproduce", "small", "--seeds", "0", "--out", f"{folder}/runs", "--publish", f"{folder}/all", *args])


def published(folder):
    return sorted(file.relative_to(folder / "all" / "small").as_posix() for file in folder.glob("all/**/*.json"))


@pytest.mark.long
def test_a_stopped_queue_goes_on_where_it_was(tmp_path, monkeypatch, steps, capsys):
    whole = tmp_path / "whole"
    assert reproduce(whole) == 0
    assert capsys.readouterr().out == render(SMALL, whole / "all" / "small") + "\n"
    each = len(steps) // 4  # steps of an epoch
    assert steps == ["SE2"] * 2 * each + ["T2"] * 2 * each
    assert published(whole) == [f"{FIRST}/seed0.json", f"{SECOND}/seed0.json"]
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        spoil(patch, "T2", each + 1, stop)
        assert reproduce(cut) == 130
    assert "the same command" in capsys.readouterr().err
    assert published(cut) == [f"{FIRST}/seed0.json"]
    steps.clear()
    assert reproduce(cut) == 0
    assert steps == ["T2"] * each  # the first row is done, and so is the first epoch of the second
    for name in published(whole):
        one, other = (json.loads((folder / "all" / "small" / name).read_text()) for folder in (whole, cut))
        assert one["accuracy"] == other["accuracy"]
        assert one["history"] == other["history"]
    steps.clear()
    assert reproduce(cut) == 0
    assert reproduce(cut, "--out", f"{tmp_path}/elsewhere") == 0
    assert not steps  # what is published is done
    assert not (tmp_path / "elsewhere").exists()
    (cut / "all" / "small" / SECOND / "seed0.json").unlink()
    assert reproduce(cut) == 0
    assert published(cut) == published(whole)
    assert not steps  # and what has been run is published


def test_a_row_that_fails_does_not_keep_the_others(tmp_path, monkeypatch, capsys, caplog):
    with monkeypatch.context() as patch:
        spoil(patch, "SE2", 1, lambda loss: loss * math.nan)
        assert reproduce(tmp_path) == 1
    out, err = capsys.readouterr()
    assert err == f"partialsym: 1 of 2 runs failed, for reasons given above: {FIRST} (seed 0).\n"
    assert f"{FIRST}, seed 0, failed: training diverged at step 1" in caplog.text
    assert out == render(SMALL, tmp_path / "all" / "small") + "\n"
    assert published(tmp_path) == [f"{SECOND}/seed0.json"]
    assert reproduce(tmp_path) == 0
    assert published(tmp_path) == [f"{FIRST}/seed0.json", f"{SECOND}/seed0.json"]


def test_what_would_stop_the_queue_later_is_said_before_it_begins(tmp_path, steps, capsys):
    (tmp_path / "all").write_text("no folder")
    assert reproduce(tmp_path) == 1
    assert "File exists" in capsys.readouterr().err
    (tmp_path / "all").unlink()
    folder = tmp_path / "runs" / "small" / SECOND / "seed0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: small/{SECOND}\ndata: {{name: digits-6-180}}\n")
    assert reproduce(tmp_path) == 1
    assert "config.yaml has data.name = 'digits-6-180', but this run has 'digits-6-M'" in capsys.readouterr().err
    assert not steps


def test_seeds_of_a_row_are_run_on_the_same_data(tmp_path, steps, capsys):
    assert reproduce(tmp_path, "--rows", "T2/*") == 0
    file = tmp_path / "all" / "small" / SECOND / "seed0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": "others"}))
    steps.clear()
    assert reproduce(tmp_path, "--seeds", "0,1") == 1
    assert f"{SECOND} was run on others, not on digits-6-M: use another --publish." in capsys.readouterr().err
    assert not steps


@pytest.mark.long
def test_each_budget_is_published_to_a_place_of_its_own(tmp_path, steps, capsys):
    assert reproduce(tmp_path, "--rows", "T2/*", "--budget", "long") == 0
    assert published(tmp_path) == [f"{SECOND}/long/seed0.json"]
    steps.clear()
    assert reproduce(tmp_path, "--rows", "T2/*", "--budget", "long") == 0
    assert not steps
    assert reproduce(tmp_path, "--rows", "T2/*") == 0
    assert steps
    assert published(tmp_path) == [f"{SECOND}/long/seed0.json", f"{SECOND}/seed0.json"]
    assert main(["reproduce", "small", "--budget", "middle"]) == 1
    assert "small has no budget 'middle': must be one of short, long" in capsys.readouterr().err


def test_a_first_look_is_short_tests_few_images_and_is_not_published(tmp_path, steps, monkeypatch, capsys):
    images = {"train_images": 64, "test_images": 20}
    most = {"data": images, "training": {"epochs": 1, "recalibration_images": 32}}
    monkeypatch.setattr("partialsym.reproduction.table.TINY_LIMITS", most)
    assert reproduce(tmp_path, "--rows", "T2/*", "--budget", "tiny") == 1
    assert "--publish is " in (said := capsys.readouterr().err)
    assert "must be left out, because the budget tiny produces no results" in said
    assert not steps
    assert not (tmp_path / "all").exists()
    assert main(["reproduce", "small", "--rows", "T2/*", "--budget", "tiny", "--out", f"{tmp_path}/runs"]) == 0
    assert len(steps) == 1
    (file,) = tmp_path.rglob("result.json")
    assert file == tmp_path / "runs" / "small" / SECOND / "tiny" / "seed0" / "result.json"
    result = json.loads(file.read_text())
    assert (result["images"]["train"], result["images"]["test"]) == (64, 20)
    assert result["config"]["data"]["test_images"] == 20
    assert list(result["imbalance"]["test"]["images"].values()) == [10, 10]
    runs = tmp_path / "runs" / "small"
    assert capsys.readouterr().out == render(SMALL, runs, [SECOND], ["tiny"]) + "\n"
    assert render(SMALL, runs) == render(SMALL, tmp_path / "nothing")  # it is not among the results


def test_the_queues_of_the_makefile_name_rows_and_budgets_there_are():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    calls = [
        shlex.split(line.removesuffix(" $(NEXT)"))[1:]
        for line in makefile.splitlines()
        if line.startswith("\t$(REPRODUCE)")
    ]
    assert {name for name, *_ in calls} == set(all_tables())
    for name, *options in calls:
        chosen = dict(zip(options[::2], options[1::2], strict=True))
        assert chosen.keys() <= {"--rows", "--seeds", "--budget"}
        load_table(name).select(chosen.get("--rows", "*"))
        load_table(name).budget(chosen.get("--budget"))
