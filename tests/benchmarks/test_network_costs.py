"""The table of networks: what is counted is what is run, a step that is too long is not run, and it is rendered."""

import json

import pytest
import torch

from benchmarks import networks, tables
from benchmarks.rows import Book
from partialsym.models import create
from partialsym.models.dense_twin import dense_twin
from partialsym.profiling import Step, operations


def small(monkeypatch):
    def made(name, **settings):
        return create(name, group="SE2", samples=4, width=2, hidden=2, **settings).train()

    monkeypatch.setattr(networks, "made", made)
    monkeypatch.setattr(networks, "SIDES", {8: 2, 96: 1})
    monkeypatch.setattr(networks, "PAIRS", 1)
    monkeypatch.setattr(networks, "SIDE", 8)
    monkeypatch.setattr(networks, "IMAGES", 2)
    return made


def test_what_is_counted_on_meta_is_what_is_run(monkeypatch):
    made = small(monkeypatch)
    found = networks.counted("gunet", 2, 9)
    model = made("gunet")
    for key, net in (("ours", model), ("twin", dense_twin(model))):
        step = Step(net, *networks.batch("gunet", 2, 9))
        assert found[key]["operations"] == operations(step)
        assert found[key]["parameters"] == sum(p.numel() for p in net.parameters())


@pytest.mark.long
def test_the_table_is_written_and_rendered(monkeypatch, tmp_path, capsys):
    small(monkeypatch)
    most = networks.counted("gconvnext", 1, 96)["twin"]["operations"]
    monkeypatch.setattr(networks, "MOST", most - 1)
    networks.main(["--networks", "gconvnext", "--out", str(tmp_path / "networks.json")])
    found = json.loads((tmp_path / "networks.json").read_text())
    run, counted = found["networks"]
    assert run["ours"]["seconds"] > 0
    assert run["quotient"] > 0
    assert counted["ours"]["seconds"] is None
    assert counted["ours"]["operations"] > 0
    assert [row["target"] for row in found["required"]] == [6, None, 0.8]
    ((path, text),) = tables.networks(found).items()
    assert path.name == "networks.md"
    rows = [line for line in text.splitlines() if line.startswith("| gconvnext")]
    assert all(row.count("|") == 10 for row in rows)
    assert rows[1].endswith("|  |  |  |  |")
    assert "gresnet18 SE2-4, 8×8, batch 2" in text
    assert "gresnet18" in capsys.readouterr().out


def test_the_memory_that_checkpointing_saves_is_measured(monkeypatch):
    small(monkeypatch)
    torch.manual_seed(0)
    found = networks.measured("gresnet18_cifar", 4, 16, 1, checkpoint=True)
    assert 0 < found["checkpointed"] < found["ours"]["memory"]
    assert Book().rows == []


def test_the_document_says_what_was_measured():
    """`python -m benchmarks.tables` writes it."""
    measured = json.loads((tables.ROOT / "networks.json").read_text(encoding="utf-8"))
    for path, text in tables.networks(measured).items():
        assert text in path.read_text(encoding="utf-8")
