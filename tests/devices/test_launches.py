"""How many kernels a GPU is asked for in a training step, counted on the processor, in the orders that a GPU takes; and
how many operators are called on the processor itself."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from partialsym import GCNN13, GResNet, signal
from partialsym.models.dense_twin import dense_twin
from partialsym.nn import fused, pool, statistics
from partialsym.ops import choice, conv2d, operator

VIEWS = {
    *(
        "view",
        "_unsafe_view",
        "_reshape_alias",
        "select",
        "slice",
        "narrow",
        "unsqueeze",
        "squeeze",
        "expand",
        "expand_as",
        "detach",
    ),
    *("t", "numpy_T", "mT", "transpose", "permute", "as_strided", "alias", "unbind", "split", "split_with_sizes"),
    *("unflatten", "view_as", "lift_fresh"),
}
NOTHING = VIEWS | {"empty", "new_empty", "empty_like", "empty_strided", "promote_types"}
MAYBE = {"to", "contiguous", "reshape", "flatten"}  # copy where they must
OWN = {op._opoverload: op._init_fn for op in (operator._convolve, operator._convolve_backward)}


class Launches(TorchDispatchMode):
    """Counts operators that compute something; those of the convolution by what they consist of."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in OWN:
            with self, torch._C._AutoDispatchBelowAutograd():
                return OWN[func](*args, **(kwargs or {}))
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        same = name in NOTHING or (name in MAYBE and result.data_ptr() == args[0].data_ptr())
        self.count += not same
        return result


class Calls(TorchDispatchMode):
    """Counts all operators that are called from outside of others, views among them; the convolution is one."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def counted(net, mode):
    x, labels = torch.randn(2, 1, 28, 28), torch.tensor([0, 1])
    with mode() as seen:
        F.cross_entropy(net.train()(x), labels).backward()
    return seen.count


def launches(net):
    return counted(net, Launches)


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(operator, "resolved", lambda *of: choice.resolved(*of[:3], "cuda"))
    for module in (fused, operator, pool, statistics):
        monkeypatch.setattr(module, "eager_on_cpu", lambda tensor: False)
    monkeypatch.setattr(conv2d, "_on_cpu", lambda tensor: False)
    monkeypatch.setattr(signal, "_check_range", lambda images: None)  # it would wait for the GPU


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize(
    ("network", "group", "partial", "most"),
    [
        (GResNet, "SE2", True, 346),
        (GResNet, "SE2", False, 299),
        (GResNet, "E2", True, 914),
        (GCNN13, "SE2", True, 333),
    ],
)
def test_a_step_launches_no_more_kernels_than_it_did(network, group, partial, most):
    """The width does not change their number."""
    net = network(group, partial=partial, width=4)
    found = launches(net)
    assert 0.95 * most < found <= most  # lower the limit with the number
    assert 60 < launches(dense_twin(net)) < 110


@pytest.mark.parametrize(("group", "samples", "most"), [("SE2", 4, 1075), ("E2", 8, 1767)])
def test_a_step_on_the_processor_calls_no_more_operators_than_it_did(group, samples, most):
    found = counted(GResNet(group, samples=samples, width=4), Calls)
    assert 0.95 * most < found <= most
