"""What a step costs: counted by hand, against the dense twin, and on the command line."""

import json

import pytest
import torch
from networks import shapes
from torch import nn

from benchmarks.frozen import fold
from benchmarks.rows import Book, Row, median_interval
from partialsym import GCNN13, SE2, GResNet, GroupConv, Signal, haar
from partialsym.cli.main import main
from partialsym.models.dense_twin import TwinResNet, dense_twin
from partialsym.ops import dense_work, factored_work, shape_of, spectral_work
from partialsym.profiling import Cost, Step, beside, costs, interleaved, operations, peak_memory

NETWORKS = [GResNet("SE2", width=4, samples=4), GCNN13("E2", width=4, samples=4, in_channels=3), GResNet("T2", width=3)]


def batch(model, images=3, side=28):
    return torch.randn(images, model.in_channels, side, side), torch.randint(0, 10, (images,))


@pytest.mark.parametrize("model", NETWORKS, ids=lambda m: f"{type(m).__name__}-{m.settings['group']}")
def test_the_dense_twin_has_the_same_convolutions(model):
    twin = dense_twin(model)
    images, _ = batch(model)
    assert twin(images).shape == model(images).shape
    ours, theirs = shapes(model, GroupConv, images), shapes(twin, nn.Conv2d, images)
    assert len(ours) > 5
    assert sorted(ours) == sorted(theirs)  # the twin's blocks call theirs in another order


def test_the_folded_twin_is_the_same_function():
    twin = dense_twin(GResNet("SE2", width=2, samples=4))
    assert isinstance(twin, TwinResNet)
    images = torch.randn(8, 1, 28, 28)
    twin(images)  # moves the running statistics
    expected = twin.eval()(images)
    assert torch.equal(twin(images), expected)
    fold(twin)
    assert isinstance(twin.norm0, nn.Identity)
    torch.testing.assert_close(twin(images), expected, rtol=1e-4, atol=1e-4)


def test_a_network_without_a_twin_is_refused():
    with pytest.raises(TypeError, match=r"Linear has no dense twin: must be a network of partialsym\.models"):
        dense_twin(nn.Linear(1, 1))


