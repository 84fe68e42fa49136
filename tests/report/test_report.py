"""A report holds the runs' numbers, and is all or nothing."""

import pytest
import torch
from fake_results import LAYERS, result
from helpers import few_angles
from reports import behaved, read, write_run
from training import TINY, run

from partialsym.cli.main import main
from partialsym.config import Experiment
from partialsym.export.conversion import to_conv2d
from partialsym.report import report
from partialsym.report.collect import gather
from partialsym.report.subsets import undecided
from partialsym.report.text import spread
from partialsym.report.verdicts import judge
from partialsym.runs.run import Run
from partialsym.training.behaviour import behaviour


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.html"


def three(root, name="SE2", right=0.9, **options):
    runs = []
    for seed in range(3):
        content = result(name, seed=seed, run=f"run-{name}", test=0.9 + seed / 100, **options)
        runs.append(write_run(root / name, content, behaved(right=right, shift=seed / 100)))
    return runs


def test_numbers_on_the_page_are_those_of_the_runs(tmp_path, out):
    page = read(report(three(tmp_path, p=0.4), out))
    for text in ("91.00 ± 1.00", "75.00 ± 0.00", "12,345", "60.0 ± 0.0", "abc123, with changes", "torch 2.13.0"):
        assert text in page.text
    for text in ("180°", "12 ± 0", "MNIST6-180", "3 runs of 1 method"):
        assert text in page.text


def test_the_verdict_comes_first(tmp_path, out):
    runs = [*three(tmp_path, "T2", right=0.5), *three(tmp_path, "SE2", right=0.9)]
    page = read(report(runs, out))
    verdict = judge(gather(runs)).verdict
    assert verdict is not None
    said = [
        verdict.headline,
        verdict.best,
        *(text for f in verdict.findings for text in (f.question, f.answer, f.text)),
    ]
    places = [page.text.index(text) for text in said]
    assert places == sorted(places)
    assert places[-1] < page.text.index("Accuracy")
    assert f"90.0 ({100 * verdict.standings[0].accuracy.low:.1f} to" in page.text
    assert page.text.index("run-SE2") < page.text.index("run-T2")


def test_runs_that_cannot_be_compared_say_why_in_its_place(tmp_path, out):
    other = behaved(("cat", "dog", "bird"))
    runs = [write_run(tmp_path, result("T2", run="a"), behaved()), write_run(tmp_path, result(run="b"), other)]
    page = read(report(runs, out))
    assert "There is no verdict" in page.text
    assert "different test images" in page.text
    assert [len(of["classes"]) for of in page.data["images"]] == [2, 3]


def test_without_model_or_data_the_page_leaves_behaviour_out(tmp_path, out):
    alone = write_run(tmp_path / "a", result(response=True))
    page = read(report([alone], out))
    assert "No model, or no data, could be read: " in page.text
    assert str(alone.folder / "model") in page.text
    assert "Answers while the image turns" not in page.text
    assert "Answers to turned images" in page.text
    assert "What each layer uses of the symmetry" in page.text
    assert "methods" not in page.data
    half = [*three(tmp_path, "SE2"), alone]
    page = read(report(half, out))
    assert "The verdict excludes 1 run whose" in page.text
    assert [method["title"] for method in page.data["methods"]] == ["Partial SE(2) G-CNN"]


def test_a_damaged_behaviour_is_left_out_too(tmp_path, out):
    damaged = write_run(tmp_path, result())
    (damaged.folder / "behaviour.json").write_text("{")
    assert "behaviour.json is damaged" in read(report([damaged], out)).text


def test_unfinished_run_is_refused_and_nothing_written(tmp_path, out):
    done, begun = write_run(tmp_path, result(), behaved()), Run(tmp_path / "e2" / "seed7")
    begun.begin(Experiment("e2", seed=7))
    for target in (out, tmp_path / "folder"):
        with pytest.raises(FileNotFoundError, match="has not finished"):
            report([done, begun], target)
        with pytest.raises(FileNotFoundError, match="is not a run folder"):
            report([done, Run(tmp_path / "e2" / "seed8")], target)
        with pytest.raises(ValueError, match="no runs"):
            report([], target)
        assert not target.exists()


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path, out, monkeypatch):
    runs = three(tmp_path)
    out.write_text("old")
    monkeypatch.setattr("partialsym.report.output.page", lambda *_, **__: 1 / 0)
    for target in (out, tmp_path / "folder"):
        with pytest.raises(ZeroDivisionError):
            report(runs, target)
    assert out.read_text() == "old"
    assert not (tmp_path / "folder").exists()


