"""What is saved is what was given: all that would not come back is refused at saving, by name."""

import json

import pytest
import torch
from hostile import edit, refused
from torch import nn
from torch.nn.utils import parametrizations

import partialsym as ps
from partialsym.densities import Uniform
from partialsym.models.round_trip import answers_otherwise, built_otherwise
from partialsym.models.saving import load_model, save_model


def small(**settings):
    torch.manual_seed(0)
    return ps.GResNet("SE2", **{"samples": 4, "width": 2, "hidden": 4, "kernel_size": 3, **settings})


def around(model):
    return ps.Augerino(model, "SE2", copies=3)


def new_head(model):
    model.classifier = nn.Linear(4, 3)


def proportional(model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Uniform):
                module.raw.fill_(0.4)
    ps.set_proportional(model, True)


def everything_inside(model):
    proportional(model)
    new_head(model.model)
    model.bfloat16()


COME_BACK = {
    "unchanged": (small, lambda m: None),
    "a head of other classes": (small, new_head),
    "a head of the CNN": (lambda: ps.GCNN13("Mirror", width=2, hidden=2, kernel_size=3), new_head),
    "half": (small, lambda m: m.half()),
    "bfloat16": (small, lambda m: m.bfloat16()),
    "double": (small, lambda m: m.double()),
    "set_proportional": (small, proportional),
    "taken back": (lambda: small(proportional=True), lambda m: ps.set_proportional(m, False)),
    "nothing learned": (lambda: small(partial=False), proportional),
    "all in an Augerino": (lambda: around(small()), everything_inside),
    "frozen parameters": (small, lambda m: m.requires_grad_(False)),
    "a hook that looks": (small, lambda m: m.norm1.register_forward_hook(lambda *_: None)),
    "an attribute of one's own": (small, lambda m: setattr(m, "note", 3)),
    "another order of sums": (small, lambda m: setattr(m.last, "path", "dense")),
}


@pytest.mark.parametrize("wish", COME_BACK)
def test_ordinary_wishes_come_back(wish, tmp_path):
    make, change = COME_BACK[wish]
    model = make()
    change(model)
    settings = json.dumps(model.settings)
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path)
    state, came = model.state_dict(), again.state_dict()
    assert [(k, v.dtype) for k, v in state.items()] == [(k, v.dtype) for k, v in came.items()]
    assert all(torch.equal(v, came[k]) for k, v in state.items())
    x = torch.randn(2, 1, 16, 16).to(next(model.parameters()).dtype)
    assert torch.equal(model.eval()(x), again(x)) or wish == "double"  # whose constants were made in float32
    assert answers_otherwise(model, again, x) is None
    assert json.dumps(model.settings) == settings


def linear(model):
    return model.block1.conv1.kernel.linear


def shared(model):
    linear(model).weight = model.block1.conv2.kernel.linear.weight


def logistic(model):
    class Logistic(Uniform):
        def theta(self):
            return self.raw.sigmoid()

    model.last.codomain.algebra = Logistic(0.3)


def embedding(model):
    model.last.domain = type("Jump", (ps.SE2,), {})()


OTHER = {
    "a head with dropout": (lambda m: setattr(m, "classifier", nn.Sequential(nn.Linear(4, 3))), "classifier is .*Sequ"),
    "no bias": (
        lambda m: setattr(m, "classifier", nn.Linear(4, 10, bias=False)),
        "classifier.bias is missing or shared",
    ),
    "mean": (lambda m: setattr(m, "pool", ps.GlobalPool("mean")), "pool.mode is 'mean', and would be loaded as 'max'"),
    "no pool": (lambda m: setattr(m, "pool0", nn.Identity()), "pool0 is .*Identity, and would be loaded as .*SpatialP"),
    "eps": (lambda m: setattr(m.norm1, "eps", 1.0), "norm1.eps is 1.0, and would be loaded as 1e-05"),
    "momentum": (lambda m: setattr(m.norm1, "momentum", None), "norm1.momentum is None, and would be loaded as 0.1"),
    "dropout": (lambda m: setattr(m.block1.dropout, "p", 0.5), "block1.dropout.p is 0.5, and would be loaded as 0.0"),
    "omega0": (lambda m: setattr(m.last.kernel, "omega0", 1.0), "last.kernel.omega0 is 1.0"),
    "samples": (lambda m: setattr(m.last.codomain, "samples", 8), "last.codomain.samples is 8"),
    "one proportional": (
        lambda m: setattr(m.last.codomain, "proportional", True),
        "last.codomain.proportional is True",
    ),
    "a density": (logistic, "last.codomain.algebra is .*Logistic, and would be loaded as .*Uniform"),
    "an embedding": (embedding, r"last.domain is SE2 \(.*Jump\), and would be loaded as SE2"),
    "parametrised": (lambda m: parametrizations.weight_norm(linear(m)), "block1.conv1.kernel.linear is .*Parametrized"),
    "tied": (shared, "block1.conv2.kernel.linear.weight is missing or shared"),
    "mixed dtypes": (
        lambda m: m.bfloat16().classifier.float(),
        "classifier.weight is .* float32, and would .* bfloat16",
    ),
    "another dtype": (lambda m: m.to(torch.float8_e5m2), "its weights are float8_e5m2, and must be float32"),
    "not finite": (lambda m: m.norm1.running_var.fill_(torch.nan), "norm1.running_var has values that are not finite"),
    "no values": (lambda m: m.to("meta"), "lifting.bias has no values, on the meta device"),
    "constants": (lambda m: m.last.taps.mul_(1.1), "its output would differ by .* % after loading"),
    "a hook": (
        lambda m: m.pool.register_forward_hook(lambda *a: a[2] + 1),
        "its output would differ by .* % after loading",
    ),
    "an error": (lambda m: setattr(m, "forward", lambda x: 1 / 0), "its forward pass raises ZeroDivisionError"),
    "an answer": (
        lambda m: setattr(m, "forward", lambda x: x),
        r"its output for one image is \[1, 1, 16, 16\], and would",
    ),
    "no tensor": (lambda m: setattr(m, "forward", lambda x: [x]), "its output for one image is list, and would"),
}


