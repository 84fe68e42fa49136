"""What eval mode keeps where a P is neither near 0 nor near 1: P > ½, or what validation chooses where needed."""

import pytest
import torch
from torch import nn

from partialsym import (
    BatchNorm,
    GResNet,
    GroupConv,
    Signal,
    choose_components,
    group,
    learned,
    load_model,
    monte_carlo,
    recalibrate,
    save_model,
    to_conv2d,
)
from partialsym.component_choice import _Answers
from partialsym.inference import seeds

LAYERS = 5


class Gates(nn.Module):
    """Tells images of a positive mean from others, but for the draws that `blind` finds no use in.

    Args:
        p: probability of the mirrored half, in each of the layers.
        blind: of the layers' weights of that half [LAYERS] to whether the network guesses.
    """

    def __init__(self, p, blind):
        super().__init__()
        self.convs = nn.ModuleList(
            GroupConv(1, 1, domain=group("T2"), codomain=learned(group("Mirror"), 2), kernel_size=1)
            for _ in range(LAYERS)
        )
        self.norm, self.blind = BatchNorm(1), blind
        for conv in self.convs:
            nn.init.constant_(conv.codomain.component.logits, torch.tensor(p).logit())

    def forward(self, images):
        f = self.norm(Signal.image(images)).values.mean((2, 3, 4))
        kept = torch.stack([conv.codomain.sample().weights[1] for conv in self.convs])
        return torch.cat([0 * f, 0 * f + 0.1 if self.blind(kept) else 20 * f], 1)


def data(count=200):
    labels = torch.randint(2, (count,))
    images = torch.randn(count, 1, 6, 6) + 2 * labels[:, None, None, None] - 1
    return list(zip(images.split(64), labels.split(64), strict=True))


def choose(net, validation=None):
    validation = validation or data()
    net.norm.running_mean.fill_(3.0)  # statistics of drawn elements: wrong
    return choose_components(net, [torch.randn(64, 1, 6, 6)], validation)


def accuracy(net, validation):
    with torch.no_grad():
        return float(torch.cat([net.eval()(x).argmax(1) == y for x, y in validation]).double().mean())


@pytest.mark.parametrize(
    ("p", "blind", "changed"),
    [
        (0.8, lambda kept: bool(kept.all()), 1),  # as on mirrored sevens: no draw of all layers tells them apart
        (0.8, lambda kept: bool(kept[2:].all()), 1),
        (0.8, lambda kept: kept.sum() > 3, None),  # no single one helps
        (0.3, lambda kept: not kept.any(), 1),  # the other way: something must be kept
    ],
)
def test_a_subset_that_training_hardly_saw_is_replaced(p, blind, changed):
    torch.manual_seed(0)
    net, validation = Gates(p, blind), data()
    assert accuracy(net, validation) < 0.7
    choice = choose(net, validation)
    assert choice.by_probability < 0.7 < 0.97 < choice.drawn
    assert choice.chosen == accuracy(net, validation) > 0.97
    assert len(choice.changed) == changed or changed is None
    assert set(choice.changed.values()) == {p < 0.5}
    assert all(name.startswith("convs.") and name.endswith(" P(m)") for name in choice.changed)
    probabilities = [conv.codomain.support()["P(m)"] for conv in net.convs]
    assert probabilities == pytest.approx([p] * LAYERS)  # what was learned is still told
    again = choose(net, validation)
    assert again == choice  # from the start, whatever was chosen before


def test_a_layer_outside_the_answer_is_left_alone():
    net = Gates(0.8, lambda kept: bool(kept[1]))
    assert choose(net).changed == {"convs.1 P(m)": False}


def state(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("p", "blind"),
    [
        (0.8, lambda kept: False),  # right with all of P > ½
        (0.8, lambda kept: True),  # wrong, drawn or not
        (0.8, lambda kept: kept.sum() < 5),  # better than drawn
        (0.995, lambda kept: bool(kept.all())),  # training saw nothing else
        (0.005, lambda kept: not kept.any()),
    ],
)
def test_where_it_answers_as_in_training_nothing_is_changed(p, blind):
    net = Gates(p, blind)
    net.norm.running_mean.fill_(3.0)
    before, modes, rng = state(net), [m.training for m in net.modules()], torch.get_rng_state()
    choice = choose(net)
    assert (choice is None) == (p in (0.995, 0.005))
    assert choice is None or choice.changed == {}
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert choice is None or not torch.equal(torch.get_rng_state(), rng)  # `data` alone draws


