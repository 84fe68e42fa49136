"""What docs/extending says of adding a group, a density, a kernel and a data set, done: its code is what runs here."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from training import TINY, run

import partialsym as ps
from partialsym import registry
from partialsym.config import ConfigError, DataConfig, ModelConfig
from partialsym.data import load, normalise
from partialsym.registry import DATASETS, GROUPS, KERNELS, NETWORKS
from partialsym.testing import assert_density, assert_equivariant, assert_group_laws, grid_symmetries
from partialsym.training.fit import build_model

PAGES = Path(__file__).parents[2] / "docs" / "extending"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = {"width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 2}


def code(page):
    """The fenced blocks of a page, in their order."""
    return BLOCK.findall((PAGES / f"{page}.md").read_text(encoding="utf-8"))


def run_page(page):
    """What the blocks of a page define, run one after the other as a reader would."""
    names = {"__name__": f"docs_{page}"}
    for i, block in enumerate(code(page)):
        exec(compile(block, f"{page}.md, block {i + 1}", "exec"), names)
    assert torch.get_default_dtype() == torch.float32
    return names


@pytest.fixture(autouse=True)
def _registered_here_alone(monkeypatch):
    for names in (DATASETS, GROUPS, KERNELS, NETWORKS):
        monkeypatch.setattr(names, "_held", dict(names._held))


@pytest.fixture
def bars():
    return run_page("dataset")["bars"]


def steps(net, images, labels, count=30):
    """Train on one batch; the loss before and after, both in train mode."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(count):
        loss = F.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def batch(bars, count=32):
    data = bars()
    return normalise(data.train.images[:count], data.mean, data.std), data.train.labels[:count]


def test_a_group(bars, float64):
    with pytest.raises(ConfigError, match="'Flip'"):
        ModelConfig("Flip")
    torch.set_default_dtype(torch.float32)
    run_page("group")
    torch.set_default_dtype(torch.float64)
    h = ps.group(ModelConfig("Flip").group)
    assert_group_laws(h)
    assert_density(ps.learned(h, 2), draws=500)
    assert len(grid_symmetries(h)) == 2
    assert h.component_names == ["e", "180°·m"]
    net = ps.GResNet("Flip", partial=False, **SMALL)
    x = torch.randn(2, 1, 16, 16)
    assert_equivariant(net.eval(), x, h, atol=1e-10, transport=False)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(net, x, ps.Mirror(), atol=1e-10, transport=False)
    first, last = steps(ps.GResNet("Flip", **SMALL).float(), *batch(bars))
    assert last < first / 2


