"""Asking: what a budget pays for, and a question from images to its page."""

import json
import re

import pytest
import torch
from made_folder import flat
from processes import POOLS, pools_are

from partialsym.ask import METHODS, ask, planning
from partialsym.ask.method_results import FREE
from partialsym.ask.methods import Shape, methods
from partialsym.ask.question import Question
from partialsym.ask.workers import run_one
from partialsym.cli.ask import parse_time
from partialsym.cli.main import main
from partialsym.config import ConfigError, DataConfig
from partialsym.data import Dataset, Split
from partialsym.runs.run import Run

SHAPE = Shape((28, 28), 1, 2)
LENGTH = planning.Length(4, 2, None)


def planned(question, **changed):
    """With a plan of few steps."""
    names = tuple(METHODS[question.group])
    seconds = {name: planning.Seconds(0.05, 0.001) for name in names}
    plan = planning.Plan(8, None, names, 4, (LENGTH,), seconds, dict.fromkeys(names, 100))
    return question.planned(plan._replace(**changed))


@pytest.mark.parametrize("group", METHODS)
def test_methods_differ_only_in_what_the_verdict_allows(group):
    configs = [vars(model) for model in methods(group, SHAPE, 8).values()]
    differ = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert differ <= set(FREE)
    assert {"group", "partial"} <= differ


def test_a_seed_has_its_fold_and_its_length(tmp_path):
    data = DataConfig(source="folder", root=str(tmp_path), name="x", folds=3)
    short = planning.Length(1, 1, 9)
    asked = planned(Question(data, "SE2", tmp_path, ""), lengths=(LENGTH, short), size=(16, 16))
    runs = [asked.experiment("SE2-full", seed, SHAPE) for seed in range(5)]
    assert [run.data.fold for run in runs] == [0, 1, 2, 0, 1]
    assert [run.data.train_images for run in runs] == [None, 9, 9, 9, 9]
    assert [run.training.repeats for run in runs] == [2, 1, 1, 1, 1]
    assert {run.data.size for run in runs} == {(16, 16)}


def images_of(seed=0):
    """A data set of noise."""
    pixels = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels, index = torch.arange(12) % 2, torch.arange(12)
    splits = [Split(pixels[i::3], labels[i::3], index[i::3]) for i in range(3)]
    return Dataset("noise", ("a", "b"), *splits, mean=(0.5,), std=(0.3,))


def test_other_images_under_the_same_name_are_another_question(tmp_path):
    data, out = DataConfig("MNIST"), tmp_path / "ask"
    planned(Question.of(data, "SE2", out, images_of(0)))
    assert Question.of(data, "SE2", out, images_of(0)).plan
    with pytest.raises(ConfigError, match="contains a question with other images, not these"):
        Question.of(data, "SE2", out, images_of(1))


def test_a_folder_holds_one_question(tmp_path):
    asked = planned(Question.of(DataConfig("MNIST"), "SE2", tmp_path / "ask", images_of()))
    again = Question.of(DataConfig("MNIST", root="elsewhere"), "SE2", tmp_path / "ask", images_of())
    assert again.plan == asked.plan
    for data, group, said in (
        (DataConfig("MNIST"), "E2", "other group = 'SE2', not 'E2'"),
        (DataConfig("PCam"), "SE2", "MNIST"),
    ):
        with pytest.raises(ConfigError, match=said):
            Question.of(data, group, tmp_path / "ask", images_of())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="contains no question"):
        Question.of(DataConfig("MNIST"), "SE2", tmp_path / "other", images_of())


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 9}', '{"format": 2, "group": "SE2"}'])
def test_damaged_questions_are_refused(tmp_path, content):
    (tmp_path / "ask.json").write_text(content)
    with pytest.raises(ValueError, match=r"ask\.json|contains a question"):
        Question.of(DataConfig("MNIST"), "SE2", tmp_path, images_of())


