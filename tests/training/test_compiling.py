"""The compiled training step: one graph, the same numbers, every batch size, and plain where there is no compiler."""

import logging

import pytest
import torch
from helpers import few
from networks import Own
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.exc import TritonMissing

from partialsym import GCNN13, Augerino, GResNet
from partialsym.config import TrainingConfig
from partialsym.densities import set_temperature
from partialsym.ops import operator
from partialsym.training.compile import PAYS, Compiled, compiled
from partialsym.training.module import objective

# A warning of torch's own compiler, about autograd functions it meets.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
NETWORKS = {
    "SE2": lambda: GResNet("SE2", width=2, samples=4, kernel_size=3, dropout=0.1),
    "E2": lambda: GResNet("E2", width=2, samples=4, kernel_size=3, sampling="iid"),
    "C4": lambda: GResNet("C4", width=2, kernel_size=3, kernel="MAGNet", partial=False),
    "CNN13": lambda: GCNN13("E2", width=2, samples=4),
    "own": lambda: nn.Sequential(Own("E2"), nn.Dropout(0.1), nn.Linear(3, 10)),
}


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batch(size):
    return torch.randn(size, 1, 12, 12), torch.randint(0, 10, (size,))


def gradients(model, step, tensors, bf16):
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss, *_ = step(*tensors)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    return loss, grads


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("own", False),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("SE2", False), ("E2", False), ("C4", False), ("CNN13", False), ("SE2", True))
        ),
    ],
)
def test_the_whole_step_is_one_graph_for_every_batch_size(name, bf16, monkeypatch):
    """With penalties; other sizes, temperatures and an evaluation in between compile nothing anew.

    A compiled step has torch's usual layout. Dropout draws in the order of memory, so the eager step has it here, too.
    """
    monkeypatch.setattr(operator, "pays_channels_last", lambda *_: False)
    model = NETWORKS[name]()
    step = objective(model, TrainingConfig(kernel_norm=1e-4, monotonic=1e-3))
    counter = CompileCounterWithBackend("aot_eager")
    fast = Compiled(step, backend=counter)
    for size, temperature in ((8, 0.5), (6, 0.3), (11, 0.1)):
        set_temperature(model, temperature)
        tensors = batch(size)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        loss, grads = gradients(model, fast, tensors, bf16)
        after = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(state)
        expected, expected_grads = gradients(model, step, tensors, bf16)
        torch.testing.assert_close(loss, expected)  # by other operations: other draws would be far away
        everything, everything_expected = (
            torch.cat([*map(torch.flatten, g.values())]) for g in (grads, expected_grads)
        )
        error = (everything - everything_expected).norm() / everything_expected.norm()
        assert error < (0.02 if bf16 else 1e-5)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(after[key], value, msg=key)
        with torch.no_grad():
            model.eval()(tensors[0])
            model.train()
    assert counter.frame_count == 1


def test_a_graph_break_would_be_an_error():
    def broken(images, labels):
        torch._dynamo.graph_break()
        return images.sum(), labels, labels

    with pytest.raises(torch._dynamo.exc.Unsupported):
        Compiled(broken, backend="aot_eager")(*batch(4))


@pytest.mark.long
@pytest.mark.slow
def test_inductor_gives_the_same_step():
    model = GResNet("SE2", width=2, samples=2, kernel_size=3)
    step, tensors = objective(model, TrainingConfig()), batch(4)
    with torch._inductor.config.patch(fallback_random=True):
        loss, grads = gradients(model, Compiled(step), tensors, False)
    expected, expected_grads = gradients(model, step, tensors, False)
    torch.testing.assert_close(loss, expected)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("error", [RuntimeError("no C++ compiler was found"), TritonMissing(None)], ids=["CPU", "GPU"])
def test_without_a_compiler_the_step_is_plain_and_says_so(error, caplog):
    calls = []

    def missing(graph, inputs):
        calls.append(graph)
        raise error

    def double(x):
        return 2 * x

    step = Compiled(double, backend=missing)
    with caplog.at_level(logging.WARNING, logger="partialsym.training.compile"):
        for _ in range(2):
            assert torch.equal(step(torch.ones(3)), 2 * torch.ones(3))
    assert len(calls) == 1
    assert "is not compiled" in caplog.text
    assert str(error)[:40] in caplog.text


def test_an_error_of_the_step_itself_is_not_hidden():
    def wrong(x):
        return x @ torch.ones(7)

    with pytest.raises((RuntimeError, BackendCompilerFailed)):
        Compiled(wrong, backend="aot_eager")(torch.ones(3, 5))


def test_what_auto_does():
    def step(x):
        return x

    assert compiled(step, "never", 10**6, "cuda") is step
    assert compiled(step, "auto", PAYS - 1, "cuda") is step
    assert compiled(step, "auto", 10**6, "cpu") is step
    assert isinstance(compiled(step, "auto", PAYS, "cuda"), Compiled)
    assert isinstance(compiled(step, "always", 1, "cpu"), Compiled)


@pytest.mark.parametrize("name", few(["SE2", "E2"], "E2"))
def test_an_augerino_in_eval_mode_is_one_graph_for_any_weights(name):
    """In which copies of weight 0 count for nothing."""
    torch.set_default_dtype(torch.float64)
    model, x = Augerino(GResNet("T2", width=2, hidden=4, kernel_size=3), name).eval(), batch(2)[0]
    counter = CompileCounterWithBackend("eager")
    fast, answers = torch.compile(model, fullgraph=True, backend=counter), []
    for logit in (1, -1):
        with torch.no_grad():
            for key, parameter in model.density.named_parameters():
                parameter.fill_(logit if key.endswith("logits") else 0.6)
            answers.append(model(x))
            torch.testing.assert_close(fast(x), answers[-1], rtol=1e-12, atol=1e-12)
    assert counter.frame_count == 1
    assert torch.equal(*answers) == (name == "SE2")