@pytest.mark.parametrize("change", OTHER)
def test_what_would_come_back_as_another_network_is_refused_by_name(change, tmp_path):
    spoil, message = OTHER[change]
    model = small()
    spoil(model)
    state, default = torch.get_rng_state(), torch.get_default_dtype()
    with pytest.raises(ValueError, match=f"load_model would not restore this GResNet: {message}"):
        save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_default_dtype() == default


def test_saving_asks_neither_for_the_default_device_nor_for_modes_of_the_caller(tmp_path):
    model = small()
    with torch.device("meta"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        save_model(model, tmp_path)
    assert built_otherwise(model, load_model(tmp_path)[0]) is None


def test_saving_leaves_the_network_alone(tmp_path):
    model = small(dropout=0.5).half()
    model.block1.eval()
    model(torch.randn(2, 1, 12, 12).half()).sum().backward()
    tensors = [(name, p, p.clone(), p.grad) for name, p in model.named_parameters()]
    modes, buffers = [m.training for m in model.modules()], [b.clone() for b in model.buffers()]
    save_model(model, tmp_path)
    for (name, p, values, grad), (now, q) in zip(tensors, model.named_parameters(), strict=True):
        assert name == now
        assert p is q
        assert torch.equal(q, values)
        assert q.grad is grad
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))


def test_two_networks_that_differ_in_nothing_do_not_differ_and_two_that_do_do():
    a, b, other = small(), small(), small(kernel_options={"omega0": 9.0})
    x = torch.randn(1, 1, 12, 12)
    assert built_otherwise(a, b) is None
    assert answers_otherwise(a, b, x) is None
    assert built_otherwise(a, other) == "lifting.kernel.omega0 is 10.0, and would be loaded as 9.0"
    assert "% after loading" in answers_otherwise(a, other, x)


def test_an_altered_network_is_kept_and_not_given_back_as_another(tmp_path):
    model = small()
    model.norm1.eps = 1.0
    save_model(model, tmp_path / "other", altered="eps", mean=(0.5,))
    with refused(tmp_path / "other", "altered by 'eps': it cannot be rebuilt (norm1.eps is 1.0, and would be"):
        load_model(tmp_path / "other")
    save_model(small(), tmp_path / "same", altered="weights", mean=(0.5,))
    again, record = load_model(tmp_path / "same")
    assert (record["altered"], record["mean"]) == ("weights", [0.5])
    assert built_otherwise(small(), again) is None
    with pytest.raises(ValueError, match="about has 'difference'"):
        save_model(small(), tmp_path / "same", difference="mine")


def test_half_weights_have_half_the_bytes(tmp_path):
    model = ps.GResNet("T2", samples=1, width=1, hidden=2, kernel_size=3, in_channels=6000).half()
    save_model(model, tmp_path)  # 24,000 numbers: by 4 bytes each they would not fit
    settings = json.loads((tmp_path / "model.json").read_text())["settings"]
    assert next(tmp_path.glob("*.safetensors")).stat().st_size < 4 * 2 * 6000
    assert next(load_model(tmp_path)[0].parameters()).dtype == torch.float16
    edit(tmp_path, settings=settings | {"width": 2})
    with refused(
        tmp_path, "does not fit its weights: lifting.bias is [1] of float16 in the file, but [2] of float16 in the"
    ):
        load_model(tmp_path)


def test_weights_larger_than_what_is_read_are_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr("partialsym.models.saving.MOST_WEIGHTS", 1000)
    with pytest.raises(ValueError, match=r"its weights have [\d,]+ bytes, and load_model reads at most 1,000"):
        save_model(small(), tmp_path)
