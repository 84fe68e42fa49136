"""The ResNet's heads, linear pooling, and what else a config adds round a network: Augerino and the width reward."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from exported import ABOUT, answer
from helpers import SAMPLES, few, group_conv, lifting, perturbed, random_signal
from networks import assert_frozen, network, shapes
from torch import nn
from training import TINY, run

from partialsym import (
    GCNN13,
    Augerino,
    GResNet,
    GroupConv,
    LinearPool,
    Signal,
    group,
    regularization,
    set_proportional as proportional,
    to_conv2d,
)
from partialsym.config import HEADS as CONFIG_HEADS, ConfigError, ModelConfig, TrainingConfig
from partialsym.export.conversion import kept
from partialsym.export.onnx import export
from partialsym.measure import learned_subsets
from partialsym.models.dense_twin import dense_twin
from partialsym.models.gresnet import HEADS
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries
from partialsym.training.fit import build_model
from partialsym.training.module import objective


def resnet(name="SE2", **options):
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5, **options}
    return perturbed(GResNet(name, **settings))


@pytest.mark.parametrize("name", few([name for name in SAMPLES if name != "T2"], "Mirror", "E2", "C4"))
def test_only_the_group_head_leaves_a_full_network_invariant(name, float64):
    x = torch.randn(2, 1, 16, 16)
    assert_equivariant(resnet(name, partial=False).eval(), x, group(name), atol=1e-10, transport=False)
    for head in ("plane", "linear"):
        net = resnet(name, partial=False, head=head).eval()
        for g in grid_symmetries(group(name))[1:]:
            assert equivariance_error(net, x, g, transport=False) > 1e-3


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["T2", "SE2", "E2", "D4"])
def test_a_head_learns_and_sees_what_it_should(head, name):
    net, images, labels = resnet(name, head=head), torch.randn(8, 1, 16, 16), torch.randint(0, 5, (8,))
    f = net.features(images)
    assert (f.group.name, f.values.shape[2]) == (("T2", 1) if head == "plane" else (name, SAMPLES[name]))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()
    learned = {key.rsplit(".codomain", 1)[0] for key, _ in net.named_parameters() if "codomain" in key}
    assert ("last" in learned) == (head == "group" and name != "T2")
    assert ("block2.conv2" in learned) == (name != "T2")
    for key, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), key
        if key.startswith(("last.kernel", "pool.", "classifier")):
            assert not torch.equal(parameter, before[key]), key
    assert ("pool.linear.weight" in before) == (head == "linear")


@pytest.mark.parametrize("partial", few([False, True], True))
@pytest.mark.parametrize("name", few(["T2", "SE2", "E2", "D4"], "T2", "E2"))
@pytest.mark.parametrize("head", ["plane", "linear"])
def test_they_are_converted_on_all_elements_and_on_fewer(head, name, partial, float64):
    net, x = network(GResNet, name, partial=partial, head=head), torch.randn(2, 1, 15, 18)
    assert_frozen(net, x)
    proportional(net, True)
    assert_frozen(net, x)
    n = 1 if head == "plane" else SAMPLES[name]
    assert kept(net)["last"] == (n, n)
    assert (kept(net)["block2.conv2"][0] < SAMPLES[name]) == (partial and name != "T2")


@pytest.mark.parametrize(("suffix", "head"), few(product([".onnx", ".pt2"], ["plane", "linear"])))
def test_a_file_gives_the_same_answers(head, suffix, tmp_path):
    net, path = network(GResNet, "E2", partial=False, head=head, in_channels=2), tmp_path / f"model{suffix}"
    export(net, path, **ABOUT)
    images = torch.rand(3, 2, 18, 22)
    mean, std = (torch.tensor(ABOUT[key])[:, None, None] for key in ("mean", "std"))
    expected = net((images - mean) / std).detach()
    torch.testing.assert_close(answer(path, images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("head", ["plane", "linear"])
def test_the_dense_twin_has_the_same_shapes(head):
    model = GResNet("SE2", width=4, samples=4, kernel_size=3, head=head)
    twin, images = dense_twin(model), torch.randn(2, 1, 16, 16)
    assert twin(images).shape == model(images).shape
    assert sorted(shapes(model, GroupConv, images)) == sorted(shapes(twin, nn.Conv2d, images))
    if head == "linear":
        assert twin.linear.weight.shape == model.pool.linear.weight.shape


def test_linear_pooling_is_a_linear_layer_of_the_weighted_maxima(float64):
    weights = torch.tensor([1.0, 1, 1, 1, 0, 1, 0, 1])
    pool, f = LinearPool(3, 8), random_signal("E2", weights=weights)
    w, out = pool.linear.weight, pool(f)
    for b in range(2):
        for o in range(3):
            y = pool.linear.bias[o]
            for c in range(3):
                for j in range(8):
                    y = y + w[o, 8 * c + j] * weights[j] * f.values[b, c, j].max()
            torch.testing.assert_close(out[b, o], y, rtol=1e-12, atol=1e-12)
    turned = Signal(f.values.roll(1, 2), f.elements)
    assert (pool(turned) - out).abs().max() > 1e-2


def test_an_element_of_weight_0_is_absent_and_still_feels_a_gradient(float64):
    weights = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0], requires_grad=True)
    pool, f = LinearPool(3, 8), random_signal("E2", weights=weights)
    filled = f.map(lambda v: torch.cat([v[:, :, :4], torch.full_like(v[:, :, 4:], 1e6)], 2))
    found = []
    for signal in (f, filled):
        out = pool(signal)
        found.append((out, *torch.autograd.grad(out.square().sum(), [*pool.parameters(), weights])))
    for a, b in zip(found[0][:-1], found[1][:-1], strict=True):
        assert torch.equal(a, b)
    assert found[0][-1].abs().min() > 1e-4
    with torch.no_grad():
        kept_too = pool(Signal(filled.values, replace(f.elements, weights=None)))
    assert (kept_too - found[0][0]).abs().max() > 1


def test_other_elements_than_its_own_are_refused(float64):
    pool = LinearPool(3, 8)
    with pytest.raises(ValueError, match=r"on 4 elements, but this layer was made for 8: each of its weights belongs"):
        pool(random_signal("SE2"))
    with pytest.raises(ValueError, match="has 2 channels, but this layer expects 3"):
        pool(random_signal("E2", channels=2))
    with pytest.raises(TypeError, match="must be a Signal"):
        pool(torch.zeros(1, 3, 8, 4, 4))
    for arguments in ((0, 8), (3, 0)):
        with pytest.raises(ValueError, match="is 0: must be at least 1"):
            LinearPool(*arguments)

    class Own(nn.Module):
        """Linear pooling of elements that a conversion drops."""

        def __init__(self):
            super().__init__()
            self.lift, self.conv, self.pool = lifting("E2", into=1), group_conv("E2", "learned"), pool

        def forward(self, images):
            return self.pool(self.conv(self.lift(Signal.image(images))))

    with pytest.raises(ValueError, match=r"on 4 elements, .*a conversion that drops elements"):
        to_conv2d(Own(), torch.randn(1, 1, 9, 9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "T2"}, "head is 'T2': must be one of group, plane, linear"),
        ({"head": "linear", "sampling": "iid"}, "sampling must be 'systematic'"),
    ],
)
def test_heads_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        resnet(**options)


def test_a_config_names_heads_and_augerino():
    assert CONFIG_HEADS == HEADS
    assert build_model(ModelConfig(width=2, head="plane"), 1, 3).settings["head"] == "plane"
    config = ModelConfig("T2", width=2, augerino="E2", copies=6, sampling="iid", proportional=True)
    model = build_model(config, 1, 3)
    assert isinstance(model, Augerino)
    outer = {"group": "E2", "copies": 6, "sampling": "iid", "proportional": True}
    assert model.settings == {"model": "GResNet", "settings": model.model.settings, **outer}
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 3)
    assert isinstance(build_model(ModelConfig("T2", width=2, network="CNN13"), 1, 3), GCNN13)
    for options, message in (
        ({"augerino": "T2"}, "group is 'T2'"),
        ({"augerino": "Mirror"}, "copies is 4: must be 2"),
        ({"augerino": "E2", "copies": 3}, "copies is 3"),
        ({"head": "linear", "sampling": "iid"}, "head is 'linear'"),
    ):
        with pytest.raises(ConfigError, match=f"model: {message}"):
            build_model(ModelConfig(**options), 1, 3)


def test_the_width_reward_widens_and_pushes_nothing_out():
    model = Augerino(GResNet("SE2", width=2, samples=4, kernel_size=3, num_classes=2), "SE2")
    images, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 0, 1])
    theta = {key: p for key, p in model.named_parameters() if key.endswith("algebra.raw")}
    assert len(theta) == 6
    assert regularization.width(model).item() == 6
    assert regularization.width(nn.Linear(1, 1)).item() == 0

    def gradients(weight):
        torch.manual_seed(0)
        loss, *_ = objective(model, TrainingConfig(width=weight))(images, labels)
        return torch.stack(torch.autograd.grad(loss, list(theta.values())))

    assert torch.equal(
        torch.stack(torch.autograd.grad(-regularization.width(model), [*theta.values()])), torch.zeros(6)
    )
    for parameter in theta.values():
        parameter.data.fill_(0.5)
    torch.testing.assert_close(gradients(3.0) - gradients(0.0), torch.full((6,), -3.0), rtol=1e-3, atol=1e-3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (-regularization.width(model)).backward()
        optimizer.step()
    assert regularization.width(model).item() == 6
    assert max(p.item() for p in theta.values()) < 1.11


def test_at_the_whole_circle_loss_and_reward_count_together():
    model = GResNet("SE2", width=2, samples=4, kernel_size=3, num_classes=2)
    images, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 0, 1])
    theta = [p for key, p in model.named_parameters() if key.endswith("algebra.raw")]

    def gradients(start, weight):
        torch.manual_seed(0)
        for parameter in theta:
            parameter.data.fill_(start)
        loss, *_ = objective(model, TrainingConfig(width=weight))(images, labels)
        return torch.stack(torch.autograd.grad(loss, theta))

    inside = gradients(1 - 1e-6, 0.0)
    weight = float(inside.max()) / 2
    assert weight > 0
    torch.testing.assert_close(gradients(1.0, weight), (inside - weight).relu(), rtol=1e-3, atol=1e-3 * weight)


def test_augerinos_theta_is_no_layers_in_the_monotonic_penalty():
    model = Augerino(GResNet("SE2", width=2, samples=4, kernel_size=3), "SE2")
    model.density.algebra.raw.data.fill_(0.2)
    assert regularization.monotonic(model).item() == 0
    model.model.block1.conv2.codomain.algebra.raw.data.fill_(0.5)
    assert regularization.monotonic(model).item() == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "options",
    [pytest.param({"head": "linear"}, marks=pytest.mark.long), {"head": "plane", "augerino": "E2", "copies": 2}],
)
def test_they_train_end_to_end(options, tmp_path):
    training = replace(TINY.training, epochs=2, width=0.1, density_lr=0.3)
    done = run(tmp_path, replace(TINY, model=replace(TINY.model, **options), training=training))
    result, model = done.result(), done.model().model
    assert result["subsets"] == learned_subsets(model)
    assert result["subsets"][0]["layer"] == ("input" if "augerino" in options else "lifting")
    assert isinstance(model, Augerino) == ("augerino" in options)
    assert all(0 <= result["accuracy"][name] <= 1 for name in ("test", "test_all_elements", "test_proportional"))