def test_a_density(bars, tmp_path):
    names = run_page("density")
    for density, parameters in ((names["turns"], 1), (names["quarter"], 2), (names["parts"], 1)):
        assert sum(p.numel() for p in density.parameters()) == parameters
        assert_density(density.double().float(), draws=500)
    assert names["turns"].support()["theta_deg"] == pytest.approx(162)
    assert names["quarter"].support() == {"theta_deg": 45.0, "centre_deg": 90.0}
    assert list(names["parts"].support().values()) == pytest.approx(7 * [0.88])
    for group, density in (("SE2", names["turns"]), ("SE2", names["quarter"]), ("D4", names["parts"])):
        net = ps.GResNet(group, **SMALL)
        net.last.codomain = density
        before = [p.detach().clone() for p in density.parameters()]
        steps(net, *batch(bars), count=5)  # the whole group cannot tell the classes: what is asked is that they learn
        assert all(not torch.equal(p, b) for p, b in zip(density.parameters(), before, strict=True))
        with pytest.raises(ValueError, match=r"last\.codomain\.(algebra|component) is .*, and would be loaded as"):
            ps.save_model(net, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_density_without_its_gradient_fails():
    names = run_page("density")

    class Severed(names["Shared"]):
        def draw(self):
            return super().draw().detach() + 0 * self.logits

    density = ps.Density(ps.group("D4"), 8, algebra=ps.HaarAlgebra(), components=Severed(8))
    with pytest.raises(AssertionError, match="No gradient reaches"):
        assert_density(density, draws=500)


def test_a_kernel(bars, tmp_path):
    run_page("kernel")
    assert ModelConfig(kernel="Radial").kernel == "Radial"
    net = ps.GResNet("Mirror", kernel="Radial", kernel_options={"sigma": 0.5}, **SMALL)
    first, last = steps(net, *batch(bars))
    assert last < first / 2
    ps.save_model(net, tmp_path)
    again, _ = ps.load_model(tmp_path)
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(again(x), net.eval()(x))
    with pytest.raises(ValueError, match="options of Radial are layers, sigma"):
        ps.GResNet(kernel="Radial", kernel_options={"omega0": 1.0})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_data_set(tmp_path):
    with pytest.raises(ConfigError, match="'bars'"):
        DataConfig("bars")
    run_page("dataset")
    state = torch.get_rng_state()
    data = load("bars")
    assert torch.equal(state, torch.get_rng_state())
    assert data.train.labels.bincount().min() > 80
    model = replace(TINY.model, group="Mirror", samples=2, pools=("lifting",))
    training = replace(TINY.training, epochs=1)
    result = run(tmp_path, replace(TINY, data=DataConfig("bars"), model=model, training=training)).result()
    assert result["data"] == "bars"
    assert [result["images"][split] for split in ("train", "validation", "test")] == [180, 20, 100]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_network(bars, tmp_path):
    with pytest.raises(ConfigError, match="'Small'"):
        ModelConfig(network="Small")
    small = run_page("network")["Small"]
    with pytest.raises(ConfigError, match=r"model\.hidden is 4: must be left out: Small has no such setting"):
        ModelConfig(network="Small", hidden=4)
    model = ModelConfig("Mirror", network="Small", partial=False, samples=2, options={"depth": 2})
    assert model.complete().width == 8
    with pytest.raises(ConfigError, match=r"model\.learned_layers is 'last': must be left out"):
        build_model(replace(model, learned_layers="last"), 1, 2)
    with pytest.raises(ConfigError, match=r"model: .*'deep'"):
        build_model(replace(model, options={"deep": 2}), 1, 2)
    training = replace(TINY.training, epochs=1)
    trained = run(tmp_path, replace(TINY, data=DataConfig("bars"), model=model, training=training)).model().model
    assert type(trained) is small
    assert len(trained.layers) == 2
    first, last = steps(small("SE2"), *batch(bars))
    assert last < first / 2


PACKAGE = """
[partialsym]
mine = mine.networks
"""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_command_line_knows_a_package_by_its_entry_point(tmp_path):
    """Trained, asked with, reported on and exported from a package of its own."""
    (tmp_path / "mine").mkdir()
    blocks = [block for page in ("network", "dataset") for block in code(page)]
    (tmp_path / "mine" / "networks.py").write_text("\n".join(blocks), encoding="utf-8")
    about = tmp_path / "mine-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (about / "entry_points.txt").write_text(PACKAGE)
    root = str(Path(ps.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root]), "OMP_NUM_THREADS": "1"}

    def command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "partialsym", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ("--data.name", "bars", "--training.epochs", "1", "--model.network", "Small", "--model.samples", "2")
    command("fit", "--name", "mine", "--model.group", "Mirror", "--model.options", "{depth: 2}", *options)
    first = json.loads((tmp_path / "runs" / "mine" / "seed0" / "result.json").read_text())["config"]["model"]
    assert (first["network"], first["width"], first["options"]) == ("Small", 8, {"depth": 2})
    assert "report: page.html" in command("report", "runs/mine/seed0", "--out", "page.html")
    assert "largest difference" in command("export", "runs/mine/seed0", "--out", "model.pt2")


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch):
    point = EntryPoint("mine", "partialsym_has_no_such_module", "partialsym")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._load_plugins.cache_clear()
    try:
        with pytest.raises(
            ps.PartialsymError, match=r"entry point 'mine' cannot be loaded from partialsym_has_no_such"
        ):
            ModelConfig(network="Unknown")
    finally:
        registry._load_plugins.cache_clear()