def test_operations_of_a_plain_network_are_counted():
    """Two a multiplication: forward, towards the weights, and towards the input of all layers but the first."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(4 * 36, 10, bias=False))
    step = Step(net, torch.randn(2, 1, 6, 6), torch.tensor([1, 2]))
    assert operations(step) == 2 * 2 * (2 * 4 * 9 * 36 + 3 * 4 * 36 * 10)


def test_operations_of_a_group_convolution_are_those_of_its_path():
    found = {}
    for path, work in (("dense", dense_work), ("factored", factored_work), ("spectral", spectral_work)):
        layer = GroupConv(6, 5, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=3, path=path)
        f = Signal(torch.randn(2, 6, 4, 8, 8), haar(SE2(), 4).sample())
        net = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 4, 8, 8)))
        net.forward = lambda x, layer=layer, f=f: layer(f).values.flatten(1)[:, :10] + 0 * x
        net.layer = layer
        shape = shape_of(f.values.shape, (5, 6, 32), (4, 32, 4, 3, 3), 1)
        found[path] = operations(Step(net, torch.zeros(2, 10), torch.tensor([1, 2]))) / (2 * sum(work(shape)))
    assert all(2 < quotient < 3.2 for quotient in found.values()), found  # forward, and backward without the input


def test_peak_memory_counts_what_is_kept_for_the_backward_pass_and_no_gradients():
    class Chain(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.big = nn.Linear(1024, 1024)  # its gradient is 4 MiB
            self.last = nn.Linear(1024, 10)
            self.layers = layers

        def forward(self, x):
            x = self.big(x)
            for _ in range(self.layers):
                x = x.sigmoid()
            return self.last(x)

    one = 512 * 1024 * 4
    memory = [peak_memory(Step(Chain(n), torch.randn(512, 1024), torch.zeros(512, dtype=torch.long))) for n in (4, 12)]
    assert memory[1] - memory[0] == pytest.approx(8 * one, rel=0.05)
    assert memory[0] < 8 * one  # five kept, two being made; the gradient would be two more


def test_costs_measure_both_networks():
    model = GResNet("SE2", width=4, samples=4)
    ours, twin = costs(model, *batch(model), pairs=2)
    assert ours.parameters == sum(p.numel() for p in model.parameters())
    assert twin.operations > ours.parameters
    assert min(*vars(ours).values(), *vars(twin).values()) > 0
    assert len(beside(ours, twin)) == 5
    assert all(p.grad is None for p in model.parameters())


def test_the_command_prints_both(capsys):
    args = ["--data.name", "digits-6-180", "--model.width", "2", "--model.kernel_size", "3", "--model.samples", "4"]
    assert main(["cost", *args, "--pairs", "1", "--training.batch_size", "16"]) == 0
    out = capsys.readouterr().out
    for word in ("parameters", "operations", "activation memory", "forward and backward", "plain CNN", "batch 16"):
        assert word in out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--pairs=0", "pairs is 0: must be at least 1"),
        ("--model.gruop=SE2", "model.group"),
        ("--resume", "unknown key 'resume'"),
    ],
)
def test_the_command_refuses(option, message, capsys):
    assert main(["cost", "--data.name", "digits-6-180", option]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_computes_in_what_it_is_asked_for(dtype):
    layer, found = nn.Linear(4, 10), []
    layer.register_forward_hook(lambda _layer, _inputs, out: found.append(out.dtype))
    Step(layer, torch.randn(2, 4), torch.tensor([1, 2]), dtype)()
    assert found == [dtype]


@pytest.mark.parametrize(
    ("asked", "dtype"), [("32", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)]
)
def test_the_command_times_the_precision_that_is_asked_for(asked, dtype, monkeypatch, capsys):
    found = []

    def costs(*_, dtype, **__):
        found.append(dtype)
        return 2 * [Cost(1, 1, 1, 1.0)]

    monkeypatch.setattr("partialsym.cli.cost.costs", costs)
    monkeypatch.setattr("partialsym.cli.cost.precision", lambda setting: setting)  # 16-mixed needs a GPU
    small = ["--model.width", "2", "--model.samples", "2", "--training.batch_size", "4"]
    assert main(["cost", "--data.name", "digits-6-180", *small, "--training.precision", asked]) == 0
    assert found == [dtype]
    assert f", {asked}, " in capsys.readouterr().out


def test_rounds_are_interleaved_after_the_warm_up():
    calls = []
    rounds = interleaved(lambda: calls.append("a"), lambda: calls.append("b"), pairs=3, warm_up=2)
    assert "".join(calls) == "ab" * 5
    assert len(rounds) == 3


def test_there_is_no_interval_of_few_values():
    assert median_interval([1.0] * 5) is None


@pytest.mark.parametrize("n", [6, 7, 20, 51])
def test_the_interval_holds_the_median_as_often_as_it_says(n):
    draws = torch.distributions.Gamma(2.0, 1.0).sample((4000, n))
    truth = 1.6783469900166605  # the median of Gamma(2, 1)
    held = sum(low <= truth <= high for low, high in (median_interval(row) for row in draws.tolist())) / 4000
    assert 0.94 <= held <= 0.995


def test_a_book_keeps_what_was_missed(tmp_path, capsys):
    book = Book()
    book.add(Row("fast", 0.9, (0.8, 1.0), 1.0, "of the twin", "bf16"), Row("slow", 1.2, None, 1.0, "", "bf16"))
    book.add(Row("told", 7.0, None, None, "ms", "float32"))
    assert [row.name for row in book.missed] == ["slow"]
    assert "MISSED" in capsys.readouterr().out
    book.write(tmp_path / "results.json")
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["ok"] for row in rows] == [True, False, None]
    assert {"name", "value", "interval", "target", "unit", "ok", "machine", "torch", "precision"} <= rows[0].keys()
