"""A network of torch and the same on a group: equal on the identity, invariant on the whole, and ready to learn."""

import copy

import pytest
import torch
from helpers import few
from plain_networks import NETWORKS, answers, ready
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym.lifting.layers import LiftedConv
from partialsym.models import named_densities
from partialsym.testing import assert_equivariant

SIZES = (16, 17)
every_network = pytest.mark.parametrize("name", NETWORKS)


def lifted(name, group="D4", size=16, **options):
    """(the network of torch, it on the group in eval mode, images)"""
    model, images = ready(name, size)
    return model, ps.lift(model, group, example=images, **options).eval(), images


def poses(images):
    """The images moved by every symmetry of the square."""
    return [x.rot90(turns, (2, 3)) for x in (images, images.flip(3)) for turns in range(4)]


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol * float(expected.abs().max()))


@every_network
@pytest.mark.parametrize(("group", "size"), few([("E2", 16), ("E2", 17), ("T2", 16), ("T2", 17)], ("E2", 16)))
@torch.no_grad()
def test_on_the_identity_the_answers_are_the_original_ones(name, group, size):
    model, network, images = lifted(name, group, size, partial="identity")
    close(network(images), answers(model, images))
    assert network.report.identity < 1e-6


@every_network
@pytest.mark.parametrize("size", few(SIZES, 16))
@torch.no_grad()
def test_on_the_whole_group_they_are_invariant_and_the_mean_over_the_moved_images(name, size):
    """The oracle is the plain network itself, its resampling symmetric, on images moved pixel by pixel."""
    model, network, images = lifted(name, "E2", size, partial=False, samples=8)
    for moved in poses(images)[1::2]:
        close(network(moved), network(images))
    assert network.report.invariance < 1e-5
    plain = ps.lift(model, "T2", example=images, partial="identity", resampling="symmetric").eval()
    network.output = plain.output = "vector"  # before a softmax
    close(network(images), torch.stack([plain(moved) for moved in poses(images)]).mean(0))
    assert ps.exact_symmetries(network, (size, size)) == ["90°", "180°", "270°", "m", "90°·m", "180°·m", "270°·m"]
    assert not [m for m in model.modules() if isinstance(m, ps.GroupConv)]  # the model is as it was


@torch.no_grad()
def test_the_plain_networks_are_not_invariant_and_the_original_resampling_breaks_it_where_it_is_asymmetric():
    model, network, images = lifted("torchvision", partial=False, resampling="original")
    assert (answers(model, images.flip(3)) - answers(model, images)).abs().max() > 1e-2
    assert (network(images.flip(3)) - network(images)).abs().max() > 1e-4
    assert ps.exact_symmetries(network, (16, 16)) == []
    _, odd, images = lifted("torchvision", size=17, partial=False, resampling="original")
    close(odd(images.flip(3)), odd(images))  # at that size nothing is asymmetric


@pytest.mark.parametrize("group", few(["SE2", "E2", "D4", "Mirror"], "D4"))
def test_a_lifted_network_is_equivariant_whatever_its_layers_draw(group):
    """Every draw of every layer, with mixing and rings of zeros, in float64."""
    model, images = ready("timm", 13)
    network = ps.lift(model.double(), group, example=images.double(), margin=1).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter)).clamp_(-3, 0.9)
    for norm in (m for m in network.modules() if isinstance(m, ps.BatchNorm)):
        norm.eval()
    for dropout in (m for m in network.modules() if isinstance(m, ps.Dropout)):
        dropout.eval()
    assert {step["name"] for step in network.steps if step["op"] == "dropout"}
    assert_equivariant(network, images.double(), ps.group(group), atol=1e-9)


@torch.no_grad()
def test_dense_answers_go_along_with_the_image():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    images = torch.randn(2, 2, 9, 9)
    network = ps.lift(model, "C4", example=images, partial=False).eval()
    close(network(images.rot90(1, (2, 3))), network(images).rot90(1, (2, 3)))
    assert network(images).shape == (2, 3, 9, 9)
    assert network.report.symmetries == ("90°", "180°", "270°")


