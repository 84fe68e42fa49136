"""What is committed under results/ and said in the documents is one thing."""

from pathlib import Path

import numpy as np
import pytest
from helpers import few
from PIL import Image

from partialsym.figures import of_table, save
from partialsym.reproduction.table import load_table, render, tables
from partialsym.runs.schema import read_json, read_result
from studies import (
    answers,
    claim,
    controls,
    identifiability,
    lifting,
    reproduction,
    verdict_simulation,
    visibility,
    yardstick,
)
from studies.departures import RESULTS, TASKS

ROOT = Path(__file__).parents[2] / "results"
FOLDERS = sorted(folder.name for folder in ROOT.iterdir() if folder.name in tables())
ASKING = answers, verdict_simulation, visibility, yardstick


@pytest.mark.parametrize("name", few(FOLDERS, "mnist6", "table2"))
def test_the_table_beside_the_results_is_theirs(name):
    text = render(load_table(name), ROOT / name)
    assert (ROOT / name / "table.md").read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("name", few(FOLDERS, "mnist6"))
def test_the_pictures_beside_the_results_are_theirs(name, tmp_path):
    drawn = of_table(load_table(name).longest(ROOT / name))
    assert {f"{of}.png" for of in drawn} == {file.name for file in (ROOT / name).glob("*.png")}
    for of, figure in drawn.items():
        same_picture(save(figure, tmp_path / f"{of}.png"), ROOT / name / f"{of}.png")


def test_the_picture_of_the_claim_is_that_of_the_results(tmp_path):
    same_picture(save(claim.picture(), tmp_path / "seconds.png"), claim.PICTURE)


def same_picture(*files):
    now, held = (np.asarray(Image.open(file).convert("L"), dtype=int) for file in files)
    assert now.shape == held.shape, f"run `make tables`: {files[1]} is out of date"
    other = np.count_nonzero(abs(now - held) > 32)  # of processors' roundings there are none so large
    assert other == 0, f"run `make tables`: {files[1]} is out of date in {other} pixels"


def test_every_result_belongs_to_a_row_and_was_run_with_committed_code():
    folders = {}
    for table in map(load_table, FOLDERS):
        for budget in table.budgets:
            folders |= {ROOT / table.name / table.place(row, budget): (table, row, budget) for row in table.rows}
    altered = {RESULTS / task.row / departure for task in TASKS for departure in task.departures}
    altered |= {controls.place(row, change).parent for row, changes in controls.TRIALS for change in changes}
    read_out = {identifiability.RESULTS / row for row in load_table("sectors").rows}
    read_out |= {study.RESULT.parent for study in (verdict_simulation, visibility, yardstick)}
    read_out |= {lifting.RESULTS, answers.RESULTS}
    files = list(ROOT.rglob("*.json"))
    assert len(files) >= 24
    for file in files:
        assert file.parent in {*folders, *altered, *read_out}, f"{file} is of no row"
        result = read_json(file) if file.parent in read_out else read_result(file)
        assert result["git"]["commit"], file
        assert not result["git"]["dirty"], file
    for folder, (table, row, budget) in folders.items():
        assert len(table.results(ROOT / table.name, row, budget)) == len(list(folder.glob("seed*.json")))


@pytest.mark.parametrize(
    "of", [answers, claim, reproduction, identifiability, lifting, verdict_simulation, visibility, yardstick]
)
def test_a_document_holds_its_tables(of):
    document = of.DOCUMENT.read_text(encoding="utf-8")
    for mark, text in of.texts().items():
        assert f"<!-- {mark} -->\n\n{text}\n<!-- /{mark} -->" in document, f"run `make tables`: {mark} is out of date"