@pytest.mark.parametrize(
    "damage",
    [
        {"width": "16"},
        {"batch": None},
        {"lengths": []},
        {"lengths": [[0, 1, None]]},
        {"lengths": [[1, 1, "9"]]},
        {"lengths": [[1, 1]]},
        {"lengths": 5},
        {"seconds": {}},
        {"seconds": 5},
        {"seconds": {"plain": [1]}},
        {"size": [1]},
        {"methods": ["plain"]},
        {"methods": ["plain", "other"]},
        {"after": {}},
        {"more": 1},
    ],
)
def test_damaged_plans_are_refused(tmp_path, damage):
    question = Question.of(DataConfig("MNIST"), "SE2", tmp_path, images_of())
    planned(question)
    content = json.loads(question.file.read_text())
    question.file.write_text(json.dumps(content | {"plan": content["plan"] | damage}))
    with pytest.raises(ValueError, match="contains no valid plan"):
        Question.of(DataConfig("MNIST"), "SE2", tmp_path, images_of())


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "-1m", "0s", "10 minutes"])
def test_other_times_are_refused(text):
    with pytest.raises(ConfigError, match="must be a time"):
        parse_time(text)


@pytest.fixture(params=POOLS)
def small(request, monkeypatch):
    """Six steps a network, of the least width."""
    pools_are(request.param, monkeypatch)
    monkeypatch.setattr(planning, "LEAST", 1)
    monkeypatch.setattr(planning, "MOST", 6)
    monkeypatch.setattr(planning, "WIDTHS", (2,))
    monkeypatch.setattr("partialsym.ask.schedule.MOST_SEEDS", 1)
    monkeypatch.setattr("partialsym.ask.look.STEPS", 2)


def check_answer(answer, folder):
    """What docs/ask.md says of answer.json, of a question about mirroring with two seeds."""
    assert answer["format"] == 1
    assert set(answer) == {
        *("format", "partialsym", "question", "classes", "images", "plan", "headline", "problem"),
        *("recommendation", "visibility", "findings", "methods"),
    }
    assert answer["question"]["group"] == "Mirror"
    assert answer["plan"]["width"] == 2
    assert set(answer["plan"]["steps"]) == {"0", "1"}
    assert [t["name"] for t in answer["visibility"]["transformations"]] == ["mirrored"]
    assert {m["name"] for m in answer["methods"]} == {"plain", "augmented", "Mirror-full", "Mirror-partial"}
    for method in answer["methods"]:
        assert all((folder / run / "result.json").is_file() for run in method["runs"])
        assert len(method["runs"]) == len(method["seeds"]) == 2
        assert sum(map(sum, method["confusion"])) == method["test_images"] == 16, "two folds of 24, each tested once"
    assert {f["question"] for f in answer["findings"]} >= {"Mirroring", "Augmentation", "Built in, or augmented"}
    assert all(set(f["difference"]) == {"mean", "low", "high"} for f in answer["findings"])
    advice = answer["recommendation"]
    assert (advice["run"] is None) == (advice["command"] is None) == (advice["method"] is None)


