"""torch's private names stand in one module, and each may be missing: what is computed stays the same."""

import ast
import logging
import re
from collections import OrderedDict, namedtuple
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

import partialsym as ps
from partialsym._utils import torch_private
from partialsym._utils.precision import OPERATIONS, WHOLE, full_float32
from partialsym._utils.torch_func import batched, refuse_forward, unwrapped
from partialsym.signal import Elements
from partialsym.training.compile import Compiled

ROOT = Path(__file__).parents[2]
SMALL = {"width": 2, "kernel_size": 3, "hidden": 4, "samples": 4}
Pair = namedtuple("Pair", "first second")

# ---- one place ----

PACKAGES = {"torch", "lightning", "nn", "F", "forward_ad", "functional", "trainer"}
OVERRIDDEN = {("partialsym/nn/norm.py", "nn.Module._load_from_state_dict")}  # a method that torch calls on subclasses


def private(source):
    """What a file names of torch or lightning that begins with an underscore."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for a in node.names if a.name.split(".")[0] in PACKAGES for part in a.name.split(".")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[0] in PACKAGES:
            names = ast.unparse(node).split(".")
        else:
            continue
        if any(re.match(r"_(?!_)", name) for name in names):
            yield ast.unparse(node)


def test_private_names_stand_in_one_module():
    files = [file for folder in ("partialsym", "benchmarks", "studies") for file in (ROOT / folder).rglob("*.py")]
    found = {(f.relative_to(ROOT).as_posix(), name) for f in files for name in private(f.read_text(encoding="utf-8"))}
    assert {(file, name) for file, name in found if not file.endswith("torch_private.py")} == OVERRIDDEN


@pytest.mark.parametrize(
    "source",
    ["import torch._dynamo", "from torch._C import f", "from torch.utils import _pytree", "torch._C.f()", "nn._x"],
)
def test_the_search_finds_private_names(source):
    assert list(private(source))
    assert not list(private(source.replace("_", "")))


# ---- each name taken away ----


@contextmanager
def without(monkeypatch, *names):
    found = torch_private._find
    with monkeypatch.context() as patch:
        patch.setattr(torch_private, "_find", lambda name: None if name in names else found(name))
        yield


def transforms():
    """Ordinary and per-image gradients, and what is known of wrapped tensors."""
    torch.manual_seed(0)
    net, x = ps.GResNet("E2", **SMALL).double().eval(), torch.randn(2, 1, 12, 12, dtype=torch.float64)
    weights = {name: p.detach() for name, p in net.named_parameters()}
    each = vmap(grad(lambda w, one: functional_call(net, w, (one[None],)).square().sum()), (None, 0))(weights, x)
    first = net(x[:1]).square().sum()
    found = torch.autograd.grad(first, list(net.parameters()), allow_unused=True, materialize_grads=True)
    whole = dict(zip(weights, found, strict=True))
    seen = []

    def look(one):
        seen.append((batched(one), unwrapped(one).shape))
        return one.sum()

    vmap(look)(x)
    vmap(grad(look))(x)
    grad(look)(x)
    assert [flag for flag, _ in seen] == [True, True, False]
    assert {shape for _, shape in seen} == {x.shape}
    assert not batched(x)
    assert unwrapped(x) is x
    torch.testing.assert_close(whole, {name: value[0] for name, value in each.items()}, rtol=1e-10, atol=1e-10)
    image = x[:1].clone().requires_grad_()
    out = net(image)
    rows = torch.autograd.grad(out, image, torch.eye(out.shape[1])[:, None].double(), is_grads_batched=True)[0]
    return whole | {"images": rows}


def forward_mode():
    def product(x):
        refuse_forward("product")
        return 2 * x

    x = torch.ones(2)
    product(x)
    with pytest.raises(NotImplementedError, match="product has no forward-mode derivative"):
        jvp(product, (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        product(x)
    product(x)
    return {}


def precision():
    """By the public names; mkldnn's `all` is not theirs to write."""

    def public():
        whole = torch.backends.fp32_precision, torch.backends.cudnn.fp32_precision
        backends = torch.backends.cuda.matmul, *(getattr(torch.backends.mkldnn, op) for op in ("matmul", "conv", "rnn"))
        return [*whole, *(b.fp32_precision for b in (*backends, torch.backends.cudnn.conv, torch.backends.cudnn.rnn))]

    started = [torch_private.get_fp32_precision(*key) for key in (*WHOLE, *OPERATIONS)]
    torch.backends.fp32_precision, told = "tf32", torch.backends.fp32_precision
    try:
        before = public()
        assert "tf32" in before
        with full_float32():
            assert public() == ["ieee"] * len(before)
            assert [torch_private.get_fp32_precision(*key) for key in OPERATIONS] == ["ieee"] * len(OPERATIONS)
        assert public() == before
    finally:
        torch.backends.fp32_precision = told
    assert [torch_private.get_fp32_precision(*key) for key in (*WHOLE, *OPERATIONS)] == started
    return {}


