"""The committed benchmark: what the documents say is what was measured, and every target was met."""

import json

import pytest

from benchmarks.soak import LIMIT, said
from benchmarks.tables import ROOT, processes, texts

ROWS = json.loads((ROOT / "results.json").read_text(encoding="utf-8"))


def test_every_target_is_met():
    gated = [row for row in ROWS if row["target"] is not None]
    assert len(gated) >= 18
    assert [row["name"] for row in gated if not row["ok"] or row["value"] > row["target"]] == []


def test_the_results_are_of_one_committed_state():
    assert len({row["git"]["commit"] for row in ROWS}) == 1
    assert not any(row["git"]["dirty"] for row in ROWS)


@pytest.mark.parametrize("path", texts(ROWS), ids=lambda path: path.name)
def test_a_document_says_what_was_measured(path):
    """`python -m benchmarks.tables` writes it."""
    assert texts(ROWS)[path] in path.read_text(encoding="utf-8")


def test_two_processes_were_faster_than_one_and_the_document_says_by_how_much():
    rows = json.loads((ROOT / "processes.json").read_text(encoding="utf-8"))
    assert all(row["interval"][1] < 1 and not row["git"]["dirty"] for row in rows)
    for path, text in processes(rows).items():
        assert text in path.read_text(encoding="utf-8")


def test_the_soak_was_flat_and_the_document_says_how_flat():
    record = json.loads((ROOT / "soak.json").read_text(encoding="utf-8"))
    assert not record["git"]["dirty"]
    assert record["training"]["seconds"] >= 3600
    assert record["predicting"]["predictions"] >= 100_000
    text = (ROOT.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    for name in ("training", "predicting"):
        assert record[name]["slope"]["high"] < LIMIT
        assert f"{name}: {said(record[name])}" in text
