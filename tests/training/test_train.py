"""Training end to end on the embedded digits: results, reproducibility, penalties."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from training import TINY, run, same, weights

from partialsym import regularization
from partialsym.config import ConfigError, ModelConfig, TrainingConfig
from partialsym.data import load
from partialsym.densities import Bernoulli, Uniform
from partialsym.measure import accuracy, logits
from partialsym.models import GResNet
from partialsym.models.saving import StoreError, load_model
from partialsym.runs.verify import examine
from partialsym.training.fit import Ablation, build_model
from partialsym.training.module import balanced, objective, schedule
from partialsym.training.trainer import precision

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where `done` lies."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def done(runs):
    """A finished run."""
    return run(runs)


def test_a_run_folder_holds_what_it_should(runs, done):
    assert {f.name for f in done.folder.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "manifest.json",
        "metrics.csv",
        "model",
        "result.json",
        "tensorboard",
    }
    assert done.folder == runs / "tiny" / "seed0"
    assert done.config() == TINY
    result, history = done.result(), done.history()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert result["history"] == history
    assert [s["layer"] for s in result["subsets"]] == [
        "lifting",
        "block1.conv1",
        "block1.conv2",
        "block2.conv1",
        "block2.conv2",
        "last",
    ]
    assert history[-1]["last.theta_deg"] == result["subsets"][-1]["theta_deg"]
    trained = done.model()
    data = load(TINY.data.name)
    assert result["accuracy"]["test"] == accuracy(
        logits(trained.model, data.test.images, trained.preprocess), data.test.labels
    )
    assert result["parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert trained.classes == data.classes
    assert trained.size == (28, 28)
    assert result["versions"]["torch"] == torch.__version__
    assert result["config"]["data"]["root"] is None
    assert 0 <= result["loader_share"] < 1


@pytest.mark.long
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path, done):
    numbers = []
    for one in (done, *(run(tmp_path, replace(TINY, name=name, seed=seed)) for name, seed in (("b", 0), ("c", 1)))):
        result = one.result()
        for key in ("seconds", "loader_share", "finished", "config"):
            result.pop(key)
        numbers.append((result, weights(one)))
    assert numbers[0][0] == numbers[1][0]
    assert same(numbers[0][1], numbers[1][1])
    assert numbers[0][0] != numbers[2][0]


@pytest.mark.long
def test_few_images_several_passes_an_epoch_and_augmentation(tmp_path):
    few = replace(TINY, data=replace(TINY.data, train_images=70), training=replace(TINY.training, repeats=3, epochs=2))
    done = run(tmp_path, few)
    assert done.result()["images"]["train"] == 70
    assert [row["step"] for row in done.history()] == [3, 6]  # 3 × 70 images in batches of 64
    cropped = run(tmp_path, replace(few, name="cropped", data=replace(few.data, augment=("crop", "flip"))))
    assert not same(weights(done), weights(cropped))
    assert cropped.result()["accuracy"].keys() == done.result()["accuracy"].keys()
    with pytest.raises(ValueError, match="has 244 training images, fewer than the requested 300"):
        run(tmp_path, replace(few, name="many", data=replace(few.data, train_images=300)))


def test_augerino_trains_is_saved_and_shows_what_it_learned(tmp_path):
    model = replace(TINY.model, group="T2", samples=1, augerino="SE2", copies=3)
    done = run(tmp_path, replace(TINY, model=model, training=replace(TINY.training, width=0.1)), progress=True)
    result = done.result()
    assert result["subsets"][0]["layer"] == "input"
    assert result["subsets"][0]["theta_deg"] == result["history"][-1]["input.theta_deg"]
    assert type(done.model().model).__name__ == "Augerino"


@pytest.mark.long
def test_an_altered_network_is_what_is_trained_and_says_so(tmp_path):
    def change(model):
        model.classifier.weight.requires_grad_(False).zero_()
        model.norm1.eps = 0.5

    zero = Ablation("zero", change)
    done = run(tmp_path, alter=zero)
    record = json.loads((done.folder / "model" / "model.json").read_text())
    assert not load_file(done.folder / "model" / record["weights"])["classifier.weight"].any()
    assert done.result()["altered"] == record["altered"] == "zero"
    for read in (lambda: load_model(done.folder / "model"), done.model):
        with pytest.raises(StoreError, match=r"altered by 'zero': it cannot be rebuilt \(norm1.eps is 0.5, and would"):
            read()
    with pytest.raises(ConfigError, match="holds a run altered by 'zero', not by None"):
        run(tmp_path, resume=True)
    assert run(tmp_path, alter=zero, resume=True).result() == done.result()


@pytest.mark.long
def test_best_takes_the_epoch_of_the_highest_validation_accuracy(tmp_path):
    config = replace(TINY, training=replace(TINY.training, select="best", epochs=4))
    done = run(tmp_path, config)
    best = max(row["validation_accuracy"] for row in done.history())
    assert done.result()["accuracy"]["validation"] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": replace(TINY.model, samples=5)}, "model: E2 has 2 components.*multiple of 2, got 5"),
        ({"model": replace(TINY.model, group="C4", samples=5)}, "model: .*samples must be 4, got 5"),
        (
            {"model": replace(TINY.model, kernel_options={"omega": 1.0})},
            "model: kernel_options has 'omega': the options of SIREN are layers, omega0",
        ),
        ({"model": replace(TINY.model, kernel_size=9)}, r"\(28, 28\) pixels do not fit the model: .*9×9 kernel"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, replace(TINY, **changes))
    assert not list(tmp_path.iterdir())


def test_the_temperature_follows_its_schedule_and_is_kept(done):
    found = [m.temperature for m in done.model().model.modules() if isinstance(m, Bernoulli)]
    assert len(found) == 5
    torch.testing.assert_close(torch.stack(found), torch.full((5,), 0.1))


@pytest.mark.long
def test_eval_and_train_accuracy_agree_after_recalibration(tmp_path):
    """The statistics saved are those of the deterministic elements: accuracy in the result is that of training."""
    settings = replace(TINY.training, epochs=10, batch_size=32, recalibration_images=244)
    model = ModelConfig("SE2", samples=8, width=6, kernel_size=5, hidden=16)
    result = run(tmp_path, replace(TINY, model=model, training=settings)).result()
    last = result["history"][-1]
    assert last["train_accuracy"] >= 0.95
    assert result["accuracy"]["test"] >= last["train_accuracy"] - 0.05


def test_precision():
    assert precision("32") == "32"
    assert precision("bf16-mixed") == "bf16-mixed"
    assert precision("auto") in ("32", "bf16-mixed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_float16_is_refused_where_there_is_no_gpu(tmp_path):
    config = replace(TINY, training=replace(TINY.training, precision="16-mixed"))
    with pytest.raises(ConfigError, match=r"training\.precision is '16-mixed': must be bf16-mixed, 32 or auto"):
        run(tmp_path, config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "peak"), [("constant", 0), ("cosine", 2), ("one-cycle", 6)])
def test_schedules(kind, peak):
    config = TrainingConfig(epochs=10, schedule=kind, warmup_epochs=0.0 if kind == "one-cycle" else 1.0)
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([parameter], 1e-2)
    plan, rates = schedule(optimizer, config, 20), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        plan.step()
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates[0] < max(rates)
    assert rates.index(max(rates)) == pytest.approx(max(peak, 2), abs=1)
    assert rates[-1] < (2e-4 if kind != "constant" else 1.1e-2)


def test_penalties():
    model = build_model(replace(TINY.model, group="SE2"), 1, 2)
    theta = [m for m in model.modules() if isinstance(m, Uniform)]
    with torch.no_grad():
        for m, value in zip(theta, (0.5, 0.7, 0.2, 0.3, 0.3), strict=True):
            m.raw.fill_(value)
    loss = regularization.monotonic(model)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.3)
    assert [float(m.raw.grad) for m in theta] == [-1, 1, -1, 1, 0]
    norm = regularization.kernel_norm(model)
    norm.backward()
    assert float(norm.detach()) > 0
    assert all(m.raw.grad is None or abs(float(m.raw.grad)) <= 1 for m in theta)
    assert float(regularization.monotonic(GResNet("T2", samples=1, width=2))) == 0


def test_a_training_without_progress_ends_when_patience_does(tmp_path, monkeypatch):
    """No accuracy above the first one: after so many epochs more it ends, and the first one is saved."""
    monkeypatch.setattr("torchmetrics.classification.MulticlassAccuracy.compute", lambda self: torch.tensor(0.5))
    settings = replace(TINY.training, epochs=9, patience=2, select="best", schedule="constant")
    done = run(tmp_path, replace(TINY, training=settings))
    assert done.result()["epochs"] == 3
    assert examine(done).faults == []


def test_patience_and_a_schedule_that_ends_with_the_last_epoch_do_not_go_together():
    with pytest.raises(ConfigError, match="patience is 3: must be left out: one-cycle"):
        TrainingConfig(patience=3, schedule="one-cycle")
    with pytest.raises(ConfigError, match="patience is 0: must be at least 1"):
        TrainingConfig(patience=0)


def test_balanced_weights_let_classes_weigh_alike():
    labels = torch.tensor([0] * 6 + [1] * 2 + [3])
    weights = balanced(labels, 4)
    assert weights.tolist() == pytest.approx([0.5, 1.5, 0.0, 3.0])
    scores = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    loss, entropy, _ = objective(torch.nn.Identity(), TrainingConfig(), weights)(scores, labels)
    each = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    expected = torch.stack([each[labels == k].mean() for k in (0, 1, 3)]).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(entropy) == pytest.approx(float(expected), rel=1e-5)
    plain, *_ = objective(torch.nn.Identity(), TrainingConfig())(scores, labels)
    assert float(plain) == pytest.approx(float(each.mean()), rel=1e-6)