def every_size():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    step = Compiled(lambda x: 2 * x.sum(1), backend=counter)
    for size in (3, 5, 7):
        assert torch.equal(step(torch.ones(size, 2)), torch.full((size,), 4.0))
    torch._dynamo.reset()
    assert counter.frame_count <= 2  # the first size, and all others
    return {}


def no_compiler():
    def missing(graph, inputs):
        raise RuntimeError("no C++ compiler was found")

    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("partialsym.training.compile")
    logger.addHandler(handler)
    torch._dynamo.reset()
    try:
        assert torch.equal(Compiled(lambda x: 2 * x, backend=missing)(torch.ones(3)), torch.full((3,), 2.0))
    finally:
        logger.removeHandler(handler)
        torch._dynamo.reset()
    assert ["not compiled" in line for line in said] == [True]
    errors = torch_private.compiler_errors()
    assert len(errors) == 3
    assert all(issubclass(error, RuntimeError) for error in errors)
    return {}


def lists():
    tensors = [torch.tensor([3.0, -4.0]), torch.tensor([torch.nan]), torch.ones(2, 2, dtype=torch.float64)]
    into = [torch.zeros_like(t) for t in tensors]
    torch_private.foreach_copy(into, tensors)
    torch.testing.assert_close(into, tensors, equal_nan=True, rtol=0, atol=0)
    norms = [*torch_private.foreach_norm(tensors, torch.inf)]
    torch.testing.assert_close(norms[0], torch.tensor(4.0))
    assert norms[1].isnan()
    return {"norms": [torch.stack([n.double() for n in norms[::2]])]}


def classes():
    norms = (nn.BatchNorm1d, nn.BatchNorm3d, nn.LazyBatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, ps.BatchNorm)
    assert all(issubclass(kind, torch_private.norm_bases()) for kind in norms)
    assert torch_private._batch_norm_base() is torch_private.BatchNormBase is nn.BatchNorm2d.__bases__[0]
    assert all(issubclass(kind, torch_private.conv_bases()) for kind in (nn.Conv2d, nn.ConvTranspose1d, nn.LazyConv3d))
    assert not any(issubclass(nn.Linear, bases()) for bases in (torch_private.norm_bases, torch_private.conv_bases))
    return {}


def trees():
    group = ps.group("Mirror")
    signal = ps.Signal(torch.ones(1, 1, 2, 3, 3), Elements(group, group.components, torch.tensor([1.0, 0.0])))
    ordered = OrderedDict(b=torch.tensor(2.0), a=[torch.tensor(3)])
    tree = (Pair(signal, 7), ordered, {"n": None}, (torch.tensor(5.0),))
    doubled = torch_private.tree_map_only(torch.Tensor, lambda t: 2 * t, tree)
    (pair, other), found, nothing, (five,) = doubled
    assert [type(node) for node in (doubled[0], pair, pair.elements, found, doubled[3])] == [
        *(Pair, ps.Signal, Elements, OrderedDict, tuple)
    ]
    assert (other, nothing, float(five), float(found["b"]), int(found["a"][0])) == (7, {"n": None}, 10, 4, 6)
    assert torch.equal(pair.values, 2 * signal.values)
    assert pair.elements.group == group
    assert torch.equal(pair.elements.weights, torch.tensor([2.0, 0.0]))
    leaves = torch_private.tree_leaves(tree, is_leaf=lambda node: isinstance(node, ps.Signal))
    assert leaves[0] is signal
    assert leaves[1] == 7
    assert len(leaves) == 6
    return {"leaves": [leaf for leaf in torch_private.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]}


