"""Asking: what a budget pays for, and a question from images to its page."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from made_folder import flat
from processes import POOLS, pools_are

from partialsym.ask import METHODS, answer, ask, planning
from partialsym.ask.method_results import FREE
from partialsym.ask.methods import Shape, methods
from partialsym.ask.question import Question
from partialsym.cli.ask import parse_time
from partialsym.cli.main import main
from partialsym.config import ConfigError, DataConfig
from partialsym.data import Dataset, Split
from partialsym.runs.run import Run

SHAPE = Shape((28, 28), 1, 2)
SE2 = {name: planning.Seconds(0.05, 0.001) for name in METHODS["SE2"]}
FAST = {name: planning.Seconds(0.05, 0.001) for name in METHODS["E2"]}


def budget(seconds=600.0, *, seeds=3, workers=2, train=400, validation=40, evaluated=3000):
    return planning.Budget(seconds, seeds, workers, train, validation, evaluated)


def steps_of(made, train):
    """Counted as the loader does: whole batches of an epoch's passes."""
    return made.epochs * (made.repeats * (made.images or train) // made.batch)


def cost(made, spend, methods):
    """Seconds on the clock that the plan takes, counted anew: every step and image of every run."""
    steps = steps_of(made, spend.train)
    runs = spend.seeds * sum(steps * s.step + spend.images() * s.image for s in methods.values())
    return planning.START + planning.PAGE + runs / spend.workers


@pytest.mark.parametrize("seconds", [200.0, 600.0, 3600.0])
@pytest.mark.parametrize("train", [100, 400, 50_000])
def test_a_plan_keeps_to_its_budget(seconds, train):
    spend = budget(seconds, train=train)
    made = planning.plan(spend, {16: FAST})
    assert cost(made, spend, FAST) <= planning.SHARE * seconds
    assert cost(made, spend, FAST) > 0.7 * planning.SHARE * seconds or steps_of(made, train) > 0.7 * planning.MOST


@pytest.mark.parametrize("train", [90, 450, 1250, 2400, 3199])
def test_no_plan_trains_less_than_it_promises(train):
    """Whole passes leave some steps out; never so many that fewer than LEAST are left."""
    for seconds in range(100, 400, 10):
        spend = budget(seconds, train=train)
        try:
            made = planning.plan(spend, {16: FAST})
        except ConfigError:
            assert spend.steps(FAST) * planning.ROUNDING < planning.LEAST
            continue
        assert planning.LEAST <= steps_of(made, train) == made.steps(train) <= spend.steps(FAST)
        assert steps_of(made, train) >= planning.ROUNDING * spend.steps(FAST)


def test_more_time_buys_width_then_steps():
    narrow = {name: planning.Seconds(s.step / 3, s.image / 3) for name, s in FAST.items()}
    widths = [planning.plan(budget(seconds), {16: FAST, 8: narrow}).width for seconds in (150, 400, 600)]
    steps = [budget(seconds).steps(FAST) for seconds in (200, 400, 600)]
    assert widths == [8, 16, 16]
    assert steps == sorted(set(steps))


def test_a_budget_too_small_names_one_that_does():
    with pytest.raises(ConfigError, match=r"--budget (\d+)m") as caught:
        planning.plan(budget(60), {16: FAST})
    enough = 60 * int(re.search(r"--budget (\d+)m", str(caught.value))[1])
    assert planning.plan(budget(enough), {16: FAST})


@pytest.mark.parametrize(("seconds", "timed"), [(0.5, 1), (0.05, 3), (0.002, 2)])
def test_a_hopeless_budget_is_seen_at_a_glance(monkeypatch, seconds, timed):
    batches = []

    def measure(model, shape, batch):
        batches.append((model.width, batch))
        return planning.Seconds(seconds * batch / 8 * model.width / 8, 1e-4)

    monkeypatch.setattr("partialsym.ask.answer.measure", measure)
    with ThreadPoolExecutor(1) as executor, nullcontext() if timed == 2 else pytest.raises(ConfigError, match="give"):
        answer._plan(executor, budget(), Question(DataConfig("MNIST"), "E2", Path("ask"), ""), SHAPE)
    assert list(dict.fromkeys(batches)) == [(8, 8), (16, 64), (8, 64)][:timed]


def test_of_many_images_a_part_is_taken_and_few_are_repeated():
    assert planning.plan(budget(train=50_000), {16: FAST}).images < 50_000
    few = planning.plan(budget(train=100), {16: FAST})
    assert few.images is None
    assert few.repeats > 1


@pytest.mark.parametrize("group", METHODS)
def test_methods_differ_only_in_what_the_verdict_allows(group):
    configs = [vars(model) for model in methods(group, SHAPE, 8).values()]
    differ = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert differ <= set(FREE)
    assert {"group", "partial"} <= differ


def images_of(seed=0):
    """A data set of noise."""
    pixels = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels, index = torch.arange(12) % 2, torch.arange(12)
    splits = [Split(pixels[i::3], labels[i::3], index[i::3]) for i in range(3)]
    return Dataset("noise", ("a", "b"), *splits, mean=(0.5,), std=(0.3,))


def test_other_images_under_the_same_name_are_another_question(tmp_path):
    data, out = DataConfig("MNIST"), tmp_path / "ask"
    Question.of(data, "SE2", out, images_of(0)).planned(planning.plan(budget(), {16: SE2}))
    assert Question.of(data, "SE2", out, images_of(0)).plan
    with pytest.raises(ConfigError, match="holds a question with other images, not those given"):
        Question.of(data, "SE2", out, images_of(1))


def test_a_folder_holds_one_question(tmp_path):
    asked = Question.of(DataConfig("MNIST"), "SE2", tmp_path / "ask", images_of()).planned(
        planning.plan(budget(), {16: SE2})
    )
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
    with pytest.raises(ConfigError, match="holds no question"):
        Question.of(DataConfig("MNIST"), "SE2", tmp_path / "other", images_of())


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 9}', '{"format": 1, "group": "SE2"}'])
def test_damaged_questions_are_refused(tmp_path, content):
    (tmp_path / "ask.json").write_text(content)
    with pytest.raises(ValueError, match=r"ask\.json|holds a question"):
        Question.of(DataConfig("MNIST"), "SE2", tmp_path, images_of())


