"""Recalibrated statistics and Monte-Carlo inference."""

from itertools import product

import pytest
import torch
from helpers import SAMPLES, few
from torch import nn
from torch.nn import functional as F

from partialsym import BatchNorm, Density, GResNet, monte_carlo, recalibrate
from partialsym.inference import evaluating, recalibrated, sampled


def resnet(name="SE2", **options):
    settings = {"samples": SAMPLES[name], "width": 4, "hidden": 8, "kernel_size": 3, "num_classes": 3, **options}
    return GResNet(name, **settings)


def norms(net):
    return [module for module in net.modules() if isinstance(module, BatchNorm)]


def modes(net):
    return {name: module.training for name, module in net.named_modules()}


def shapes(n):
    """A bar, a cross or a ring of 12×12 pixels in noise."""
    labels = torch.randint(0, 3, (n,))
    axis = torch.arange(12.0) - 5.5
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    bar, across = (y.abs() < 1) & (x.abs() < 4), (x.abs() < 1) & (y.abs() < 4)
    kinds = torch.stack([bar, bar | across, ((x**2 + y**2).sqrt() - 3).abs() < 1])
    return (kinds[labels].float() + 0.3 * torch.randn(n, 12, 12))[:, None], labels


def accuracy(logits, labels):
    return float((logits.argmax(-1) == labels).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), few([([0], 0.0), ([0, 1, 2], 0.05)], ([0], 0.0)))
def test_recalibration_brings_train_and_eval_mode_together(seeds, least):
    """After 40 steps at 3 elements; distances are to the mean over draws, in units of a single draw's.

    One network may do well on wrong statistics by chance, so only the mean of three must lose `least` of its accuracy.
    """
    lost = []
    for seed in seeds:
        torch.manual_seed(seed)
        images, labels = shapes(256)
        net = resnet(samples=3, kernel_size=5, partial=False, pools=("lifting",))
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(40):
            batch = torch.randint(0, 256, (64,))
            optimiser.zero_grad()
            F.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            before = net.eval()(images)
            net.train()
            draws = torch.stack([net(images) for _ in range(16)])
            recalibrate(net.eval(), [images])
            after = net(images)
        mean = draws.mean(0)
        one = float((draws - mean).square().sum((1, 2)).mean().sqrt())
        assert float((after - mean).norm()) < 1.6 * one
        assert float((before - mean).norm()) > 2 * one
        trained = accuracy(draws, labels)
        assert trained > 0.95
        assert accuracy(after, labels) == pytest.approx(trained, abs=0.03)
        lost.append(trained - accuracy(before, labels))
    assert sum(lost) / len(lost) > least


def test_recalibrated_statistics_are_those_of_a_pass_by_hand(float64):
    """Batches weigh by their images, and the spread between them counts: the law of total variance."""
    sizes = (8, 3, 5)
    net, batches = resnet("E2"), [torch.randn(n, 1, 16, 16) + n for n in sizes]
    for density in (module for module in net.modules() if isinstance(module, Density) and list(module.parameters())):
        density.component.logits.data.fill_(-1)  # so that weights matter
    recalibrate(net, batches)
    moments = [[] for _ in norms(net)]

    def hook(i):
        def record(_, args):
            weights = args[0].elements.weights
            values = args[0].values if weights is None else args[0].values[:, :, weights > 0]
            moments[i].append((values.mean((0, 2, 3, 4)), values.transpose(0, 1).flatten(1).var(1)))

        return record

    handles = [norm.register_forward_pre_hook(hook(i)) for i, norm in enumerate(norms(net))]
    with evaluating(net, except_=BatchNorm), torch.no_grad():
        saved = {k: v.clone() for k, v in net.state_dict().items()}
        for batch in batches:
            net(batch)
    for handle in handles:
        handle.remove()
    net.load_state_dict(saved)
    for norm, passes in zip(norms(net), moments, strict=True):
        mean = sum(n * m for n, (m, _) in zip(sizes, passes, strict=True)) / sum(sizes)
        second = sum(n * (v + m.square()) for n, (m, v) in zip(sizes, passes, strict=True)) / sum(sizes)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(norm.running_var, second - mean.square(), rtol=1e-10, atol=1e-12)


def test_recalibration_is_deterministic_and_leaves_all_else_alone():
    net, x = resnet(dropout=0.5), torch.randn(8, 1, 16, 16)
    net.block1.eval()
    net.norm1.momentum = 0.3
    before, parameters = modes(net), {k: v.clone() for k, v in net.named_parameters()}
    rng = torch.get_rng_state()
    recalibrate(net, iter([x]))
    first = [norm.running_mean.clone() for norm in norms(net)]
    recalibrate(net, [x])
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(a, norm.running_mean) for a, norm in zip(first, norms(net), strict=True))
    assert modes(net) == before
    assert [norm.momentum for norm in norms(net)] == [0.1, 0.3, 0.1, 0.1]
    assert all(torch.equal(parameters[k], v) for k, v in net.named_parameters())


