"""What is evaluated, frozen, exported or measured is computed in float32, whatever torch was told before."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from exported import ABOUT
from helpers import few
from networks import network
from torch import nn
from training import TINY, run

import partialsym as ps
from partialsym._utils.precision import FULL, OPERATIONS, WHOLE
from partialsym.config import Experiment
from partialsym.data import Preprocessing, Split
from partialsym.export.onnx import export
from partialsym.measure import equivariance_errors, lie_derivative, logits, sampled_accuracies
from partialsym.runs.run import identity
from partialsym.testing import equivariance_error
from partialsym.training.fit import Ablation

get, put = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
PREPROCESS = Preprocessing((0.5, 0.5), (0.5, 0.5))


def full():
    return all(get(*key) == FULL for key in (*WHOLE, *OPERATIONS)) and not torch.is_autocast_enabled("cpu")


def settings():
    return [get(*key) for key in (*WHOLE, *OPERATIONS)], torch.is_autocast_enabled("cpu")


WAYS = ["set_float32_matmul_precision", "fp32_precision", "autocast"]


@pytest.fixture(params=WAYS)
def told(request):
    """Each of the ways to ask for fewer bits."""
    before, products = {key: get(*key) for key in WHOLE}, torch.get_float32_matmul_precision()
    if request.param == "set_float32_matmul_precision":
        torch.set_float32_matmul_precision("medium")
    if request.param == "fp32_precision":
        torch.backends.fp32_precision = "tf32"
        put("mkldnn", "all", "bf16")
    with torch.autocast("cpu", torch.bfloat16, enabled=request.param == "autocast"):
        yield
    for key, value in before.items():
        put(*key, value)
    torch.set_float32_matmul_precision(products)


def split(images):
    return Split(images, *2 * [torch.arange(len(images))])


CALLS = {
    "recalibrate": lambda net, x, path: ps.recalibrate(net, [x]),
    "recalibrate on drawn elements": lambda net, x, path: ps.recalibrate(net, [x], seed=1),
    "monte_carlo": lambda net, x, path: ps.monte_carlo(net, x, 2),
    "logits": lambda net, x, path: logits(net, x.clamp(0, 1), PREPROCESS),
    "sampled_accuracies": lambda net, x, path: sampled_accuracies(net, split(x.clamp(0, 1)), PREPROCESS, 2),
    "equivariance_errors": lambda net, x, path: equivariance_errors(net, x.clamp(0, 1), PREPROCESS, [45]),
    "lie_derivative": lambda net, x, path: lie_derivative(net, x.clamp(0, 1), PREPROCESS),
    "to_conv2d": lambda net, x, path: ps.to_conv2d(net, x),
    "export": lambda net, x, path: export(net, path / "model.pt2", **ABOUT),
}


class Seen(nn.Module):
    """A network that keeps whether its passes were in full precision, and can fail in one; kept by its copies, too."""

    def __init__(self, net, fails=False):
        super().__init__()
        self.net, self.settings, self.fails = net, net.settings, fails
        self.seen = Shared()

    def forward(self, x):
        if not torch.compiler.is_exporting():
            self.seen.append(full())
        if self.fails:
            raise RuntimeError("in the midst of it")
        return self.net(x)


class Shared(list):
    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize(
    ("call", "told"),
    few(
        [(c, w) for c in CALLS for w in WAYS],
        *((c, WAYS[0]) for c in CALLS),
        *(("logits", w) for w in WAYS),
    ),
    indirect=["told"],
)
def test_every_pass_is_in_full_precision_and_then_all_is_set_as_before(call, told, tmp_path):
    net, x, before = network(ps.GResNet, "SE2", width=2, samples=2, in_channels=2), torch.rand(2, 2, 18, 22), settings()
    seen = Seen(net)
    assert not full()  # cuDNN's default, at least
    CALLS[call](seen, x, tmp_path)
    assert set(seen.seen) == {True}
    failing = Seen(net, fails=True)
    with pytest.raises(RuntimeError, match="in the midst of it"):
        CALLS[call](failing, x, tmp_path)
    assert (failing.seen, settings()) == ([True], before)


def test_the_checker_of_equivariance_too(told):
    """But for autocast, under which one may want to check."""
    states = []

    class Looks(nn.Module):
        def forward(self, x):
            states.append({get(*key) for key in (*WHOLE, *OPERATIONS)})
            return x.mean((2, 3))

    equivariance_error(Looks(), torch.randn(1, 1, 4, 4), torch.diag(torch.tensor([-1.0, 1.0])))
    assert states == [{FULL}, {FULL}]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("tf32", [True, False])
def test_a_setting_says_whether_a_training_step_is_as_torch_was_told_and_nothing_else(tf32, tmp_path):
    seen = {True: set(), False: set()}

    def look(model):
        model.register_forward_hook(lambda *_: seen[model.lifting.training].add(full()))

    training = replace(TINY.training, epochs=1, tf32=tf32, precision="32")
    config = replace(TINY, data=replace(TINY.data, train_images=64), training=training)
    before = settings()
    run(tmp_path, config, alter=Ablation("look", look))
    assert seen == {True: {not tf32}, False: {True}}
    assert settings() == before


def test_a_config_from_before_the_setting_is_the_same_run():
    tree = TINY.to_dict()
    del tree["training"]["tf32"]
    assert identity(Experiment.from_dict(tree)) == identity(TINY)
    assert identity(replace(TINY, training=replace(TINY.training, tf32=False))) != identity(TINY)


FUZZ = """
import random, warnings, torch
from partialsym._utils.precision import OPERATIONS, WHOLE, full_float32
warnings.simplefilter("ignore")
get, put = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter

