"""Augerino: its copies, its mean and gradients, its exact laws, and that a whole workflow takes it."""

import pytest
import torch
from exported import ABOUT, answer
from networks import assert_frozen, shaken
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from partialsym import GCNN13, Augerino, GResNet, group, haar, recalibrate, set_proportional
from partialsym.config import TrainingConfig
from partialsym.densities import set_temperature
from partialsym.export.conversion import kept
from partialsym.export.onnx import export
from partialsym.measure import learned_subsets, rotate
from partialsym.models.dense_twin import dense_twin
from partialsym.testing import assert_equivariant, equivariance_error, transform
from partialsym.training.compile import Compiled
from partialsym.training.module import objective

COPIES = {"SE2": 4, "E2": 6, "Mirror": 2, "C4": 4, "D4": 8}


class Net(nn.Module):
    """A plain CNN without symmetries, smooth in its input."""

    def __init__(self, channels=2):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(channels, 3, 3), nn.LazyLinear(5)

    def forward(self, x):
        return self.linear(self.conv(x).tanh().flatten(1))


def wrapped(name, theta=0.6, model=None, size=(8, 8), **options):
    """With θ given and every second component dropped."""
    model = Augerino(Net() if model is None else model, name, copies=COPIES[name], **options)
    model(torch.randn(1, 2, *size))  # sets the lazy layer
    with torch.no_grad():
        for key, parameter in model.density.named_parameters():
            parameter[... if key.endswith("raw") else slice(None, None, 2)] = theta if key.endswith("raw") else -1
    return model


@pytest.mark.parametrize("name", ["C4", "D4", "Mirror"])
def test_on_symmetries_of_the_grid_copies_are_exact(name, float64):
    """h⁻¹·x, as a layer sees x at h: at 90° x is turned clockwise."""
    x = torch.randn(2, 3, 6, 6)
    h = group(name)
    elements = haar(h, COPIES[name]).eval().sample()
    copies = Augerino.transformed(x, elements)
    for matrix, copy in zip(elements.matrices, copies, strict=True):
        torch.testing.assert_close(copy, transform(x, h.inverse(matrix)), rtol=0, atol=1e-12)
    if name == "C4":
        torch.testing.assert_close(copies[1], torch.rot90(x, -1, (-2, -1)), rtol=0, atol=1e-12)
        assert (copies[1] - transform(x, elements.matrices[1])).abs().max() > 0.1
    if name == "Mirror":
        wide = torch.randn(2, 3, 5, 8)
        torch.testing.assert_close(Augerino.transformed(wide, elements)[1], wide.flip(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(20, 20), (14, 27)])
def test_any_angle_turns_as_rotate_does_and_outside_is_the_border(size, float64):
    x = torch.zeros(2, 1, *size)
    x[..., 5:-5, 5:-5] = torch.randn(2, 1, size[0] - 10, size[1] - 10)
    elements = haar(group("SE2"), 6).eval().sample()  # −150°, −90° … 150°
    for copy, degrees in zip(Augerino.transformed(x, elements), (150, 90, 30, -30, -90, -150), strict=True):
        turned = rotate(x, degrees + 1e-9)  # not by its short cut
        torch.testing.assert_close(copy, turned, rtol=0, atol=1e-7)
        assert (copy - rotate(x, -degrees + 1e-9)).abs().max() > 0.1
    ones = torch.ones(1, 1, *size)
    torch.testing.assert_close(Augerino.transformed(ones, elements), ones.expand(6, 1, 1, *size))
    assert rotate(ones, 30).min() < 0.5


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", COPIES)
def test_it_is_the_weighted_mean_with_its_gradients(name, training, float64):
    """Against a loop over the copies, on the same draw; also where nothing of a component is drawn."""
    model, x = wrapped(name).train(training), torch.randn(3, 2, 8, 8)
    seen, gradients = [], []
    for loop in (False, True):
        torch.manual_seed(3)
        if loop:
            elements = model.density.sample()
            answers = torch.stack([model.model(copy) for copy in Augerino.transformed(x, elements)])
            w = torch.ones(len(elements)) if elements.weights is None else elements.weights
            out = sum(w_j * f_j for w_j, f_j in zip(w, answers, strict=True)) / w.sum()
        else:
            out = model(x)
        seen.append(out)
        model.zero_grad()
        out.square().sum().backward()
        gradients.append({key: p.grad for key, p in model.named_parameters()})
    torch.testing.assert_close(*seen, rtol=1e-12, atol=1e-12)
    for key, grad in gradients[1].items():
        if training or "logits" not in key:  # in eval mode decisions, without a gradient
            torch.testing.assert_close(gradients[0][key], grad, rtol=1e-10, atol=1e-12)
            assert grad.abs().max() > 0