def test_statistics_of_a_draw_are_those_of_its_elements(float64):
    """The oracle: BatchNorm in train mode under the same draw, but for n/(n − 1) in a variance."""
    net, x = resnet(samples=3), torch.randn(8, 1, 16, 16)
    for seed in range(3):
        recalibrate(net, [x])
        with recalibrated(net, [x], seed=seed):
            own, other = sampled(net, x, 1, seed)[0], sampled(net, x, 1, seed + 1)[0]
        deterministic = sampled(net, x, 1, seed)[0]
        with evaluating(net, except_=(BatchNorm, Density)), torch.no_grad():
            torch.manual_seed(seed)
            expected = net(x)
        away = [float((found - expected).norm() / expected.norm()) for found in (own, other, deterministic)]
        assert away[0] < 0.01
        assert min(away[1:]) > 0.1


@pytest.mark.parametrize(
    "call",
    [
        lambda net, x: recalibrate(net, [x]),
        lambda net, x: recalibrate(net, [x], seed=1),
        lambda net, x: monte_carlo(net, x, 2),
        lambda net, x: monte_carlo(net, x, 2, batches=[x]),
    ],
)
def test_modes_momenta_and_the_generator_are_restored_when_the_model_raises(call):
    net = resnet()
    net.block2.eval()
    x, before, rng = torch.randn(2, 1, 6, 6), modes(net), torch.get_rng_state()
    state = {key: value.clone() for key, value in net.state_dict().items() if "running" in key}
    with pytest.raises(ValueError, match="smaller than"):
        call(net, x)
    assert modes(net) == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert [norm.momentum for norm in norms(net)] == [0.1] * 4
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize(
    "call",
    [
        lambda net, none: recalibrate(net, []),
        lambda net, none: recalibrate(net, [none]),
        lambda net, none: monte_carlo(net, none, 2, batches=[none]),
    ],
)
def test_no_batches_is_an_error(call):
    with pytest.raises(ValueError, match="at least one batch, got none"):
        call(resnet(), torch.zeros(0, 1, 16, 16))


@pytest.mark.parametrize(("training", "own"), few(product([False, True], repeat=2), (False, False), (True, True)))
def test_monte_carlo_is_the_mean_and_spread_of_seeded_draws(training, own):
    net, x = resnet(dropout=0.5).train(training), torch.randn(4, 1, 16, 16)
    before, rng, state = modes(net), torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
    batches = [x[:2], x[2:]] if own else None
    mean, std = monte_carlo(net, x, 5, seed=3, batches=batches)
    assert torch.equal(torch.get_rng_state(), rng)
    assert modes(net) == before
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    draws = torch.stack(sampled(net, x, 5, 3, batches))
    torch.testing.assert_close(mean, draws.mean(0))
    torch.testing.assert_close(std, draws.std(0))
    assert mean.shape == std.shape == (4, 3)
    assert not torch.equal(monte_carlo(net, x, 5, seed=4, batches=batches)[0], mean)
    assert not torch.equal(monte_carlo(net, x, 5, seed=3, batches=None if own else [x])[0], mean)
    assert not mean.requires_grad


def test_monte_carlo_spreads_where_elements_are_drawn_and_only_there():
    x = torch.randn(4, 1, 16, 16)
    assert (monte_carlo(resnet("SE2", partial=False), x, 4)[1] > 0).all()
    assert (monte_carlo(resnet("Mirror"), x, 16)[1] > 0).all()
    for name, partial in (("T2", True), ("C4", False)):
        mean, std = monte_carlo(resnet(name, partial=partial, dropout=0.5), x, 4)
        assert not std.any()
        assert mean.any()


@pytest.mark.parametrize("draws", [1, 0, -2])
def test_a_spread_needs_two_draws(draws):
    with pytest.raises(ValueError, match=f"draws is {draws}: must be at least 2"):
        monte_carlo(resnet(), torch.randn(1, 1, 16, 16), draws)


def test_evaluating_puts_one_type_into_train_mode():
    net = resnet(dropout=0.5).train()
    with evaluating(net, except_=nn.Dropout):
        assert {type(module) for module in net.modules() if module.training} == {nn.Dropout}
    assert all(module.training for module in net.modules())
