"""BatchNorm where torch's tools look for it, and where a batch is empty."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import random_signal
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from partialsym import BatchNorm, GResNet, recalibrate, share_statistics, to_conv2d

SMALL = {"width": 2, "kernel_size": 3, "hidden": 4}


def network(group="SE2", **options):
    return GResNet(group, samples=2 if group == "SE2" else None, **SMALL, **options)


def norms(net):
    return [module for module in net.modules() if isinstance(module, BatchNorm)]


def statistics(net):
    return [value.clone() for norm in norms(net) for value in (norm.running_mean, norm.running_var)]


def batches(n=3):
    return [torch.randn(4, 1, 12, 12) * 3 + 1 for _ in range(n)]


def moved(net):
    """A network that has been trained for a step, in train mode."""
    net.train()(batches(1)[0])
    return net


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("weights", [None, [1.0, 0, 1, 1, 0, 0, 1, 1]])
def test_an_empty_batch_leaves_the_statistics_alone(weights, momentum):
    f = random_signal("D4", weights=None if weights is None else torch.tensor(weights))
    norm, empty = BatchNorm(3, momentum=momentum), replace(f, values=f.values[:0].requires_grad_())
    for seen in (0, 1):  # before any other, and after one
        before = [buffer.clone() for buffer in norm.buffers()]
        out = norm(empty).values
        assert out.shape == f.values[:0].shape
        out.sum().backward()
        assert norm.weight.grad.isfinite().all()
        assert all(map(torch.equal, before, norm.buffers()))
        assert norm.num_batches == seen
        norm(f)
    assert not all(map(torch.equal, before, norm.buffers()))


@pytest.mark.parametrize("group", ["SE2", "E2", "D4"])
def test_a_network_trains_on_after_an_empty_batch_as_if_there_had_been_none(group):
    net, (first, second) = network(group, pools=()), batches(2)
    other = copy.deepcopy(net)
    for one, given in ((net, (first, first[:0], second)), (other, (first, second))):
        torch.manual_seed(1)
        for x in given:
            state = torch.get_rng_state()
            one.train()(x)
            if not len(x):
                torch.set_rng_state(state)
    assert all(map(torch.equal, statistics(net), statistics(other)))


def test_recalibration_passes_over_empty_batches():
    net, given = moved(network()), batches(2)
    recalibrate(net, given)
    expected = statistics(net)
    recalibrate(net, [given[0][:0], given[0], given[0][:0], given[1]])
    assert all(map(torch.equal, statistics(net), expected))
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate(net, [given[0][:0]])


def test_update_bn_finds_the_statistics_and_says_to_recalibrate():
    net, given = moved(network()), batches()
    average = AveragedModel(net)
    with pytest.warns(UserWarning, match=r"eval mode uses other elements: call partialsym\.recalibrate"):
        update_bn(given, average)
    assert all(norm.num_batches == len(given) and norm.momentum == 0.1 for norm in norms(average))
    recalibrate(average, given)  # as the warning says
    right = copy.deepcopy(net)
    recalibrate(right, given)
    torch.testing.assert_close(average.eval()(given[0]), right.eval()(given[0]))


def test_update_bn_is_torchs_where_nothing_is_drawn():
    """A layer by itself, on elements that are always the same."""
    f = random_signal("D4")
    given = [replace(f, values=torch.randn_like(f.values) * (i + 1) + i) for i in range(3)]
    ours, theirs = BatchNorm(3), nn.BatchNorm3d(3)
    ours(given[0])
    with pytest.warns(UserWarning, match="recalibrate"):
        update_bn(given, ours)
    update_bn([g.values for g in given], theirs)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_cumulative_statistics_by_choice_are_no_reason_to_warn():
    norm = BatchNorm(3, momentum=None)
    norm(random_signal("D4"))
    assert norm.num_batches == 1


def test_sync_batch_norm_is_refused_in_a_line_and_the_network_is_as_it_was():
    net = network()
    with pytest.raises(AttributeError, match=r"SyncBatchNorm.*partialsym\.share_statistics\(model\)"):
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert len(norms(net)) == 4
    assert not hasattr(norms(net)[0], "num_features")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = norms(net)[0].nothing


def test_sharing_needs_processes():
    with pytest.raises(RuntimeError, match=r"call torch\.distributed\.init_process_group first"):
        share_statistics(network())


def test_norms_without_running_statistics_take_those_of_the_batch():
    net, x = network("D4", partial=False), batches(1)[0]
    torch.func.replace_all_batch_norm_modules_(net)
    assert {len(list(norm.buffers())) for norm in norms(net)} == {0}
    torch.testing.assert_close(net.eval()(x), net.train()(x))  # a full D4 draws nothing
    to_conv2d(net.eval(), x)
    recalibrate(net, [x])
    norms(net)[0].reset_running_stats()


def test_statistics_that_a_fine_tuning_has_frozen_stay():
    """As Lightning's BaseFinetuning freezes a norm."""
    for weights in (None, torch.ones(8)):
        norm, f = BatchNorm(3), random_signal("D4", weights=weights)
        norm.track_running_stats = False
        expected = BatchNorm(3)(f).values
        torch.testing.assert_close(norm(f).values, expected)
        assert (norm.num_batches, norm.running_mean.any()) == (0, False)


def test_lightnings_averaging_resets_and_gathers_them():
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    net, callback = moved(network("D4")), StochasticWeightAveraging(1e-2)
    net.device = torch.device("cpu")
    assert callback.pl_module_contains_batch_norm(net)
    callback.reset_batch_norm_and_save_state(net)
    assert {int(norm.num_batches) for norm in norms(net)} == {0}
    with pytest.warns(UserWarning, match="recalibrate"):
        net(batches(1)[0])
    callback.reset_momenta()
    assert {(int(norm.num_batches), norm.momentum) for norm in norms(net)} == {(1, 0.1)}


def test_the_state_dict_keeps_its_names():
    names = {"weight", "bias", "running_mean", "running_var", "num_batches"}
    norm = BatchNorm(3)
    assert set(norm.state_dict()) == names
    norm(random_signal("D4"))
    plain = {key: value.clone() for key, value in norm.state_dict().items()}  # without torch's versions
    other = BatchNorm(3)
    other.load_state_dict(plain)
    assert other.num_batches == other.num_batches_tracked == 1