@pytest.mark.slow
def test_a_question_is_answered_and_goes_on_where_it_stopped(small, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    images = flat(tmp_path / "parts", **{"<b>good": 12, "=bad": 12})
    command = ["ask", "--data", "folder", "--data.root", str(images), "--data.size", "12", "--group", "Mirror"]
    command += ["--out", str(tmp_path / "ask"), "--workers", "2", "--budget", "99h"]
    assert main([*command, "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "Mirroring: not enough evidence. Both methods share only 1 of 3 seeds" in said
    assert "timing the networks on this machine: width 2, 12×12 pixels" in caplog.text
    assert re.search(r"plain, seed 0 \(run \d\) has ended; \d+\.\d minutes left", caplog.text)
    page = (tmp_path / "ask" / "report.html").read_text(encoding="utf-8")
    assert "<b>good" not in page
    assert "&lt;b&gt;good" in page or "\\u003cb\\u003egood" in page
    assert "Each seed tests on one of 3 folds" in page
    results = sorted((tmp_path / "ask" / "runs").glob("*/seed0/result.json"))
    assert [file.parts[-3] for file in results] == ["Mirror-full", "Mirror-partial", "augmented", "plain"]
    before = {file: file.stat().st_mtime_ns for file in results}
    data = DataConfig(source="folder", root=str(images), size=12)
    question, late, stopped = ask(data, "Mirror", budget=0.001, out=tmp_path / "ask", seeds=2, workers=2)
    assert question.file.is_file()
    assert not stopped
    assert {run.folder for run in late} == {file.parent for file in results}, "runs that would end late were begun"
    assert main([*command, "--seeds", "2", "--margin", "2.5"]) == 0, "a margin makes no other question"
    assert {file: file.stat().st_mtime_ns for file in results} == before
    runs = sorted((tmp_path / "ask" / "runs").glob("*/seed*"))
    assert len(runs) == 8
    tested = [
        json.loads((run / "behaviour.json").read_text())["answers"]["groups"] for run in runs if run.match("plain/*")
    ]
    assert not {*tested[0]} & {*tested[1]}, "two seeds were tested on the same images"
    answer = json.loads((tmp_path / "ask" / "answer.json").read_text(encoding="utf-8"))
    check_answer(answer, tmp_path / "ask")
    capsys.readouterr()
    name = {"out": str(tmp_path / "longer"), "answer": str(tmp_path / "ask")}
    longer = [
        "fit",
        "--training.epochs",
        "2",
        "--training.patience",
        "null",
        "--from",
        name["answer"],
        "--progress=false",
    ]
    assert main([*longer, "--out", name["out"]]) == (0 if answer["recommendation"]["method"] else 1)
    if answer["recommendation"]["method"]:
        (run,) = map(Run, (tmp_path / "longer").glob("*/seed0"))
        assert run.folder.parent.name == f"ask-{answer['recommendation']['method']}"
    assert json.loads((tmp_path / "ask" / "ask.json").read_text())["plan"]["width"] == 2


@pytest.mark.long
@pytest.mark.slow
def test_ctrl_c_gives_the_page_of_what_there_is(small, request, tmp_path, capsys, monkeypatch):
    """After the fourth of six runs."""
    if "processes" in request.node.name:
        pytest.skip("a signal to this process is the same")
    done = []

    def run(config, *rest):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(config)
        return run_one(config, *rest)

    monkeypatch.setattr("partialsym.ask.answer.run_one", run)
    images = flat(tmp_path / "parts", good=12, bad=12)
    command = ["ask", "--data", "folder", "--data.root", str(images), "--data.size", "12", "--group", "Mirror"]
    assert main([*command, "--out", str(tmp_path / "ask"), "--workers", "1", "--budget", "99h", "--seeds", "2"]) == 130
    said = capsys.readouterr()
    assert "Mirroring: not enough evidence" in said.out
    assert "the page shows the results so far. Run the same command again to continue." in said.err
    assert "4 networks were trained" in (tmp_path / "ask" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no images are named: use --data folder --data.root DIR"),
        (["--data", "folder"], "data.root is None: must be the folder of the images"),
        (["--data", "folder", "--data.root", "nowhere"], "root is 'nowhere': it must be an existing folder"),
        (
            ["--data.name", "MNIST", "--group", "e2"],
            "group is 'e2': must be one of SE2, Mirror, E2.",
        ),
        (["--data.name", "MNIST", "--budget", "10"], "budget is '10': must be a time such as 90s, 10m or 2h"),
        (["--data.name", "MNIST", "--seeds", "0"], "seeds is 0: must be in [1, 30]"),
        (["--data.sze", "32"], "unknown key 'data.sze': did you mean 'data.size'?"),
        (["--model.width", "3"], "unknown key 'model.width'; valid keys: data.name"),
    ],
)
def test_mistakes_get_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ask", *arguments]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"partialsym: {said}")
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