def test_the_gradient_towards_theta_is_that_of_finite_differences_at_fixed_draws(float64):
    model, x = wrapped("SE2"), torch.randn(3, 2, 8, 8)
    raw, step = model.density.algebra.raw, 1e-6

    def run(theta):
        torch.manual_seed(5)
        with torch.no_grad():
            raw.fill_(theta)
        return model(x).square().sum()

    for theta in (0.2, 0.6, 0.95):
        (grad,) = torch.autograd.grad(run(theta), raw)
        difference = (run(theta + step) - run(theta - step)) / (2 * step)
        torch.testing.assert_close(grad, difference.detach(), rtol=1e-6, atol=1e-6)
        assert grad.abs() > 1e-3


def test_a_component_that_was_not_drawn_feels_how_its_copy_would_change_the_answer(float64):
    """∂f̄/∂w_j = (f_j − f̄)/Σ w, times the relaxation's y(1 − y)/τ."""
    model, x = wrapped("Mirror"), torch.randn(3, 2, 8, 8)
    set_temperature(model, 0.5)
    logit, noise = model.density.component.logits, {}
    for seed in range(40):
        torch.manual_seed(seed)
        u = torch.rand_like(logit)
        noise[bool(logit + u.logit() > 0)] = seed, u.detach()
    for drawn, (seed, u) in noise.items():
        torch.manual_seed(seed)
        (grad,) = torch.autograd.grad(model(x).sum(), logit)
        y = ((logit + u.logit()) / 0.5).sigmoid()
        own, other = model.model(x).sum(), model.model(x.flip(-1)).sum()
        gain = (other - (own + other) / 2) / 2 if drawn else other - own
        torch.testing.assert_close(grad, gain * y * (1 - y) / 0.5, rtol=1e-10, atol=1e-12)
    assert noise.keys() == {False, True}


@pytest.mark.parametrize("name", ["SE2", "E2", "Mirror", "C4", "D4"])
def test_a_whole_group_makes_any_network_invariant_and_a_part_does_not(name, float64):
    x = torch.randn(2, 2, 8, 8)
    model = Augerino(Net(), name, copies={"E2": 8}.get(name, COPIES[name])).eval()
    assert_equivariant(model, x, group(name), transport=False)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(model.model, x, group(name), transport=False)
    part = wrapped(name, theta=0.4).eval()
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(part, x, group(name), transport=False)
    if name in ("SE2", "C4"):
        assert equivariance_error(model, x, group("Mirror").components[1], transport=False) > 1e-2


