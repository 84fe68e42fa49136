"""Results that a table refuses: damaged, of another version, of another row, twice."""

import math
import re

import pytest
import torch
from fake_results import write

from partialsym.cli.main import main
from partialsym.reproduction.table import load_table, render
from partialsym.runs.schema import correct_images, packed


def test_a_result_that_does_not_belong_is_refused_by_name(tmp_path):
    row, table = "SE2-8/full/MNIST6-180", load_table("mnist6")
    file = write(tmp_path, row, 0, 0.5, format=9)
    with pytest.raises(ValueError, match=f"{file} has format version 9: this version reads 1"):
        render(table, tmp_path)
    write(tmp_path, row, 0, 0.5, config=table.experiment(row, 0).to_dict() | {"modle": {}})
    with pytest.raises(ValueError, match=f"{file} holds no config.*unknown key 'modle'"):
        render(table, tmp_path)
    other = table.experiment(row, 0).to_dict()
    other["training"]["lr"] = 0.25
    write(tmp_path, row, 0, 0.5, config=other)
    with pytest.raises(ValueError, match=r"of a run with training.lr = 0.25: mnist6 has 0.001"):
        render(table, tmp_path)
    file.write_text("[1]")
    with pytest.raises(ValueError, match=f"{file} has format version None"):
        render(table, tmp_path)
    file.write_text('{"format": 1, "conf')
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        render(table, tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"accuracy": 3}, "accuracy = 3: must be a mapping"),
        ({"accuracy": {"test_sampled": [0.5]}}, r"accuracy.test = None: must be a number in \[0, 1\]"),
        ({"accuracy": {"test": 99.1, "test_sampled": [0.5]}}, "accuracy.test = 99.1"),
        (
            {"accuracy": {"test": 0.5, "test_sampled": [0.5], "test_unsampled": 50}},
            r"accuracy.test_unsampled = 50: must be a number in \[0, 1\]",
        ),
        ({"accuracy": {"test": 0.5, "test_sampled": ["x"]}}, "accuracy.test_sampled = .'x'.: must be a list of num"),
        ({"epochs": "4"}, "epochs = 4: must be a number of epochs"),
        ({"images": {}}, "images.train = None"),
        ({"subsets": [{"layer": "last"}]}, "subsets = .*: must be a list of layers"),
        ({"copy_gap": "small"}, "copy_gap = small"),
        ({"response": {}}, "response.angles = None"),
        ({"turned": {}}, "turned.range = None"),
        ({"config": None}, "config = None"),
        ({"config": {"model": {}}}, "config.data = None: must be a mapping"),
        ({"config": {"data": {}, "model": {}}}, "config.data.name = None: must be a name"),
        ({"config": {"data": {"name": "MNIST6-180"}}}, "config.model = None: must be a mapping"),
        ({"config": {"data": {"name": "MNIST6-180"}, "model": {}}}, "config.seed = None: must be a whole number"),
        ({"turned": {"range": 10**400}}, "turned.range = 10*: must be a number of degrees"),
        (
            {"accuracy": {"test": 0.5, "test_sampled": [math.nan]}},
            "accuracy.test_sampled = .nan.: must be a list of num",
        ),
        ({"copy_gap": math.inf}, "copy_gap = inf: must be a number"),
        ({"turned": {"range": math.nan}}, "turned.range = nan: must be a number of degrees"),
        (
            {"subsets": [{"layer": "last", "group": "SE2", "theta_deg": "x"}]},
            "subsets, last: theta_deg = x: must be a num",
        ),
        ({"correct": "x", "images": {"train": 9, "test": 2}}, "is damaged: correct is no compressed text"),
        ({"correct": "é", "images": {"train": 9, "test": 2}}, "is damaged: correct is no compressed text"),
        ({"correct": 3, "images": {"train": 9, "test": 2}}, "is damaged: correct is no compressed text"),
        ({"correct": packed([True] * 9), "images": {"train": 9, "test": 2}}, "correct holds 2 bytes, .* 2 test images"),
        ({"correct": packed([True] * 8), "images": {"train": 9, "test": 2}}, "correct holds 1 bytes, .* 2 test images"),
        ({"correct": packed([True] * 2), "images": {"train": 9, "test": 10**13}}, "correct holds 1 bytes"),
        ({"correct": packed([True] * 2), "images": {"train": 9, "test": 2}}, "correct marks 2 images: .*0.5 is 1"),
        ({"correct": packed([True]), "images": {"train": 9}}, "images.test = None: must be a number of images"),
        ({"altered": "sum"}, "of a run with altered = 'sum': mnist6 has None"),
    ],
)
def test_a_damaged_result_is_one_line(tmp_path, capsys, changed, message):
    file = write(tmp_path / "mnist6", "SE2-8/full/MNIST6-180", 0, 0.5, **changed)
    assert main(["table", "mnist6", "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"partialsym: {file} ")
    assert re.search(message, said)
    assert said.count("\n") == 1


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_which_images_are_correct_is_read_back(size):
    flags = (torch.rand(size, generator=torch.Generator().manual_seed(size)) < 0.9).tolist()
    result = {"correct": packed(flags), "images": {"test": size}, "accuracy": {"test": sum(flags) / size}}
    assert correct_images(result) == flags
    assert correct_images({"accuracy": {"test": 0.5}}) is None


def test_no_run_counts_twice_and_no_two_data_sets_are_one_row(tmp_path):
    row, table = "SE2-4/full/rotMNIST", load_table("table2")
    file = write(tmp_path, row, 0, 0.9, table="table2", data="rotMNIST-generated")
    assert "| rotMNIST-generated |" in render(table, tmp_path)
    copy = file.with_name("seed7.json")
    copy.write_text(file.read_text())
    with pytest.raises(ValueError, match=f"{copy} is of seed 0: it must be called so"):
        render(table, tmp_path)
    copy.unlink()
    (file.parent / "seed0").mkdir()
    (file.parent / "seed0" / "result.json").write_text(file.read_text())
    with pytest.raises(ValueError, match=r"is seed 0, and so is .*: one of them must go"):
        render(table, tmp_path)
    (file.parent / "seed0" / "result.json").unlink()
    write(tmp_path, row, 1, 0.9, table="table2", data="rotMNIST")
    with pytest.raises(ValueError, match=r"runs on different data: rotMNIST, rotMNIST-generated\."):
        render(table, tmp_path)