def test_what_symmetric_resampling_moves_is_named_and_measured():
    model, network, images = lifted("torchvision", partial=False)
    changes = {change.place: change for change in network.report.changes}
    assert list(changes) == [
        "conv1 (Conv2d)",
        "maxpool (MaxPool2d)",
        "layer2.0.conv1 (Conv2d)",
        "layer2.0.downsample.0 (Conv2d)",
    ]
    assert changes["maxpool (MaxPool2d)"].size == (8, 8)
    assert all(change.shift == (0.5, 0.5) and change.difference > 1e-3 for change in changes.values())
    plain = ps.lift(model, "T2", example=images, partial="identity", resampling="symmetric").eval()
    expected = answers(model, images)
    with torch.no_grad():
        found = float((plain(images) - expected).norm() / expected.norm())
    assert network.report.symmetric == pytest.approx(found, rel=1e-3)
    assert "maxpool (MaxPool2d), on 8×8: moved by +0.5 pixels" in str(network.report)
    odd = lifted("torchvision", size=17)[1].report
    assert (odd.changes, odd.symmetric < 1e-6) == ((), True)
    assert "nothing was moved" in str(odd)


def test_learned_subsets_and_what_elements_say_to_each_other_start_at_the_whole_and_learn():
    _, network, images = lifted("torchvision", "E2", size=9, samples=4)
    start = copy.deepcopy(network.state_dict())
    learned = {name: p for name, p in network.named_parameters() if name.endswith(("raw", "logits"))}
    assert len(learned) == 6  # of the first convolution of every draw but the first
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), 0.5)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(network(images), torch.tensor([0, 1, 2])).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        assert all(p.grad.abs().sum() > 0 for name, p in network.named_parameters() if name.endswith("logits"))
        optimiser.step()
    moved = [key for key, value in network.state_dict().items() if not torch.equal(value, start[key])]
    assert {*learned} <= {*moved}
    mixing = [module.mixing for module in network.modules() if isinstance(module, LiftedConv) and module.mixing]
    assert all(layer.kernel.linear.weight.abs().max() > 0 for layer in mixing)
    assert [name for name, _ in named_densities(network)][:2] == ["layers.conv1.local", "layers.layer1_0_conv1.local"]


def test_layers_that_are_added_have_one_draw_and_others_their_own():
    network = lifted("torchvision", "SE2", size=9, samples=4)[1].train()
    held = {}
    for name, module in network.named_modules():
        if isinstance(module, LiftedConv):
            module.register_forward_hook(lambda _m, _a, out, name=name: held.update({name: out.elements}))
    network(torch.randn(1, 3, 9, 9))
    draws = {name.removeprefix("layers."): elements for name, elements in held.items()}
    assert draws["conv1"].same_draw(draws["layer1_0_conv2"])
    assert draws["layer2_0_conv2"].same_draw(draws["layer2_0_downsample_0"])
    assert draws["layer2_0_conv2"].same_draw(draws["fc"])
    assert not draws["conv1"].same_draw(draws["layer1_0_conv1"])
    whole = lifted("torchvision", "SE2", size=9, samples=4, partial=False)[1]
    assert len(list(named_densities(whole))) == 1


@torch.no_grad()
def test_half_a_subset_leaves_the_image_apart_from_its_mirror_image():
    _, network, images = lifted("torchvision", "Mirror", size=17)
    close(network(images.flip(3)), network(images))
    for _, density in named_densities(network):
        if any(True for _ in density.component.parameters()):
            density.component.logits.fill_(-1)
    assert (network(images.flip(3)) - network(images)).abs().max() > 1e-4


@pytest.mark.parametrize("name", few(["torchvision", "VGG"], "VGG"))
def test_it_is_saved_loaded_and_frozen(name, tmp_path):
    _, network, images = lifted(name, "E2", samples=4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter)).clamp_(max=0.9)
    ps.save_model(network, tmp_path, classes=["a"])
    again, record = ps.load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
        assert record["classes"] == ["a"]
        frozen = ps.to_conv2d(network)
        close(frozen(images), network(images))
    assert not [module for module in frozen.modules() if isinstance(module, ps.GroupConv)]


@pytest.mark.long
def test_it_is_exported(tmp_path):
    from partialsym.export.onnx import export

    network = lifted("torchvision", "C4")[1]
    about = {"mean": [0.5] * 3, "std": [0.2] * 3, "classes": [*"abcde"], "size": (16, 16)}
    assert export(network, tmp_path / "network.pt2", **about) < 1e-4


