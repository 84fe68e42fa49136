"""Orientation sectors: every image lies in the sector its label names, and what was asked to learn does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from training import TINY, run

from partialsym import GCNN13, GResNet, regularization
from partialsym.config import DataConfig, TrainingConfig
from partialsym.data.sources.sectors import DIGIT, GAP, PROBE, sectors
from partialsym.densities import Bernoulli, Uniform
from partialsym.measure import rotate
from partialsym.registry import DATASETS
from partialsym.training.module import objective

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def root(tmp_path):
    """MNIST of smooth bars from the centre to the top, so that an image's turn can be read off its mass."""
    y, x = np.mgrid[13.5:-14.5:-1, -13.5:14.5]
    bar = 255 * np.exp(-(x**2) / 4 - (y - 5) ** 2 / 6)
    digits = {"train": 60, "test": 20}
    arrays = {f"x_{part}": np.tile(bar.astype(np.uint8), (n, 1, 1)) for part, n in digits.items()}
    arrays |= {f"y_{part}": np.where(np.arange(n) % 5 == 4, 1, DIGIT).astype(np.uint8) for part, n in digits.items()}
    np.savez(tmp_path / "mnist.npz", **arrays)
    return tmp_path


def turn(images):
    """Degrees counter-clockwise from the top of the centre of mass."""
    y, x = np.mgrid[13.5:-14.5:-1, -13.5:14.5]
    mass = images[:, 0].double().numpy()
    return np.degrees(np.arctan2(-(mass * x).sum((1, 2)), (mass * y).sum((1, 2)))) % 360


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_every_image_lies_in_its_sector_and_the_probe_in_the_centres(root, count):
    data = sectors(count, root, content_md5={})
    assert (data.name, len(data.classes)) == (f"sectors-{count}", count)
    assert [len(s) for s in (data.train, data.validation, data.test, data.probe)] == [43, 5, 16, 16]
    for split, spread in ((data.train, 180 / count - GAP), (data.test, 180 / count - GAP), (data.probe, 0)):
        away = (turn(split.images) - 360 * split.labels.numpy() / count + 180) % 360 - 180
        assert np.abs(away).max() <= spread + 1.5  # what the pixels lose
    assert max(np.bincount(data.test.labels)) - min(np.bincount(data.test.labels)) <= 1
    assert set(data.probe.originals.tolist()) == set(data.test.originals.tolist())
    beyond = turn(rotate(data.probe.images.double(), 180 / count + 5)) / (360 / count)
    assert not np.equal(np.round(beyond) % count, data.probe.labels.numpy()).any()  # such a turn changes every label


def test_bad_counts_are_refused_and_all_names_are_there(root):
    for count in (1, 37):
        with pytest.raises(ValueError, match=f"count is {count}: must be from 2 to 36"):
            sectors(count, root, content_md5={})
    assert {name for name in DATASETS if name.startswith("sectors")} == {f"sectors-{k}" for k in (2, 3, 4, 6)}
    assert PROBE == 500


def test_the_last_layer_alone_may_learn():
    for network, last in ((GResNet, "last"), (GCNN13, "convs.8")):
        model = network("E2", learned_layers="last", width=2, kernel_size=3, hidden=4)
        learning = {name.split(".codomain")[0] for name, _ in model.named_parameters() if "codomain" in name}
        assert learning == {last}
    assert sum(isinstance(m, Uniform) for m in GResNet("SE2", width=2, learned_layers="all").modules()) == 5
    with pytest.raises(ValueError, match="learned_layers is 'first': must be one of all, last"):
        GResNet("SE2", learned_layers="first")


def test_the_divergence_from_haar_is_that_of_the_density_of_one_element():
    model = GResNet("E2", width=2, kernel_size=3, hidden=4, samples=4)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Uniform):
                module.raw.fill_(0.5)
            elif isinstance(module, Bernoulli):
                module.logits.fill_(0.0)
    loss = regularization.haar_divergence(model)
    components = (Categorical(torch.tensor(probs)) for probs in ([2 / 3, 1 / 3], [1 / 2, 1 / 2]))
    angles = (torch.distributions.Uniform(-width * np.pi, width * np.pi) for width in (0.5, 1.0))
    expected = sum(float(kl_divergence(*pair)) for pair in (components, angles))
    assert float(loss.detach()) == pytest.approx(5 * expected)
    loss.backward()
    assert float(model.last.codomain.algebra.raw.grad) == pytest.approx(-2)  # descent widens
    p = 1 / 3  # of the mirroring: dKL/dp = log(p / (1 − p)), dp/dP = (1 − p)², dP/dlogit = 1/4
    assert float(model.last.codomain.component.logits.grad) == pytest.approx(np.log(0.5) * (1 - p) ** 2 / 4)
    assert float(regularization.haar_divergence(GResNet("SE2", partial=False, width=2))) == 0
    assert float(regularization.haar_divergence(GResNet("SE2", width=2)).detach()) == pytest.approx(0, abs=1e-6)


def test_the_prior_is_in_the_loss(root):
    model = GResNet("SE2", samples=4, width=2, kernel_size=3, hidden=4).eval()
    with torch.no_grad():
        model.last.codomain.algebra.raw.fill_(0.5)
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])
    loss, entropy, _ = objective(model, TrainingConfig(haar=0.3, width=0.1))(images, labels)
    assert float(loss.detach() - entropy) == pytest.approx(0.3 * np.log(2) - 0.1 * 4.5, rel=1e-4)


@pytest.mark.long
def test_the_result_holds_the_measured_range(tmp_path, monkeypatch, root):
    monkeypatch.setitem(DATASETS, "sectors-2", lambda *args, **rest: sectors(2, *args, content_md5={}, **rest))
    config = replace(
        TINY, data=DataConfig("sectors-2", root=str(root)), training=TrainingConfig(epochs=1, batch_size=8)
    )
    turned = run(tmp_path, config).result()["turned"]
    assert turned["range"] in range(0, 181, 5)
    assert len(turned["accuracy"]) == len(turned["angles"]) == 24
    assert turned["images"] == 16