@pytest.mark.parametrize(
    "damage",
    [{"width": "16"}, {"epochs": 0}, {"batch": None}, {"images": "9"}, {"seconds": {}}, {"seconds": 5}, {"more": 1}],
)
def test_damaged_plans_are_refused(tmp_path, damage):
    question = Question.of(DataConfig("MNIST"), "SE2", tmp_path, images_of())
    question.planned(planning.plan(budget(), {16: SE2}))
    content = json.loads(question.file.read_text())
    question.file.write_text(json.dumps(content | {"plan": content["plan"] | damage}))
    with pytest.raises(ValueError, match="holds no plan that can be followed"):
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
    monkeypatch.setattr("partialsym.ask.answer.WIDTHS", (2,))
    monkeypatch.setattr("partialsym.ask.look.STEPS", 2)


def check_answer(answer, folder):
    """What docs/ask.md says of answer.json, of a question about mirroring with two seeds."""
    assert answer["format"] == 1
    assert set(answer) == {
        *("format", "partialsym", "question", "classes", "images", "headline", "problem", "recommendation"),
        *("visibility", "findings", "methods"),
    }
    assert answer["question"]["group"] == "Mirror"
    assert [t["name"] for t in answer["visibility"]["transformations"]] == ["mirrored"]
    assert {m["name"] for m in answer["methods"]} == {"plain", "augmented", "Mirror-full", "Mirror-partial"}
    for method in answer["methods"]:
        assert all((folder / run / "result.json").is_file() for run in method["runs"])
        assert len(method["runs"]) == len(method["seeds"]) == 2
        assert sum(map(sum, method["confusion"])) == 2 * method["test_images"]
    assert {f["question"] for f in answer["findings"]} >= {"Mirroring", "Augmentation", "Built in, or augmented"}
    assert all(set(f["difference"]) == {"mean", "low", "high"} for f in answer["findings"])
    advice = answer["recommendation"]
    assert (advice["run"] is None) == (advice["command"] is None) == (advice["method"] is None)


@pytest.mark.slow
def test_a_question_is_answered_and_goes_on_where_it_stopped(small, tmp_path, capsys):
    images = flat(tmp_path / "parts", **{"<b>good": 12, "=bad": 12})
    command = ["ask", "--data", "folder", "--data.root", str(images), "--data.size", "12", "--group", "Mirror"]
    command += ["--out", str(tmp_path / "ask"), "--workers", "2", "--budget", "99h"]
    assert main([*command, "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "Mirroring: not enough evidence. Both have only 1 of 3 seeds" in said
    page = tmp_path / "ask" / "report.html"
    assert "<b>good" not in page.read_text(encoding="utf-8")
    assert "&lt;b&gt;good" in page.read_text(encoding="utf-8") or "\\u003cb\\u003egood" in page.read_text(
        encoding="utf-8"
    )
    results = sorted((tmp_path / "ask" / "runs").glob("*/seed0/result.json"))
    assert [file.parts[-3] for file in results] == ["Mirror-full", "Mirror-partial", "augmented", "plain"]
    before = {file: file.stat().st_mtime_ns for file in results}
    data = DataConfig(source="folder", root=str(images), size=12)
    question, late = ask(data, "Mirror", budget=0.001, out=tmp_path / "ask", seeds=2, workers=2)
    assert question.file.is_file()
    assert {run.folder for run in late} == {file.parent for file in results}, "runs that would end late were begun"
    assert main([*command, "--seeds", "2", "--margin", "2.5"]) == 0, "a margin makes no other question"
    assert {file: file.stat().st_mtime_ns for file in results} == before
    assert len(list((tmp_path / "ask" / "runs").glob("*/seed1/behaviour.json"))) == 4
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no images are named: give --data folder --data.root DIR"),
        (["--data", "folder"], "data.root is None: must be the folder of the images"),
        (["--data", "folder", "--data.root", "nowhere"], "root is 'nowhere': it must be an existing folder"),
        (
            ["--data.name", "MNIST", "--group", "e2"],
            "group is 'e2': must be one of SE2, Mirror, E2.",
        ),
        (["--data.name", "MNIST", "--budget", "10"], "budget is '10': must be a time such as 90s, 10m or 2h"),
        (["--data.name", "MNIST", "--seeds", "0"], "seeds is 0: must be at least 1"),
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