def test_the_model_its_modes_and_the_generator_stay_as_they_are():
    model, images = ready("timm")
    model.train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    network = ps.lift(model, "C4", example=images)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert network.training
    assert all(module.training for module in model.modules())
    assert not ps.lift(model.eval(), "C4", example=images).training
    double = ps.lift(copy.deepcopy(model).double(), "C4", example=images.double())
    assert {parameter.dtype for parameter in double.parameters()} == {torch.float64}
    assert double.report.identity < 1e-12


class Odd(nn.Module):
    """What cannot be lifted, at five places."""

    def __init__(self):
        super().__init__()
        self.conv, self.wide = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, (2, 3), padding=(0, 1))
        self.norm, self.up = nn.GroupNorm(2, 4), nn.Upsample(scale_factor=2)
        self.scale, self.head = nn.Parameter(torch.ones(4, 1, 1)), nn.Linear(4, 2)

    def forward(self, x):
        x = self.up(self.norm(self.conv(x))) * self.scale
        return self.head(self.wide(x).permute(0, 2, 3, 1).mean((1, 2)))


def test_what_cannot_be_lifted_is_named_with_its_place_all_of_it():
    with pytest.raises(ps.PartialsymError, match="the model cannot be lifted: ") as caught:
        ps.lift(Odd(), "SE2", example=torch.randn(1, 3, 8, 8))
    said = str(caught.value)
    for part in (
        "norm (GroupNorm): group_norm",
        "up (Upsample): upsample_nearest2d",
        "the model (Odd): an operation with a tensor that is not a feature map",
        "wide (Conv2d): conv2d with a kernel of 2×3, which cannot be padded to a square",
        "the model (Odd): permute",
    ):
        assert part in said, said
    assert "conv (Conv2d)" not in said


def sequential(*layers):
    return nn.Sequential(*layers)


REFUSED = {
    "rectangle": (sequential(nn.Flatten(), nn.Linear(3 * 8 * 6, 2)), (8, 6), "flattened maps of 8×6 pixels"),
    "stride": (nn.Conv2d(3, 2, 3, (2, 1)), (8, 8), r"stride \[2, 1\], which differs between height and width"),
    "dilated pool": (sequential(nn.Conv2d(3, 2, 1), nn.MaxPool2d(2, dilation=2)), (8, 8), "max_pool2d with a dilation"),
    "statistics": (
        sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
        (8, 8),
        r"1 \(BatchNorm2d\): a batch_norm without running statistics",
    ),
    "nothing": (nn.BatchNorm2d(3), (8, 8), "steps contain no convolution"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why(case):
    model, size, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        ps.lift(model, "SE2", example=torch.randn(2, 3, *size))


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.conv(x) if float(x.sum()) > 0 else x


def test_a_model_that_cannot_be_traced_and_other_mistakes_have_messages():
    images = torch.randn(2, 3, 8, 8)
    model = nn.Conv2d(3, 2, 3)
    with pytest.raises(ps.PartialsymError, match="the model cannot be lifted, because torch cannot trace it"):
        ps.lift(Noise(), example=images)
    with pytest.raises(ValueError, match="on a group already, as its layer '1'"):
        ps.lift(nn.Sequential(model, ps.GroupConv(2, 2, codomain=ps.haar(ps.SE2(), 4), kernel_size=3)), example=images)
    with pytest.raises(ValueError, match=r"on a group already, as its layer 'layers\..* shows: lift the plain"):
        ps.lift(ps.lift(model, "C4", example=images), example=images)
    with pytest.raises(TypeError, match="group is SE2, which is no string: must be the name"):
        ps.lift(model, ps.SE2(), example=images)
    with pytest.raises(TypeError, match="model is a function: must be a module"):
        ps.lift(ready, example=images)
    with pytest.raises(ValueError, match="example must be a batch of at least one image"):
        ps.lift(model, example=images[0])
    with pytest.raises(ValueError, match="partial is 'some': must be True, False or 'identity'"):
        ps.lift(model, example=images, partial="some")
    with pytest.raises(ValueError, match="resampling is 'none'"):
        ps.lift(model, example=images, resampling="none")
    with pytest.raises(ValueError, match="margin is -1: must be at least 0"):
        ps.lift(model, example=images, margin=-1)
    with pytest.raises(ValueError, match="mixing is -1: must be at least 0, or None"):
        ps.lift(model, example=images, mixing=-1)


def test_images_of_another_size_than_flattened_maps_allow_are_refused():
    model = sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 8 * 8, 5))
    network = ps.lift(model, "C4", example=torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="was lifted for maps of 8×8 pixels, but its input has 9×9"):
        network(torch.randn(2, 3, 9, 9))


