"""Every number that a document takes from results is the one that they give today."""

import json
import re

import pytest

from studies import numbers
from studies.numbers import NUMBER, documents, render, value

MADE = {
    "made/a": [(0.90, [0.80, 0.90], 90.0, 0.5), (0.92, [0.90, 0.90], 60.0, 0.3)],
    "made/b": [(0.80, [0.70, 0.70], 180.0, 0.9)],
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Results of a network with one learned layer: two seeds of `made/a`, the first of them of `made/b`."""
    for path, seeds in MADE.items():
        for seed, (test, draws, theta, probability) in enumerate(seeds):
            result = {
                "format": 2,
                "config": {"seed": seed, "data": {"name": "MNIST"}, "model": {}},
                "accuracy": {"test": test, "test_sampled": draws, "validation": 0.5},
                "images": {"train": 100, "test": 2000},
                "epochs": 4 + seed,
                "parameters": 1234,
                "history": [{"train_accuracy": 0.1}, {"train_accuracy": 0.99}],
                "subsets": [
                    {"layer": "lifting", "group": "E2", "theta_deg": 180.0, "P(m)": 1.0},
                    {"layer": "last", "group": "E2", "theta_deg": theta, "P(m)": probability},
                ],
            }
            file = tmp_path / path / f"seed{seed}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result))
    monkeypatch.setattr(numbers, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_number_is_what_the_results_give(path):
    text = path.read_text(encoding="utf-8")
    assert render(text) == text, f"{path} is out of date: run `make tables`"


def test_there_are_such_numbers_and_another_one_would_be_seen():
    texts = [path.read_text(encoding="utf-8") for path in documents()]
    assert sum(len(NUMBER.findall(text)) for text in texts) > 100
    (text,) = (text for text in texts if text.startswith("# Reproduction"))
    for found in (*NUMBER.finditer(text),)[:3]:
        digit = re.search(r"\d", found["value"]).start() + found.start("value")
        wrong = text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :]
        assert wrong != text
        assert render(wrong) == text


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("accuracy made/a", "91.00 ± 1.41"),
        ("accuracy made/a digits=0 as=range", "90 to 92"),
        ("accuracy made/b", "80.00"),
        ("sampled made/a as=list digits=1", "85.0, 90.0"),
        ("sampled_loss made/a", "3.50"),
        ("validation made/b", "50.00"),
        ("training made/b", "99"),
        ("difference made/a made/b", "10.00"),  # of the one seed that both have
        ("errors_removed made/a made/b", "55"),
        ("standard_error made/b", "0.89"),  # 100 √(0.8 · 0.2 / 2,000)
        ("wrong made/a as=max", "200"),
        ("images made/a", "2,000"),
        ("images made/a train", "100"),
        ("seeds made/a", "2"),
        ("epochs made/a as=range", "4 to 5"),
        ("parameters made/a", "1,234"),
        ("theta made/a", "75"),
        ("theta made/a 1 as=max", "90"),
        ("theta_share made/b", "1.000"),
        ("theta_input made/b", "180"),
        ("probability made/a P(m)", "0.40"),
        ("printed table2/SE2-4/full/rotMNIST", "99.10"),
        ("printed_difference table2/SE2-4/full/rotMNIST table2/T2/plain/rotMNIST", "1.9"),
    ],
)
def test_a_quantity_of_made_results(made, expression, shown):
    assert value(expression) == shown


def test_a_changed_result_changes_the_document(made):
    text = "It reaches <!--= accuracy made/b -->?<!--/--> %."
    assert render(text) == "It reaches <!--= accuracy made/b -->80.00<!--/--> %."
    file = made / "made" / "b" / "seed0.json"
    file.write_text(file.read_text().replace('"test": 0.8,', '"test": 0.7,'))
    assert render(text) == "It reaches <!--= accuracy made/b -->70.00<!--/--> %."


def test_counts_over_the_rows_of_a_table():
    counts = [int(value(f"least mnist6 {layer}")) for layer in range(1, 6)]
    assert sum(counts) == int(value("least_cases mnist6")) == 18  # three seeds of θ, P, and θ and P twice


@pytest.mark.parametrize("path", numbers.BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark(path):
    row = json.loads(path.read_text(encoding="utf-8"))[2]
    assert value(f"benchmark '{row['name']}' {row['precision']} digits=4") == f"{row['value']:.4f}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <!--= accurracy made/a -->1<!--/-->", "'accurracy made/a' names no quantity: must be one of accuracy"),
        ("a <!--= -->1<!--/-->", "names no quantity"),
        ("a <!--= accuracy made/none -->1<!--/-->", "results/made/none holds no results"),
        ("a <!--= accuracy -->1<!--/-->", "missing a required argument: 'path'"),
        ("a <!--= accuracy made/a digit=1 -->1<!--/-->", "has the option 'digit': must be digits or as"),
        ("a <!--= accuracy made/a as=median -->1<!--/-->", "`as` must be one of mean±std"),
        ("a <!--= accuracy made/a digits=few -->1<!--/-->", "`digits` a number"),
        ("a <!--= probability made/a P(x) -->1<!--/-->", r"results/made/a holds no P\(x\)"),
        ("a <!--= printed table2/T2/plain+early-pools/rotMNIST -->1<!--/-->", "nothing is printed for this row"),
        ("a <!--= benchmark 'no such row' -->1<!--/-->", "have 0 rows 'no such row' in float32"),
        ("a <!--= accuracy made/a -->1", "not of the form"),
        ("a <!--= accuracy made/a -->1\n\n<!--= accuracy made/b -->2<!--/-->", "starts a line: put a word before it"),
        ("- <!--= accuracy made/a -->1<!--/-->", "starts a line"),
    ],
)
def test_what_is_no_number_is_refused(made, text, message):
    with pytest.raises(ValueError, match=message):
        render(text)