def test_it_draws_nothing_from_the_global_generator():
    net, validation, batches = Gates(0.8, lambda kept: bool(kept.all())), data(), [torch.randn(64, 1, 6, 6)]
    rng = torch.get_rng_state()
    assert choose_components(net, batches, validation).changed
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize(
    ("lost", "won", "worse"),
    [(6, 0, True), (5, 0, False), (30, 0, True), (40, 30, False), (60, 30, True), (0, 30, False), (0, 0, False)],
)
def test_a_difference_counts_beyond_two_standard_errors_and_half_a_point(lost, won, worse):
    """Of 1,000 images, in pairs: 2√(lost + won), and 5 images."""
    ours = torch.arange(1000) >= lost
    theirs = torch.arange(1000) < 1000 - won
    assert _Answers((), ours, 0.0).worse_than(_Answers((), theirs, 0.0)) == worse


def test_chance_alone_chooses_in_few_cases():
    """Answers that no image tells, right in half of the cases: two standard errors are exceeded in 2.3 %."""
    g = torch.Generator().manual_seed(0)
    found = [
        _Answers((), torch.rand(300, generator=g) < 0.5, 0.0).worse_than(
            _Answers((), torch.rand(300, generator=g) < 0.5, 0.0)
        )
        for _ in range(1000)
    ]
    assert 5 <= sum(found) <= 45


def test_the_choice_is_part_of_the_state_dict_and_of_what_is_saved(tmp_path):
    net = GResNet("E2", width=2, hidden=2, kernel_size=3, samples=4, num_classes=2)
    recalibrate(net, [torch.randn(8, 1, 12, 12)])
    net.eval().last.codomain.component.choose(1, False)
    x = torch.randn(2, 1, 12, 12)
    save_model(net, tmp_path / "model")
    other = load_model(tmp_path / "model")[0]
    assert torch.equal(other(x), net(x))
    assert other.last.codomain.sample().weights.tolist() == [1, 1, 0, 0]
    frozen = to_conv2d(net, x)
    torch.testing.assert_close(frozen(x), net(x), rtol=1e-4, atol=1e-5)
    net.last.codomain.component.choose(1, None)
    assert float((net(x) - other(x)).detach().abs().max()) > 1e-4

    older = {key: value for key, value in net.state_dict().items() if not key.endswith(".chosen")}
    other.load_state_dict(older)  # files from before there was a choice
    assert torch.equal(other(x), net(x))


def test_training_draws_as_if_nothing_had_been_chosen():
    density = learned(group("E2"), 4)
    density.component.choose(1, False)
    torch.manual_seed(3)
    chosen = [density.draw().weights.tolist() for _ in range(20)]
    density.component.choose(1, None)
    torch.manual_seed(3)
    assert chosen == [density.draw().weights.tolist() for _ in range(20)]
    assert len({tuple(w) for w in chosen}) == 2


def test_a_network_without_components_to_choose_and_empty_data():
    net = GResNet("SE2", width=2, hidden=2, kernel_size=3)
    assert choose_components(net, [], []) is None
    net = Gates(0.8, lambda kept: False)
    with pytest.raises(ValueError, match="validation is empty"):
        choose_components(net, [torch.randn(4, 1, 6, 6)], [])
    with pytest.raises(ValueError, match="recalibrate needs at least one batch"):
        choose_components(net, [], data())


def test_the_mean_of_the_draws_is_what_it_is_compared_with():
    net, validation = Gates(0.8, lambda kept: bool(kept.all())), data()
    images, labels = (torch.cat(part) for part in zip(*validation, strict=True))
    recalibrate(net, [images[:64]])
    drawn = monte_carlo(net, images, 32, seeds(0, 1)[0])[0].argmax(1) == labels
    choice = choose_components(net, [images[:64]], [(images, labels)])
    assert choice.drawn == float(drawn.double().mean())


def test_nothing_is_read_where_there_is_nothing_to_choose():
    def batches():
        raise AssertionError("read")
        yield

    net = GResNet("SE2", width=2, hidden=2, kernel_size=3)
    assert choose_components(net, batches(), batches()) is None
    assert choose_components(Gates(0.995, lambda kept: True), batches(), batches()) is None


def test_a_choice_survives_what_loads_nothing_of_it_and_refuses_components_that_are_none():
    component = learned(group("E2"), 4).component
    component.choose(1, False)
    component.load_state_dict({}, strict=False)
    assert component.decide().tolist() == [1, 0]
    for wrong in (0, 2, -1):
        with pytest.raises(ValueError, match=f"component is {wrong}: must be from 1 to 1"):
            component.choose(wrong, True)
