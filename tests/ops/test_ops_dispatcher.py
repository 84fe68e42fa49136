"""The convolution passes torch's dispatcher where something may look at it, and nowhere else."""

import pytest
import torch
from convolutions import arguments
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from partialsym.errors import UnsupportedError
from partialsym.ops import FactoredKernel, convolve, operator

FORWARD, BACKWARD = "partialsym.convolve.default", "partialsym.convolve_backward.default"


class Seen(TorchDispatchMode):
    """The convolution's operators in the order of their calls."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names += [str(function)] if "partialsym" in str(function) else []
        return function(*args, **(kwargs or {}))


@pytest.fixture
def given():
    torch.manual_seed(0)
    (f, weight, bias, phi, mean, offset), disc = arguments(3)
    tensors = [part.detach().requires_grad_() for part in (f, weight, bias, phi, mean, offset)]
    return tensors, disc


def run(given):
    (f, weight, bias, phi, mean, offset), disc = given
    return convolve(f, FactoredKernel(weight, bias, phi, mean, disc), offset, 1)


@pytest.fixture
def dispatched(monkeypatch):
    """Calls of the operators."""
    calls = []
    for name in ("_convolve", "_convolve_backward"):
        real = getattr(operator, name)
        monkeypatch.setattr(operator, name, lambda *given, real=real, name=name: calls.append(name) or real(*given))
    return calls


def test_unseen_it_is_the_same(given, dispatched, monkeypatch):
    tensors, _ = given
    out = run(given)
    found = torch.autograd.grad(out, tensors, torch.cos(out.detach()))
    assert not dispatched
    monkeypatch.setattr(operator, "dispatch_watched", lambda: True)
    other = run(given)
    expected = torch.autograd.grad(other, tensors, torch.cos(other.detach()))
    assert dispatched == ["_convolve", "_convolve_backward"]
    assert torch.equal(out, other)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_modes_see_both_passes_or_the_one_that_they_are_around(given):
    tensors, _ = given
    with Seen() as both:
        torch.autograd.grad(run(given).sum(), tensors)
    with Seen() as forward:
        out = run(given)
    torch.autograd.grad(out.sum(), tensors)
    out = run(given)
    with Seen() as backward:
        torch.autograd.grad(out.sum(), tensors)
    assert (both.names, forward.names, backward.names) == ([FORWARD, BACKWARD], [FORWARD], [BACKWARD])


def test_the_operations_are_counted(given):
    with FlopCounterMode(display=False) as counter:
        run(given).sum().backward()
    names = {str(name) for name in counter.get_flop_counts()["Global"]}
    assert names == {"partialsym.convolve", "partialsym.convolve_backward"}


@pytest.mark.parametrize("early", [False, True])
def test_tracers_see_it(given, early):
    (f, *rest), disc = given

    def of_f(f):
        return run(((f, *rest), disc))

    graph = make_fx(of_f, pre_dispatch=early)(f.detach())
    assert FORWARD in [str(node.target) for node in graph.graph.nodes]
    torch.testing.assert_close(graph(f), of_f(f))


class Tagged(torch.Tensor):
    """A tensor of another class, which sees every function of torch."""


def test_tensors_of_other_classes_pass_the_dispatcher(given, dispatched):
    (f, *rest), disc = given
    out = run(((f.detach().as_subclass(Tagged), *rest), disc))
    assert dispatched == ["_convolve"]
    assert isinstance(out, Tagged)


def test_many_gradients_and_second_ones_are_as_before(given, dispatched):
    tensors, _ = given
    out = run(given)
    grad = torch.cos(out.detach())
    one = torch.autograd.grad(out, tensors, grad, retain_graph=True)
    assert not dispatched
    many = torch.autograd.grad(out, tensors, torch.stack([grad, 2 * grad]), retain_graph=True, is_grads_batched=True)
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(torch.stack([a, 2 * a]), b)
    first = torch.autograd.grad(out, tensors, grad, create_graph=True)
    assert "_convolve_backward" in dispatched
    with pytest.raises(UnsupportedError, match="second derivative"):
        torch.autograd.grad(first[1].sum(), tensors)
