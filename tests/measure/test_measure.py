"""What a model does, in numbers: rotations, responses, accuracies, copies."""

import pytest
import torch
from torch import nn

from partialsym import group, haar
from partialsym.data import Preprocessing, Split, pairs
from partialsym.measure import (
    BATCH,
    accuracies_of_draws,
    accuracy,
    copy_gap,
    learned_subsets,
    logits,
    response,
    rotate,
    sampled_accuracies,
)
from partialsym.measure.predictions import brier
from partialsym.models import GResNet

PLAIN = Preprocessing((0.0,), (1.0,))


class Side(nn.Module):
    """Logits that compare the brightness of the upper and the lower half."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(100.0))

    def forward(self, x):
        half = x.shape[-2] // 2
        up, down = x[..., :half, :].mean((1, 2, 3)), x[..., half:, :].mean((1, 2, 3))
        return self.scale * torch.stack([up - down, down - up], 1)


def spot(size=32):
    """A smooth spot above the centre."""
    x = torch.linspace(-1, 1, size)
    return torch.exp(-((x[None, :] ** 2 + (x[:, None] + 0.5) ** 2) / 0.05))[None, None]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 360, -90])
def test_rotate_is_exact_on_quarter_turns(degrees):
    x = torch.rand(2, 3, 9, 9)
    assert torch.equal(rotate(x, degrees), x.rot90(degrees // 90, (2, 3)))


@pytest.mark.parametrize("degrees", [30, 77, 145.5, -20])
def test_rotate_turns_counter_clockwise_about_the_centre(degrees):
    size = 33
    turned = rotate(spot(size), degrees)[0, 0]
    row, column = divmod(int(turned.argmax()), size)
    x, y = column - size // 2, size // 2 - row
    angle = torch.tensor(degrees + 90.0).deg2rad()
    expected = size / 4 * torch.stack([angle.cos(), angle.sin()])
    assert torch.dist(torch.tensor([float(x), float(y)]), expected) < 1.5


def test_bilinear_and_exact_rotations_agree():
    x = spot(28)
    assert (rotate(x, 90.001) - rotate(x, 90)).abs().max() < 1e-3
    wide = torch.nn.functional.pad(x, (6, 6))
    assert (rotate(wide, 45) - torch.nn.functional.pad(rotate(x, 45), (6, 6))).abs().max() < 1e-3


def test_response_of_a_known_model():
    found = response(Side(), spot().expand(5, 1, 32, 32), PLAIN)
    assert found["angles"] == [15.0 * i for i in range(24)]
    for angle, share, mean in zip(found["angles"], found["share"], found["mean"], strict=True):
        if angle not in (90, 270):
            assert share == (1.0 if angle < 90 or angle > 270 else 0.0)
            assert (mean > 0.5) == (share == 1.0)


def test_8_bit_images_are_measured_as_pixels_in_0_to_1():
    images, labels, originals = pairs((255 * torch.rand(3, 1, 12, 12)).byte(), "180")
    eight, real = Split(images, labels, originals), Split(images / 255, labels, originals)
    model, preprocess = Side(), Preprocessing((0.3,), (0.5,))
    assert torch.equal(logits(model, eight.images, preprocess), logits(model, real.images, preprocess))
    assert response(model, eight.images, preprocess) == response(model, real.images, preprocess)
    assert sampled_accuracies(model, eight, preprocess, 2) == sampled_accuracies(model, real, preprocess, 2)
    assert copy_gap(model, eight, preprocess) == copy_gap(model, real, preprocess)


def test_copy_gap_pairs_by_original():
    images, labels, originals = pairs(torch.rand(6, 1, 8, 8), "180")
    order = torch.randperm(12)
    split = Split(images[order], labels[order], originals[order])
    scores = Side()(images)
    assert copy_gap(Side(), split, PLAIN) == pytest.approx(float((scores[::2] - scores[1::2]).abs().max().detach()))
    short = Split(images[:11], labels[:11], originals[:11])
    with pytest.raises(ValueError, match="6 originals but 5 copies"):
        copy_gap(Side(), short, PLAIN)


@pytest.mark.parametrize(("group", "samples", "kind"), [("SE2", 4, "180"), ("E2", 8, "M"), ("Mirror", 2, "M")])
def test_a_full_network_cannot_tell_copies_apart_and_a_partial_one_can(group, samples, kind):
    images, labels, originals = pairs(torch.rand(3, 1, 16, 16), kind)
    split = Split(images, labels, originals)
    full = GResNet(group, partial=False, samples=samples, width=2, kernel_size=3, num_classes=2)
    assert copy_gap(full, split, PLAIN) < 1e-4
    partial = GResNet(group, partial=True, samples=samples, width=2, kernel_size=3, num_classes=2)
    with torch.no_grad():
        for name, parameter in partial.named_parameters():
            if name.endswith("raw"):
                parameter.fill_(0.3)
            if name.endswith("logits"):
                parameter.fill_(-1)
    assert copy_gap(partial, split, PLAIN) > 1e-2


def test_learned_subsets_and_accuracies():
    model = GResNet("E2", samples=4, width=2, kernel_size=3, num_classes=2).train()
    layers = ["lifting", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "last"]
    subsets = learned_subsets(model)
    assert [s["layer"] for s in subsets] == layers
    assert subsets[0] == {"layer": "lifting", "group": "E2", "theta_deg": 180.0, "P(m)": 1.0}
    assert subsets[1]["P(m)"] == pytest.approx(0.88)
    images, labels, originals = pairs(torch.rand(5, 1, 16, 16), "180")
    split = Split(images, labels, originals)
    scores = logits(model, images, PLAIN)
    assert torch.equal(scores, logits(model, images, PLAIN))
    assert model.training
    assert accuracy(scores, scores.argmax(1)) == 1
    assert accuracy(scores, 1 - scores.argmax(1)) == 0
    drawn = sampled_accuracies(model, split, PLAIN, 6, seed=1)
    assert drawn == sampled_accuracies(model, split, PLAIN, 6, seed=1)
    assert len(drawn) == 6


class Turned(nn.Module):
    """The same answer to all images: whether the drawn turn's cosine is above its sine."""

    def __init__(self):
        super().__init__()
        self.density = haar(group("SE2"), 1)

    def forward(self, x):
        return self.density.sample().matrices[0, :, 0].expand(len(x), 2)


def test_a_draw_may_be_new_every_batch_or_one_for_all_images():
    n = 2 * BATCH
    split = Split(torch.rand(n, 1, 2, 2), torch.zeros(n, dtype=torch.long), torch.arange(n))
    assert set(sampled_accuracies(Turned(), split, PLAIN, 16)) == {0, 0.5, 1}
    for batches in (None, [split.images[:4]]):
        one = [accuracies_of_draws(Turned(), split, PLAIN, 16, seed, batches=batches) for seed in (0, 0, 1)]
        assert set(one[0]) == {0, 1}
        assert one[0] == one[1]
        assert one[0][1:] != one[2][:-1]  # neighbouring seeds have no draws in common


def test_the_brier_score_is_the_squared_distance_of_the_probabilities():
    scores, labels = 3 * torch.randn(20, 4), torch.arange(20) % 4
    one_hot = nn.functional.one_hot(labels, 4)
    torch.testing.assert_close(brier(scores, labels), (scores.double().softmax(1) - one_hot).square().sum(1))
    sure = torch.tensor([[1e3, 0.0], [0.0, 1e3]])
    assert brier(sure, torch.tensor([0, 0])).tolist() == [0, 2]