def test_shared_layers_stay_shared():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    model = sequential(conv, nn.ReLU(), conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    images = torch.randn(2, 3, 8, 8)
    network = ps.lift(model, "T2", example=images, partial="identity").eval()
    with torch.no_grad():
        close(network(images), model(images))
    plain = sum(p.numel() for p in model.parameters())
    # The first use lifts, the second is on the group: two layers of a group, one of T(2).
    assert sum(p.numel() for p in network.parameters()) in (plain, plain + conv.weight.numel() + 3)


@torch.no_grad()
def test_rings_of_zeros_change_nothing_on_the_grid_and_less_than_a_cut_filter_between():
    _, network, images = lifted("torchvision", "C8", size=33, partial=False)
    _, wide, _ = lifted("torchvision", "C8", size=33, partial=False, margin=1)
    _, grid, _ = lifted("torchvision", "C4", size=33, partial=False)
    _, wide_grid, _ = lifted("torchvision", "C4", size=33, partial=False, margin=1)
    close(wide_grid(images), grid(images))
    assert (wide(images) - network(images)).abs().max() > 1e-3


def test_a_trained_network_keeps_its_accuracy_and_gains_that_of_turned_images():
    """Bars at the left or at the top of an image, learned upright: turned by 180° they are at the right or below."""
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    images = 0.3 * torch.randn(64, 1, 12, 12)
    images[labels == 0, :, 2:10, 5:7] += 1
    images[labels == 1, :, 5:7, 5:7] += 2
    model = sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    network = ps.lift(model.eval(), "C4", example=images[:8], partial=False)

    def accuracy(net, x):
        with torch.no_grad():
            return float((net(x).argmax(1) == labels).float().mean())

    assert accuracy(model, images) > 0.95
    assert accuracy(network, images) == accuracy(network, images.rot90(1, (2, 3)))
    assert accuracy(network, images.rot90(1, (2, 3))) >= accuracy(model, images.rot90(1, (2, 3)))


@torch.no_grad()
def test_a_new_head_has_other_classes_and_leaves_all_else():
    """Of a linear layer, and of a pointwise convolution before the pool; what ends in neither is refused."""
    images = torch.randn(2, 3, 8, 8)

    def base():
        return nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

    pooled = sequential(*base(), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    linear = sequential(*base(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).double()
    for model, head in ((pooled, "2"), (linear, "4")):
        x = images.to(next(model.parameters()).dtype)
        network = ps.lift(model, "C4", example=x, partial=True).eval()
        other, before = network.with_head(3), copy.deepcopy(network.state_dict())
        assert other(x).shape == (2, 3)
        assert (other.output, other.training) == ("vector", False)
        close(other(x.rot90(1, (2, 3))), other(x))
        changed = {key for key, value in other.state_dict().items() if not torch.equal(value, before[key])}
        assert {*changed} >= {f"layers.{head}.local.kernel.linear.weight", f"layers.{head}.local.bias"}
        assert all(key.startswith(f"layers.{head}.") for key in changed)
        assert network(x).shape == (2, 5)
        assert other.layers[head].local.kernel.linear.weight.abs().max() <= 0.5  # 1 / √4 of torch's own layers
    conv = nn.Conv2d(3, 3, 3, padding=1)
    twice = sequential(conv, nn.ReLU(), conv, nn.ReLU(), conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    normed = sequential(conv, nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for model in (twice, normed, sequential(*base())):
        with pytest.raises(ps.PartialsymError, match="does not end in a separate layer for the classes"):
            ps.lift(model.eval(), "C4", example=images).with_head(2)
