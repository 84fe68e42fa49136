"""A loop of one's own over two processes, with torch's DistributedDataParallel: what one process would learn."""

import socket

import pytest
import torch
import torch.distributed
from processes import context, ended
from torch.nn.parallel import DistributedDataParallel

from partialsym import BatchNorm, GResNet, share_statistics
from partialsym.densities import Uniform

SHARES = {"even": (2, 2), "ragged": (3, 1), "one empty": (0, 4), "all empty": (0, 0)}  # images of each process
CASES = [(group, share, True) for group in ("SE2", "E2") for share in SHARES] + [("E2", "ragged", False)]


def trained(group, images, first, last, processes, shared):
    """What a step on a share of the images leaves: gradients and statistics, by name."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    net = GResNet(group, samples=4 if group == "E2" else 2, width=2, kernel_size=3, hidden=4)
    if shared:
        share_statistics(net)
    whole = DistributedDataParallel(net) if processes > 1 else net
    torch.manual_seed(1)  # the same elements in all
    loss = whole.train()(images[first:last]).square().sum() * processes / max(1, len(images))
    loss.backward()
    found = {name: p.grad for name, p in net.named_parameters()}
    found |= {f"{name}.{key}": value for name, m in norms(net) for key, value in m.state_dict().items()}
    return {name: value.detach().clone() for name, value in found.items()}


def norms(net):
    return [(name, module) for name, module in net.named_modules() if isinstance(module, BatchNorm)]


def images(share):
    torch.manual_seed(2)
    return torch.randn(sum(SHARES[share]), 1, 12, 12, dtype=torch.float64) * 2 + 1


def rank(number, port, out):
    where = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=where, rank=number, world_size=2)
    seen = {}
    for group, share, shared in CASES:
        first = SHARES[share][0] * number
        last = first + SHARES[share][number]
        seen[group, share, shared] = trained(group, images(share), first, last, 2, shared)
    torch.save(seen, out / f"{number}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    out = tmp_path_factory.mktemp("shared")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context().Process(target=rank, args=(number, port, out)) for number in (0, 1)]
    for process in processes:
        process.start()
    assert ended(processes) == [0, 0]
    return [torch.load(out / f"{number}.pt", weights_only=True) for number in (0, 1)]


def alone(group, share):
    given = images(share)
    return trained(group, given, 0, len(given), 1, shared=False)


@pytest.mark.long
@pytest.mark.parametrize("share", ["even", "ragged", "one empty"])
@pytest.mark.parametrize("group", ["SE2", "E2"])
def test_processes_with_shares_of_any_size_learn_what_one_does(group, share, seen):
    expected = alone(group, share)
    for one in seen:
        torch.testing.assert_close(one[group, share, True], expected, rtol=1e-9, atol=1e-11)
    assert any(value.any() for name, value in expected.items() if name.endswith("raw"))


@pytest.mark.long
def test_processes_that_share_nothing_do_not(seen):
    expected = alone("E2", "ragged")
    found = seen[0]["E2", "ragged", False]
    differ = {name for name in expected if not torch.allclose(found[name], expected[name], rtol=1e-3)}
    assert {"norm0.running_mean", "norm0.running_var", "classifier.weight"} <= differ


@pytest.mark.parametrize("group", ["SE2", "E2"])
def test_statistics_stay_where_all_batches_are_empty(group, seen):
    for one in seen:
        found = one[group, "all empty", True]
        for name, value in found.items():
            if "running_mean" in name or "num_batches" in name:
                assert not value.any()
            if "running_var" in name:
                assert (value == 1).all()
        assert all(value.isfinite().all() for value in found.values())


def test_sharing_ends_where_it_is_asked_to(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    net = share_statistics(GResNet("SE2", width=2, samples=2, kernel_size=3, hidden=4))
    lent = [m for m in net.modules() if isinstance(m, BatchNorm | Uniform)]
    assert {type(m) for m in lent if m.all_reduce} == {BatchNorm, Uniform}
    assert not [m for m in share_statistics(net, shared=False).modules() if getattr(m, "all_reduce", None)]