def test_folder_has_page_tables_and_figures(tmp_path):
    path = report(three(tmp_path, response=True), tmp_path / "out")
    assert path == tmp_path / "out" / "index.html"
    tables = [f"{name}.csv" for name in ("accuracy", "errors", "responses", "subsets", "training", "unchanged")]
    figures = ["responses.png", "subsets.png", "training.png"]
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([*tables, *figures, "index.html"])
    page = read(path)
    assert sorted(load for load in page.loads if not load.startswith("data:")) == tables
    assert page.data["files"] == {}


def test_same_name_with_other_settings_is_another_method(tmp_path, out):
    runs = [write_run(tmp_path, result(name)) for name in ("E2", "SE2")]
    assert "e2 (2)" in read(report([*runs, runs[0]], out)).text
    again = write_run(tmp_path, result("E2"))
    with pytest.raises(ValueError, match="seed 0 of 'e2'"):
        report([runs[0], again], out)


def test_a_result_older_than_a_setting_is_of_the_method_with_its_default(tmp_path):
    old = result("E2")
    del old["config"]["model"]["network"]
    del old["config"]["training"]["compile"]
    assert len(gather([write_run(tmp_path, old), write_run(tmp_path, result("E2", seed=1))])) == 1


def test_what_was_asked_leads(tmp_path, out):
    page = read(report(three(tmp_path), out, asked="Six or nine?\n\nIn 2 hours."))
    start = page.text.index("Which symmetries does MNIST6-180 have?")
    verdict = page.text.index("is the only method")
    assert start < page.text.index("Six or nine?") < verdict < page.text.index("In 2 hours.")


def test_methods_of_one_title_are_told_apart(tmp_path, out):
    contents = [result("SE2", run=f"n{n}") for n in (4, 8)]
    contents[0]["config"]["model"]["samples"] = 4
    judged = judge(gather([write_run(tmp_path, content, behaved()) for content in contents]))
    assert [method.title for method in judged.methods] == ["Partial SE(2) G-CNN (n4)", "Partial SE(2) G-CNN (n8)"]
    assert set(judged.standings) == {"n4", "n8"}


def test_dials_are_of_what_was_learned(tmp_path, out):
    for name, options, dials in (("E2", {"theta": 180.0, "p": 1.0}, 0), ("T2", {}, 0), ("E2", {"p": 1.0}, 3)):
        run = write_run(tmp_path, result(name, **options))
        page = read(report([run], out))
        assert page.tags.count("figcaption") == dials
        assert ("every layer uses the whole group." in page.text) == ("theta" in options)


def test_undecided_layers_are_named(tmp_path, out):
    page = read(report([write_run(tmp_path, result(p=0.4, test=0.92))], out))
    assert "e2, seed 0: lifting P(m) .40" in page.text
    assert "Deterministic 92.00 %, sampled 75.00 %" in page.text
    assert undecided(result(p=0.29)) == []
    assert undecided(result(p=0.7)) == [f"{layer} P(m) .70" for layer in LAYERS]


def test_elements_that_validation_chose_are_named(tmp_path, out):
    content = result()
    assert "Elements chosen by validation" not in read(report([write_run(tmp_path, content)], out)).text
    content["components"] = {"by_probability": 0.5, "drawn": 0.98, "chosen": 0.99, "changed": {"last P(m)": False}}
    page = read(report([write_run(tmp_path, content)], out))
    assert "Elements chosen by validation" in page.text
    assert "e2, seed 0: omits last P(m). Accuracy on validation images: 50.0 % with all components" in page.text


def test_numbers_in_words():
    assert spread([1.0]) == "1.00"
    assert spread([1.0, 3.0], 1) == "2.0 ± 1.4"


@pytest.mark.long
@pytest.mark.slow
def test_report_of_a_real_run_from_the_command_line(tmp_path, out, capsys, monkeypatch):
    few_angles(monkeypatch)
    trained = run(tmp_path / "runs", TINY)
    assert main(["report", str(trained.folder), "--data.root", str(tmp_path), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"report: {out}\n"
    page = read(out)
    assert page.data["methods"][0]["title"] == "Partial E(2) G-CNN"
    assert (trained.folder / "behaviour.json").is_file()
    model = trained.model()
    found = []

    def count(layer, given, answer):
        weights = layer.weight.numel() / layer.weight.shape[0]
        found.append(weights * answer.numel())

    frozen = to_conv2d(model.model)
    for layer in frozen.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    frozen(torch.zeros(1, len(model.preprocess.mean), *model.size))
    assert behaviour(trained)["multiply_adds"] == sum(found)
    assert f"{sum(found) / 1e6:,.1f} M" in page.text
