"""The four questions on CIFAR: differences paired over test images, and cells without runs."""

import math

import pytest
import torch
from fake_results import write

from partialsym.runs.schema import packed
from studies import claim

N = 1000


def result(flags, seed=0):
    share = float(flags.double().mean())
    return {"correct": packed(flags.tolist()), "images": {"test": N}, "accuracy": {"test": share}, "seed": seed}


def flags(right, seed=0):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    return torch.zeros(N, dtype=torch.bool).scatter(0, order[:right], value=True)


def test_a_difference_is_paired_over_images():
    ours, theirs = flags(700), flags(600)  # the same order: ours answers everything that theirs does
    found = claim.paired([result(ours)], [result(theirs)])
    d = ours.double() - theirs.double()
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.mean == pytest.approx(1.962 * float(d.std()) / math.sqrt(N), rel=1e-3)
    apart = claim.paired([result(ours)], [result(flags(600, seed=1))])  # the same accuracies, other images
    assert apart.mean == pytest.approx(0.1)
    assert apart.high - apart.low > 2 * (found.high - found.low)
    back = claim.paired([result(theirs)], [result(ours)])
    assert (back.mean, back.low) == pytest.approx((-found.mean, -found.high))


def test_seeds_that_differ_widen_the_interval():
    alike = claim.paired([result(flags(700))] * 2, [result(flags(600))] * 2)
    spread = claim.paired([result(flags(750)), result(flags(650))], [result(flags(650)), result(flags(550))])
    assert spread.mean == pytest.approx(alike.mean)
    assert spread.high - spread.low > 2 * (alike.high - alike.low)


def test_an_answer_needs_an_interval_without_0():
    assert claim.verdict(claim.paired([result(flags(700))], [result(flags(600))])) == "yes"
    assert claim.verdict(claim.paired([result(flags(600))], [result(flags(700))])) == "no"
    assert claim.verdict(claim.paired([result(flags(602, 1))], [result(flags(600))])) == "not decided"


def test_a_question_without_runs_has_empty_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "FOLDER", tmp_path)
    lines = claim.answers().splitlines()
    assert len(lines) == 2 + len(claim.QUESTIONS)
    assert all(set(line.split("|")[2:-1]) == {"  "} for line in lines[2:])
    for row, right in (("SE2-4/partial/CIFAR-10", 700), ("SE2-4/full/CIFAR-10", 600)):
        of = {"correct": result(flags(right))["correct"], "images": {"train": 45000, "test": N}, "seconds": 90.0}
        write(tmp_path, row, 0, right / N, table="table2", budget="compact", **of)
    first, second = claim.answers().splitlines()[2:4]
    assert first.startswith("| ahead of the G-CNN? | yes | +10.0 [+8.1, +11.9] | 1, 1 |")
    assert set(second.split("|")[2:-1]) == {"  "}  # the CNN was not run
    (axes,) = claim.picture().axes
    assert {text.get_text().split("  ")[0] for text in axes.texts} == {"SE2-4/partial", "SE2-4/full"}


def test_the_questions_name_rows_there_are():
    for data in claim.DATA:
        for question in claim.QUESTIONS:
            for method in (claim.PARTIAL, question.other):
                assert f"{method}{question.suffix}/{data}" in claim.rows()
