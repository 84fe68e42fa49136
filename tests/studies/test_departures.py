"""The published variants that `studies.departures` puts back differ from ours in what they are said to, alone."""

import copy
from dataclasses import replace

import pytest
import torch
from fake_results import write

from partialsym import SE2, GResNet, Mirror, learned
from partialsym.densities import Bernoulli
from partialsym.reproduction.table import load_table
from partialsym.signal import Elements
from studies.departures import ALTER, TASKS, OneGradient, experiment


def network(group="SE2", samples=8):
    torch.manual_seed(0)
    return GResNet(group, samples=samples, width=2, hidden=4, kernel_size=3, pools=("lifting", "block1", "block2"))


def gradients(density):
    matrices = density.draw().matrices
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
    return torch.stack([torch.autograd.grad(a, density.algebra.raw, retain_graph=True)[0] for a in angles]), angles


def test_results_of_another_departure_or_with_other_settings_are_refused(tmp_path):
    table, task = load_table("mnist6"), TASKS[0]
    config = experiment(task, "embedding", 0)
    for held, altered, wrong in (
        (config, "theta-gradient", "altered = 'theta-gradient'"),
        (config, None, "altered = None"),
        (replace(config, training=replace(config.training, epochs=99)), "embedding", "training.epochs = 99"),
    ):
        write(tmp_path, task.row, 0, 0.5, config=held.to_dict(), altered=altered)
        with pytest.raises(ValueError, match=wrong):
            table.results_in(tmp_path / task.row, config, "embedding")
    write(tmp_path, task.row, 0, 0.5, config=config.to_dict(), altered="embedding")
    assert len(table.results_in(tmp_path / task.row, config, "embedding")) == 1


def test_theta_gets_one_gradient_for_all_and_the_elements_are_the_same():
    density = learned(SE2(), 8)
    with torch.no_grad():
        density.algebra.raw.fill_(0.9)
    torch.manual_seed(1)
    ours, angles = gradients(density)
    torch.testing.assert_close(ours, angles.detach() / 0.9)
    density.__class__ = OneGradient
    torch.manual_seed(1)
    published, same = gradients(density)
    torch.testing.assert_close(same, angles)
    torch.testing.assert_close(published, ours[:1].expand(8))
    assert float((ours.max() - ours.min()).detach()) > 4


def test_a_dropped_component_is_silent():
    ours = Bernoulli(2, probability=0.5)
    published = copy.deepcopy(ours)
    published.__class__ = ALTER["mirror-gradient"].args[0]
    for seed in range(20):
        drawn = []
        for density in (ours, published):
            torch.manual_seed(seed)
            weights = density.draw()
            (slope,) = torch.autograd.grad(weights[1], density.logits)
            drawn.append((float(weights[1].detach()), float(slope)))
        assert drawn[0][0] == drawn[1][0]
        assert drawn[0][1] > 0
        assert drawn[1][1] == (drawn[0][1] if drawn[0][0] else 0)


def test_a_sum_weighs_what_was_drawn_by_its_share_and_is_the_mean_while_nothing_is_dropped():
    ours, published = network("Mirror", 2), network("Mirror", 2)
    ALTER["sum"](published)
    matrices = ours.last.codomain.deterministic().matrices
    for weights, share in (([1.0, 1.0], 1.0), ([1.0, 0.0], 0.5)):
        into = Elements(Mirror(), matrices, torch.tensor(weights))
        kernels = (net.last.filters(into, into) for net in (published, ours))
        torch.testing.assert_close(next(kernels), share * next(kernels))
    turned, same = network(), network()
    ALTER["sum"](turned)
    images = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(turned.eval()(images), same.eval()(images))


def test_the_published_embedding_jumps_at_the_identity_and_ours_does_not():
    conv, ours = network(), network()
    ALTER["embedding"](conv)
    near = SE2().exp(torch.tensor([[-1e-3], [1e-3]]))
    jump = conv.last.domain.embed(near)[:, 0]
    torch.testing.assert_close(jump, torch.tensor([1 - 1e-3 / torch.pi, 1e-3 / torch.pi - 1]))
    assert float((ours.last.domain.embed(near)[0] - ours.last.domain.embed(near)[1]).norm()) < 3e-3
    norm = float((conv.last.kernel_norm() / ours.last.kernel_norm()).detach())
    assert 0.5 < norm < 2  # scaled anew


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.row)
def test_each_task_is_a_row_and_each_altered_network_trains(task):
    config = load_table(task.table).experiment(task.row, 0)
    assert config.model.partial
    for departure in task.departures:
        model = network(config.model.group, config.model.samples)
        names = list(model.state_dict())
        images, ours = torch.randn(2, 1, 28, 28), copy.deepcopy(model)
        ALTER[departure](model)
        assert list(model.state_dict()) == names
        answers = []
        for net in (ours, model):
            torch.manual_seed(2)  # both draw alike
            with torch.autocast("cpu", torch.bfloat16):  # as in training
                answers.append(net(images))
        if departure.endswith("gradient"):
            assert torch.equal(*answers)
        answers[1].square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_departure_that_changes_nothing_is_an_error():
    with pytest.raises(AssertionError, match="no Bernoulli in the network"):
        ALTER["mirror-gradient"](network())