def readable(f):
    try:
        return f()
    except RuntimeError:
        return "mixed"

def state():
    held, found = {}, []
    for key in WHOLE:
        held[key] = get(*key)
        put(*key, "none")
    for inherited in ("none", "ieee"):  # which also tells cuDNN's default from what was set
        for key in WHOLE:
            put(*key, inherited)
        found.append([get(*key) for key in OPERATIONS])
    for key, value in held.items():
        put(*key, value)
    flags = torch._C._get_cublas_allow_tf32, torch._C._get_cudnn_allow_tf32, torch.get_float32_matmul_precision
    return held, found, [readable(f) for f in flags]

random.seed(0)
for i in range(300):
    for _ in range(random.randint(0, 3)):
        what, key = random.random(), random.choice(WHOLE + OPERATIONS)
        if what < 0.3:
            torch.set_float32_matmul_precision(random.choice(["highest", "high", "medium"]))
        elif what < 0.4:
            torch.backends.cuda.matmul.allow_tf32 = random.random() < 0.5
        elif i < 100 and key[1] in ("conv", "rnn"):
            pass  # for so long cuDNN's default stays
        elif what < 0.5 and i >= 100:
            torch.backends.cudnn.allow_tf32 = random.random() < 0.5
        else:
            try:
                put(*key, random.choice(["none", "ieee", "tf32", "bf16"]))
            except RuntimeError:  # cuda has no bf16 here
                pass
    before = state()
    try:
        with full_float32():
            assert {get(*key) for key in WHOLE + OPERATIONS} == {"ieee"}
            assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cuda.matmul.allow_tf32
            with full_float32():
                pass
            assert {get(*key) for key in WHOLE + OPERATIONS} == {"ieee"}
            if i % 2:
                raise KeyError
    except KeyError:
        pass
    assert state() == before, (i, before, state())
"""


@pytest.mark.long
def test_whatever_was_set_by_either_interface_is_set_again():
    """In a process of its own: once written over, cuDNN's default does not come back."""
    done = subprocess.run([sys.executable, "-c", FUZZ], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