def hooks():
    """A network's logits: where hooks on all modules are unknown, norms and pools are called one after the other."""
    torch.manual_seed(0)
    net, x = ps.GResNet("SE2", **SMALL).double(), torch.randn(2, 1, 12, 12, dtype=torch.float64)
    return {"training": net(x).detach(), "evaluation": net.eval()(x).detach()}


def watched():
    """A network's gradients: where modes are unknown, each convolution passes torch's dispatcher."""
    torch.manual_seed(0)
    net, x = ps.GResNet("SE2", **SMALL).double(), torch.randn(2, 1, 12, 12, dtype=torch.float64)
    net(x).square().sum().backward()
    return {name: p.grad for name, p in net.named_parameters()}


FUNCTORCH = ("is_functorch_wrapped_tensor", "get_unwrapped", "is_batchedtensor", "is_legacy_batchedtensor")
CHECKS = {
    "torch._C:_are_functorch_transforms_active": transforms,
    **{f"torch._C._functorch:{name}": transforms for name in FUNCTORCH},
    "torch.autograd.forward_ad:_current_level": forward_mode,
    "torch._C:_len_torch_dispatch_stack": watched,
    "torch._ops:_len_torch_dispatch_stack_pre_dispatch": watched,
    "torch._C:_get_fp32_precision_getter": precision,
    "torch._C:_set_fp32_precision_setter": precision,
    "torch._dynamo:maybe_mark_dynamic": every_size,
    "torch._dynamo.exc:BackendCompilerFailed": no_compiler,
    "torch._inductor.exc:TritonMissing": no_compiler,
    "torch._inductor.exc:GPUTooOldForTriton": no_compiler,
    "torch:_foreach_norm": lists,
    "torch:_foreach_copy_": lists,
    "torch.nn.modules.batchnorm:_BatchNorm": classes,
    "torch.nn.modules.batchnorm:_NormBase": classes,
    "torch.nn.modules.conv:_ConvNd": classes,
    "torch.nn.modules.module:_has_any_global_hook": hooks,
    "torch.utils._pytree": trees,
}


def test_every_name_has_its_check_and_is_in_this_torch():
    source = Path(torch_private.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'"(torch[\w.:]*)"', source)) == set(CHECKS)
    assert [name for name in CHECKS if torch_private._find(name) is None] == []  # else a fallback is at work unseen
    assert torch_private._find("torch._nothing:name") is None
    assert torch_private._find("torch:_nothing") is None


@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning", "ignore:.*torch.jit:DeprecationWarning"
)
@pytest.mark.parametrize("check", [*dict.fromkeys(CHECKS.values())], ids=lambda check: check.__name__)
def test_the_fallbacks_compute_the_same(monkeypatch, check):
    """Without each of a check's names alone, and without all of them."""
    expected = check()
    names = [name for name, its in CHECKS.items() if its is check]
    for missing in {*((name,) for name in names), tuple(names)}:
        with without(monkeypatch, *missing):
            torch.testing.assert_close(check(), expected, rtol=1e-12, atol=1e-12)


def test_what_a_module_does_not_tell_is_assumed(monkeypatch):
    assert not torch_private.has_hooks(nn.Linear(2, 2))
    assert torch_private.has_hooks(SimpleNamespace())
    linear = nn.Linear(2, 2)
    linear.register_forward_hook(lambda *_: None)
    assert torch_private.has_hooks(linear)
    nested = nn.Sequential(nn.Identity(), nn.ReLU())
    assert torch_private.children_of(nested) == dict(nested.named_children())
    assert torch_private.children_of(SimpleNamespace(named_children=nested.named_children)) == dict(
        nested.named_children()
    )
    torch.manual_seed(0)
    net, x = ps.GResNet("SE2", **SMALL).double().eval(), torch.randn(1, 1, 12, 12, dtype=torch.float64)
    expected = net(x)
    monkeypatch.setattr(torch_private, "has_hooks", lambda module: True)  # weights are asked for, not read
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)
