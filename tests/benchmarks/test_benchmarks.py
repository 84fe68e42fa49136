"""The committed benchmark: what the documents say is what was measured, and every target was met."""

import importlib.util
import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from networks import shapes
from torch import nn

from benchmarks import __main__ as command, cores, peers, training
from benchmarks.alone import alone
from benchmarks.frozen import Inference, fold
from benchmarks.rows import Book, Row
from benchmarks.soak import LIMIT, said
from benchmarks.tables import PERFORMANCE, ROOT, growth, processes, steps
from benchmarks.training import CASES, Case, plain_cnn
from partialsym import GCNN13, GResNet, GroupConv, to_conv2d
from partialsym.models.dense_twin import dense_twin

NAMES = ("results", "scaling")
ROWS = {name: json.loads((ROOT / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES}


MISSED: set[str] = set()  # docs/performance.md would say why


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(cores, "together", lambda *_: True)


def test_every_other_target_is_met_and_the_document_names_those_that_are_not():
    gated = [row for rows in ROWS.values() for row in rows if None not in (row["target"], row["value"])]
    assert len(gated) >= 18
    assert {row["name"] for row in gated if not row["ok"] or row["value"] > row["target"]} == MISSED
    text = (ROOT.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "## What is near its target" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_results_are_of_one_committed_state(name):
    assert len({row["git"]["commit"] for row in ROWS[name]}) == 1
    assert not any(row["git"]["dirty"] for row in ROWS[name])


@pytest.mark.parametrize(("name", "text"), [("results", steps), ("scaling", growth)], ids=NAMES)
def test_the_document_says_what_was_measured(name, text):
    """`python -m benchmarks.tables` writes it."""
    assert text(ROWS[name]) in PERFORMANCE.read_text(encoding="utf-8")


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


def test_the_networks_are_those_that_the_document_names():
    asked = {"width": 16, "kernel_size": 3, "in_channels": 3}
    narrow = {"group": "SE2", "samples": 8, "width": 8, "kernel_size": 7}
    expected = [
        {"group": "SE2", "samples": 8, "width": 32, "kernel_size": 7, "pools": ("lifting", "block1")},
        {"group": "SE2", "samples": 8, "width": 32, "kernel_size": 7, "pools": ("lifting", "block1")},
        {"group": "SE2", "samples": 4, "width": 32, "pools": ("block1", "block2"), "in_channels": 3},
        *2 * [{"group": "SE2", "samples": 4} | asked, {"group": "E2", "samples": 8} | asked],
        {"group": "SE2", "samples": 8, "width": 128, "kernel_size": 3},
        *2 * [narrow],
    ]
    for case, settings in zip(CASES, expected, strict=True):
        model = case.network()
        found = model.settings | {"samples": model.lifting.codomain.samples}
        assert settings | {"partial": True} == {key: found[key] for key in settings | {"partial": True}}
        assert case.batch[1] == model.in_channels


@pytest.mark.parametrize(
    "model", [GResNet("E2", width=4, samples=4, head="plane"), GCNN13("SE2", width=4, in_channels=3)]
)
def test_the_plain_cnn_has_the_channels_of_one_element(model):
    images, _ = training.batch(2, model.in_channels, 28)
    sizes = [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions(plain_cnn(model), nn.Conv2d)]
    assert sorted(sizes) == sorted(
        (c.in_channels, c.out_channels, c.kernel_size) for c in convolutions(model, GroupConv)
    )
    assert len(shapes(plain_cnn(model), nn.Conv2d, images)) == len(shapes(dense_twin(model), nn.Conv2d, images))


def convolutions(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def small(precision="float32"):
    return Case("small", lambda: GResNet("SE2", width=2, samples=2, kernel_size=3), (2, 1, 12), 1.0, 0.5, precision)


def test_a_case_is_measured_beside_both_networks(capsys):
    book = Book()
    training.training(book, [small()], pairs=6)
    memory, step, plain = book.rows
    assert [row.name for row in book.rows] == [
        f"small: {what}" for what in (training.PEAK, training.STEP, training.PLAIN)
    ]
    assert (memory.target, memory.aim, memory.n) == (1.2, 1.0, 1)
    assert (step.target, step.aim, step.n, plain.target) == (1.0, 0.5, 6, None)
    assert step.interval is not None
    assert step.ours == plain.ours
    assert step.twin != plain.twin  # other networks, in the same rounds
    assert "aim ≤ 0.5" in capsys.readouterr().out


def process(book):
    book.together.patience -= 1
    book.add(Row(str(os.getpid()), torch.initial_seed(), None, None, "", ""))


def test_every_task_has_a_process_of_its_own_and_waits_for_the_cores_only_once():
    book = Book(patience=3.0)
    for _ in range(2):
        alone(book, process)
    assert len({os.getpid(), *(int(row.name) for row in book.rows)}) == 3
    assert [row.value for row in book.rows] == [0, 0]
    assert book.together.patience == 1.0


def test_every_part_and_every_case_is_one_task():
    tasks = command.tasks(CASES, pairs=1)
    assert tuple(tasks) == command.PARTS
    assert [task.keywords["cases"] for task in tasks["training"]] == [[case] for case in CASES]
    assert pickle.dumps(tasks)  # another process can get them


def test_a_case_is_measured_on_its_threads(monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(training, "compare", lambda *_, **__: seen.append(torch.get_num_threads()))
    training.training(Book(), [replace(small(), threads=count) for count in (1, None, 3)])
    assert seen == [1, before, 3]
    assert torch.get_num_threads() == before


def test_inference_of_converted_networks_is_measured_beside_both():
    model = GResNet("SE2", width=2, samples=2, kernel_size=3).eval()
    nets, data = (to_conv2d(model), fold(dense_twin(model)), fold(plain_cnn(model))), training.batch(2, 1, 12)
    book = Book()
    training.compare(book, "small", [Inference(net, *data) for net in nets], 2, what="inference", precision="float32")
    memory, step, _ = book.rows
    image = data[0].nbytes
    assert memory.ours > image
    assert memory.twin > image
    assert step.name == "small: inference"


def test_what_cannot_be_measured_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training, "bf16", lambda: "none")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    book = Book()
    training.training(book, [small("bf16")])
    peers.peers(book)
    assert [(row.value, row.ok) for row in book.rows] == 4 * [(None, None)]
    assert book.missed == []
    assert capsys.readouterr().out.count("not measured here") == 3
    book.write(tmp_path / "results.json")
    table = steps(json.loads((tmp_path / "results.json").read_text(encoding="utf-8")))
    assert "| small: training step | bf16 | not measured here |  | 0 | ≤ 1 | ≤ 0.5 |" in table
    assert "| e2cnn is not installed |" in table


def test_a_trial_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
    assert command.main(["--parts", "training", "--case", "no such"]) == 0
    assert list(tmp_path.iterdir()) == []