def test_eval_draws_nothing_and_leaves_out_what_is_dropped(float64):
    """Also in the statistics of a recalibrated BatchNorm: they are those of the SE2 copies alone."""
    torch.manual_seed(1)
    nets = [GResNet("T2", width=3, kernel_size=3, hidden=4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    e2, se2 = Augerino(nets[0], "E2", copies=8).eval(), Augerino(nets[1], "SE2", copies=4).eval()
    with torch.no_grad():
        e2.density.component.logits.fill_(-1)
    x, sizes = torch.randn(3, 1, 12, 12), []
    nets[0].register_forward_hook(lambda _, args, out: sizes.append(len(args[0])))
    rng = torch.get_rng_state()
    for model in (e2, se2):
        recalibrate(model, x.split(2))
    torch.testing.assert_close(e2(x), se2(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), rng)
    assert sizes == [8, 4, 12]
    e2.train()(x)
    assert sizes[-1] == 24


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augerino(Net(), "T2", copies=1), "group is 'T2': there is nothing to learn; must be SE2"),
        (lambda: Augerino(Net(), "C1", copies=1), "group is 'C1'"),
        (lambda: Augerino(Net(), "SO3"), "Unknown group 'SO3'"),
        (lambda: Augerino(Net(), "E2", copies=1), "copies is 1: must be a positive multiple of 2"),
        (lambda: Augerino(Net(), "E2", copies=3), "copies is 3"),
        (lambda: Augerino(Net(), "SE2", copies=0), "copies is 0"),
        (lambda: Augerino(Net(), "Mirror", copies=4), "copies is 4: must be 2, the number of elements of Mirror"),
        (lambda: Augerino(Net(), sampling="halton"), "sampling is 'halton'"),
        (lambda: Augerino(nn.Sequential(Augerino(Net()))), "contains an Augerino already"),
        (lambda: Augerino(Net())(torch.zeros(2, 8, 8)), r"shape \(2, 8, 8\): must be \[batch"),
        (lambda: Augerino(Net())(torch.zeros(1, 2, 8, 8, dtype=torch.uint8)), "torch.uint8: must be floating"),
        (lambda: dense_twin(Augerino(Net())), "Augerino has no dense twin"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_it_learned_is_the_input_of_the_list():
    model = shaken(Augerino(GResNet("E2", width=2, samples=4, kernel_size=3), "E2", copies=4))
    first, second, *_, last = learned_subsets(model)
    assert first == {"layer": "input", "group": "E2", "theta_deg": 90.0, "P(m)": pytest.approx(0.2689, abs=1e-4)}
    assert (second["layer"], last["layer"]) == ("lifting", "last")
    assert [s["layer"] for s in learned_subsets(model.model)] == [s["layer"] for s in learned_subsets(model)][1:]
    assert kept(model) == {"input": (2, 4), **kept(model.model)}


@pytest.mark.parametrize("name", ["SE2", "E2", "Mirror", "C4"])
def test_converted_it_gives_the_same(name, float64):
    net = GResNet("E2", width=2, samples=4, kernel_size=3, in_channels=2)
    model = shaken(Augerino(net, name, copies={"SE2": 5}.get(name, COPIES[name])))
    set_proportional(model, True)
    frozen = assert_frozen(model, torch.randn(3, 2, 14, 17))
    assert frozen.density.matrices.shape[0] == {"SE2": 3, "E2": 2, "Mirror": 1, "C4": 2}[name]
    assert kept(model)["input"][0] == len(frozen.density.matrices)


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_gives_the_same_answers_at_any_batch(suffix, tmp_path):
    model = shaken(Augerino(GCNN13("SE2", width=2, samples=2, in_channels=2, num_classes=5), "E2", proportional=True))
    export(model, tmp_path / f"model{suffix}", **ABOUT)
    mean, std = (torch.tensor(ABOUT[key])[:, None, None] for key in ("mean", "std"))
    for batch in (1, 5):
        images = torch.rand(batch, 2, 18, 22)
        with torch.no_grad():
            expected = model((images - mean) / std)
        found = answer(tmp_path / f"model{suffix}", images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.long
@pytest.mark.parametrize("inside", ["linear", "GResNet"])
def test_a_compiled_step_is_one_graph_for_every_batch_size(inside):
    torch._dynamo.reset()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(14 * 12, 10))
    model = Augerino(linear if inside == "linear" else GResNet("T2", width=2, kernel_size=3), "E2", copies=2)
    step = objective(model, TrainingConfig(width=0.1, monotonic=0.1))
    counter = CompileCounterWithBackend("aot_eager")
    fast = Compiled(step, backend=counter)
    for size in (6, 9):
        images, labels = torch.randn(size, 1, 14, 12), torch.randint(0, 10, (size,))
        found = []
        for run in (fast, step):
            torch.manual_seed(2)
            loss, *_ = run(images, labels)
            found.append((loss, *torch.autograd.grad(loss, list(model.density.parameters()))))
        torch.testing.assert_close(*found)
    assert counter.frame_count == 1
