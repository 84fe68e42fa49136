"""Hooks and parametrisations of torch, above all on a kernel's last layer, which a GroupConv does not call."""

import copy
from functools import partial

import pytest
import torch
from helpers import taken
from networks import assert_frozen
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from partialsym import SE2, T2, GResNet, GroupConv, Signal, dirac, haar, to_conv2d
from partialsym.kernels import SIREN
from partialsym.registry import KERNELS

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
]


def lora(linear):
    down, up = torch.randn(linear.in_features, 2), torch.randn(2, linear.out_features)
    linear.register_forward_hook(lambda _, inputs, out: out + inputs[0] @ down @ up)


def scaled(linear):
    linear.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))


class Lora(nn.Linear):
    """As libraries for LoRA have it: of the layer's type, with a call of its own."""

    def forward(self, x):
        return super().forward(x) + x.sum(-1, keepdim=True)


class Wrapped(nn.Module):
    """As others have it: round the layer, with its weight."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.down = linear, nn.Linear(linear.in_features, 1, bias=False)

    @property
    def weight(self):
        return self.linear.weight

    def forward(self, x):
        return self.linear(x) - self.down(x)


HOOKS = {
    "nothing": lambda linear: None,
    "weight norm": weight_norm,
    "spectral norm": spectral_norm,
    "pruning": lambda linear: prune.l1_unstructured(linear, "weight", 0.5),
    "pruned bias": lambda linear: prune.random_unstructured(linear, "bias", 0.5),
    "parametrised": parametrizations.weight_norm,
    "LoRA": lora,
    "scaled input": scaled,
    "LoRA by type": lambda linear: setattr(linear, "__class__", Lora),
    "forward replaced": lambda linear: setattr(linear, "forward", lambda x, call=linear.forward: 3 * call(x)),
}
every_hook = pytest.mark.parametrize("hang", HOOKS.values(), ids=HOOKS)
FEW = ("nothing", "weight norm", "pruning", "parametrised", "LoRA", "forward replaced")
few_hooks = [pytest.param(hang, marks=() if name in FEW else pytest.mark.long, id=name) for name, hang in HOOKS.items()]


def layer(make=SIREN):
    conv = GroupConv(
        2, 3, domain=SE2(), codomain=haar(SE2(), 2), kernel_size=3, kernel=partial(make, **taken(make, hidden=6))
    )
    if conv.kernel.linear.bias is not None:
        nn.init.normal_(conv.kernel.linear.bias)
    return conv


def network(hang):
    net = GResNet("SE2", width=2, samples=2, kernel_size=3, hidden=4)
    for module in list(net.modules()):
        if isinstance(module, GroupConv):
            hang(module.kernel.linear)
    return net


@pytest.mark.parametrize(
    ("make", "hang"),
    [
        pytest.param(make, hang, id=f"{name}-{kind}")
        for name, make in KERNELS.items()
        for kind, hang in HOOKS.items()
        if (name, kind) != ("Grid", "pruned bias")  # a Grid has none
    ],
)
def test_a_kernel_reads_what_calling_its_last_layer_gives(make, hang):
    """The oracle: the network itself, called point by point."""
    conv = layer(make)
    before = conv.filters(*[conv.codomain.deterministic()] * 2)
    hang(conv.kernel.linear)
    kernel, elements = conv.eval().kernel, conv.codomain.deterministic()
    z = conv._coordinates(elements.matrices, elements.matrices)  # [n, n, taps, d]
    expected = kernel(z)
    found = conv.filters(elements, elements).unflatten(0, (3, 2)).unflatten(2, (2, 2)).flatten(-2)  # [o, m, i, n, kk]
    torch.testing.assert_close(found, torch.einsum("mntoi->omint", expected) / 2, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(kernel.squared_norm(z), expected.square().sum(), rtol=1e-10, atol=0)
    assert (hang in (HOOKS["nothing"], HOOKS["parametrised"], HOOKS["weight norm"])) == torch.allclose(
        found.flatten(-1), before.reshape(found.shape)
    )


@pytest.mark.parametrize("hang", few_hooks)
def test_training_saving_and_conversion_work_with_hooks_of_the_kernels(hang):
    net, x = network(hang).train(), torch.randn(2, 1, 12, 12)
    for _ in range(2):  # a stale weight has no graph for the second
        net(x).square().sum().backward()
    assert all(p.grad is not None for name, p in net.named_parameters() if "kernel" in name)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.1)
    if hang not in (lora, *(HOOKS[name] for name in ("LoRA by type", "forward replaced"))):
        other = network(hang).eval()
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other(x), net.eval()(x), rtol=1e-12, atol=1e-12)
    assert_frozen(net.eval(), x)


def test_spectral_norms_are_1_after_some_steps():
    conv = layer().train()
    spectral_norm(conv.kernel.linear)
    for _ in range(100):
        conv.kernel_norm()
    found, plain = (torch.linalg.matrix_norm(one.kernel.linear.weight.detach(), 2) for one in (conv, layer()))
    assert float(found) == pytest.approx(1, abs=1e-6)
    assert float(plain) != pytest.approx(1, abs=1e-2)


def test_a_layer_in_another_is_read_with_it():
    conv = layer()
    conv.kernel.linear = Wrapped(conv.kernel.linear)
    z = torch.randn(4, conv.kernel.hidden[0].in_features)
    torch.testing.assert_close(conv.kernel.squared_norm(z), conv.kernel(z).square().sum())
    conv.kernel_norm().backward()
    assert conv.kernel.linear.down.weight.grad.any()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_hooked_network_is_compiled_as_one_graph():
    net, x = network(lora).eval(), torch.randn(2, 1, 12, 12)
    found = torch.compile(net, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, net(x))


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda m, i, out: out.relu(), r"something other than weight·φ \+ bias"),
        (lambda m, i, out: nn.functional.dropout(out), r"something other than weight·φ \+ bias"),
        (lambda m, i, out: out + i[0].square().sum(-1, keepdim=True), r"something other than weight·φ \+ bias"),
        (lambda m, i, out: (out,), r"returned no tensor \[n, 6\]"),
        (lambda m, i, out: out[:, :3], r"returned no tensor \[n, 6\]"),
    ],
)
@pytest.mark.parametrize("double", [True, False])
def test_a_hook_that_is_not_linear_is_refused_in_a_line(hook, message, double):
    conv = layer() if double else layer().float()
    elements = conv.codomain.deterministic()
    conv.kernel.linear.register_forward_hook(lambda m, i, out: None)  # one that looks on may stay
    conv.filters(elements, elements)
    conv.kernel.linear.register_forward_hook(hook)
    with pytest.raises(TypeError, match=message):
        conv.filters(elements, elements)
    with pytest.raises(TypeError, match=message):
        conv.kernel_norm()


@pytest.mark.parametrize("hang", [weight_norm, parametrizations.weight_norm, lora])
def test_a_kernel_that_cannot_be_scaled_is_refused_when_its_layer_is_made(hang):
    def kernel(*sizes):
        made = SIREN(*sizes)
        hang(made.linear)
        return made

    with pytest.raises(TypeError, match=r"add it to kernel\.linear afterwards"):
        GroupConv(1, 2, domain=T2(), codomain=haar(SE2(), 2), kernel_size=3, kernel=kernel)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor creation:UserWarning")
def test_a_quantised_kernel_is_refused_and_a_converted_model_can_be_quantised():
    net, x = network(HOOKS["nothing"]).float().eval(), torch.randn(2, 1, 12, 12, dtype=torch.float32)
    with pytest.raises(TypeError, match=r"quantized.*: convert the model with partialsym\.to_conv2d"):
        torch.ao.quantization.quantize_dynamic(net, {nn.Linear})(x)
    found = torch.ao.quantization.quantize_dynamic(to_conv2d(net, x), {nn.Linear})(x)
    torch.testing.assert_close(found, net(x), rtol=0.1, atol=0.1)


def test_a_hooked_network_can_be_copied_where_to_conv2d_does():
    """torch's deep copy refuses a computed weight; what is frozen is not changed."""
    net, x = network(weight_norm), torch.randn(2, 1, 12, 12)
    net(x)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net)
    before = net.block1.conv1.kernel.linear.weight
    to_conv2d(net, x)
    assert net.block1.conv1.kernel.linear.weight is before


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_scripting_names_to_conv2d_and_tracing_works():
    net, x = network(HOOKS["nothing"]).eval(), torch.randn(2, 1, 12, 12)
    with pytest.raises(NotImplementedError, match=r"partialsym\.to_conv2d, and use torch\.jit\.trace"):
        torch.jit.script(net)
    frozen = to_conv2d(net, x)
    with pytest.raises(NotImplementedError, match=r"torch\.jit\.trace"):
        torch.jit.script(frozen)
    for model in (net, frozen):
        torch.testing.assert_close(torch.jit.trace(model, x)(x[:1]), model(x[:1]))


def test_operations_are_counted_without_a_look_at_costs():
    conv = GroupConv(4, 3, domain=T2(), codomain=dirac(T2()), kernel_size=3, path="dense")
    with FlopCounterMode(display=False) as counter:
        conv(Signal.image(torch.zeros(2, 4, 8, 8)))
    found = counter.get_flop_counts()["Global"][torch.ops.partialsym.convolve]
    assert found == 2 * (4 * 3 * 9 * 64 * 2 + 4 * 3 * 9 * 33)
    registered = flop_counter.flop_registry[torch.ops.partialsym.convolve]
    assert registered.__module__ == "partialsym.ops.counting"  # which the layer has imported
