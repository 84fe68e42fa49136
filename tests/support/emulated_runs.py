"""What is run on an emulated GPU, in a process of its own: `main` writes what came of each to a JSON file."""

import copy
import gc
import itertools
import json
import tempfile
import time
import traceback
import warnings
from functools import partial
from pathlib import Path

import emulated_mistakes
import emulated_training
import pytest
import torch
from emulated_cuda import devices, emulated
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

import partialsym as ps
from partialsym import measure, regularization
from partialsym.data import Preprocessing, load
from partialsym.densities import AllComponents
from partialsym.export.conversion import kept
from partialsym.models import Augerino
from partialsym.ops import operator
from partialsym.profiling import multiply_adds
from partialsym.registry import KERNELS, NETWORKS

GROUPS = {"T2": 1, "Mirror": 2, "SE2": 2, "E2": 4, "C4": 4, "D4": 8}
PRECISIONS = ("32", "bf16", "64")
OWN = (operator._convolve, operator._convolve_backward)
TINY = {"width": 2, "hidden": 2, "kernel_size": 3, "num_classes": 3, "in_channels": 1}
PAPER = ("ResNet", "CNN13")
SMALL = {  # of the other networks one of each class
    "gresnet18": {"blocks": (1, 1), "block": "bottleneck", "checkpoint": True},
    "gwrn16_4": {"blocks": (1, 1), "stem_width": 2},
    "gconvnext": {"blocks": (1, 1), "stem_stride": 2},
}
SIZE = 14


def model(network="ResNet", group="E2", **options):
    return NETWORKS[network](group, samples=GROUPS[group], **TINY, **options)


def augerino(group):
    return Augerino(model("ResNet", "T2"), group, copies=GROUPS[group])


def steps(gpu, net, x, labels, device, autocast):
    """What waited in a step of Adam and in eval mode, and the logits of both."""
    net.to(device)
    adam, batch, target = torch.optim.Adam(net.parameters()), x.to(device), labels.to(device)
    torch.manual_seed(0)
    with gpu.noted() as train, torch.autocast(device, torch.bfloat16, enabled=autocast):
        logits = net.train()(batch)
        F.cross_entropy(logits, target).backward()
        adam.step()
    with gpu.noted() as evaluated, torch.no_grad():
        scores = net.eval()(batch)
    return train, evaluated, logits.detach().cpu(), scores.cpu()


def learns(gpu, patch, make, precisions=PRECISIONS):
    """Forward, backward and a step of Adam in train mode, then eval mode; in float64 the same on the processor, too."""
    found, labels = {}, torch.arange(4) % 3
    for precision in precisions:
        torch.set_default_dtype(torch.float64 if precision == "64" else torch.float32)
        with _disable_current_modes():
            ours = make()
            both = {"cuda": copy.deepcopy(ours), "cpu": ours}
        if precision != "64":
            del both["cpu"]
        x, answers = torch.randn(4, 1, SIZE, SIZE), []
        train, evaluated, *scores = steps(gpu, both["cuda"], x, labels, "cuda", precision == "bf16")
        answers.append(scores)
        if "cpu" in both:
            with _disable_current_modes():
                answers.append(steps(gpu, both["cpu"], x, labels, "cpu", False)[2:])
        far = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(answers[0], answers[-1], strict=True)]
        found[precision] = {"train": train, "eval": evaluated, "differences": far}
    return found


def evaluating(gpu, patch):
    """Everything that reads a trained model."""
    net, data = model("CNN3", "E2", proportional=True).cuda().eval(), load("digits-6-180")
    part, preprocess = data.test[torch.arange(3)], Preprocessing(data.mean, data.std)
    batches = (preprocess(part.images.cuda()),)
    with gpu.noted() as recalibrating:
        ps.recalibrate(net, batches)
    ps.recalibrate(net, batches, seed=1)
    mean, std = ps.monte_carlo(net, batches[0], 2, batches=batches)
    scores = measure.logits(net, part.images, preprocess)
    numbers = [
        measure.sampled_accuracies(net, part, preprocess, 2),
        measure.accuracies_of_draws(net, part, preprocess, 2, batches=batches),
        measure.learned_subsets(net),
        measure.equivariance_errors(net, part.images, preprocess, (45.0,), mirrored=True, refine=2),
        measure.lie_derivative(net, part.images, preprocess),
        measure.measured_range(net, part, preprocess, 90),
        measure.predictions_unchanged(net, part.images, preprocess, (0.0, 90.0)),
        measure.class_responses(net, part, preprocess, (0.0, 90.0)),
        kept(net),
        multiply_adds(net, 1, (28, 28)),
    ]
    frozen = ps.to_conv2d(net)
    answers = frozen(batches[0])
    with tempfile.TemporaryDirectory() as place:
        ps.save_model(copy.deepcopy(net).cpu(), Path(place) / "model")
        again, _ = ps.load_model(Path(place) / "model")
    return {
        "recalibrating": recalibrating,
        "devices": devices([mean, std, answers]) + devices(list(frozen.parameters())),
        "frozen": float((answers.cpu() - scores).abs().max() / scores.abs().max()),
        "saved": all(torch.equal(a, b.cpu()) for a, b in zip(again.parameters(), net.parameters(), strict=True)),
        "numbers": len(numbers),
    }


def made_under_a_default_device(gpu, patch):
    """Groups are on the processor; layers where the default is, whenever the group was made."""
    before, found = {name: ps.group(name) for name in GROUPS}, {}
    with torch.device("cuda"):
        for name, group in before.items():
            inside = ps.group(name)
            found[name] = devices([inside.components, inside.grid(4), group.grid(4)])
            for density in (ps.haar(group, GROUPS[name]), ps.learned(inside, GROUPS[name])):
                layer = ps.GroupConv(1, 2, domain=ps.group("T2"), codomain=density, kernel_size=3)
                values = layer(ps.Signal.image(torch.randn(1, 1, 6, 6))).values
                found[name] += devices([values, density.component.probabilities(), *layer.buffers()])
                density.support()
        nets = [
            *map(model, PAPER),
            *(model(name, **options) for name, options in SMALL.items()),
            model(kernel="Gabor"),
            augerino("E2"),
        ]
        ps.to_conv2d(nets[0])
    found["nets"] = sorted({device for net in nets for device in devices([*net.parameters(), *net.buffers()])})
    return found


def moved(gpu, patch):
    """What a module gives that has moved, with nothing in it to move or to learn."""
    some, none = AllComponents(2).cuda(), torch.nn.Linear(1, 1).cuda()
    parts = (regularization.kernel_norm, regularization.monotonic, regularization.width, regularization.haar_divergence)
    pointwise = ps.GroupConv(1, 2, domain=ps.group("SE2"), codomain=ps.group("SE2"), kernel_size=1).cuda()
    with gpu.noted() as waits:
        found = [some.probabilities(), *(part(none) for part in parts), pointwise.kernel_norm()]
    return {"devices": devices(found), "waits": waits}


RUNS = {
    f"{name} {group}": partial(learns, make=partial(model, name, group))
    for name, group in itertools.product(PAPER, GROUPS)
}
RUNS |= {
    name: partial(learns, make=partial(model, name, **options), precisions=("64",)) for name, options in SMALL.items()
}
RUNS |= {f"Augerino {group}": partial(learns, make=partial(augerino, group)) for group in ("SE2", "E2", "D4")}
OPTIONS = [{"kernel": kernel} for kernel in KERNELS if kernel != "SIREN"]
OPTIONS += [{"head": "plane"}, {"head": "linear"}, {"sampling": "iid", "proportional": True}]
RUNS |= {str(options): partial(learns, make=partial(model, **options), precisions=("64",)) for options in OPTIONS}
NETWORKS_OF_ALL = list(RUNS)
FEW = ["ResNet E2", "CNN13 SE2", "gresnet18", "Augerino E2", str({"kernel": "Grid"})]  # the others in `make test-slow`
for function in (
    evaluating,
    made_under_a_default_device,
    moved,
    emulated_mistakes.mismatches,
    emulated_mistakes.waits,
    emulated_training.whole_training,
    emulated_training.penalties_and_skipping,
    emulated_training.augerino_in_training,
    emulated_training.planted_wait,
    emulated_training.streaming,
):
    RUNS[function.__name__] = function


def main(file, *names):
    warnings.simplefilter("ignore")
    gc.freeze()  # a training collects: it need not walk what was imported
    found = {}
    for name in names:
        function = RUNS[name]
        torch.manual_seed(0)
        start = time.process_time()
        try:
            with emulated(*OWN) as gpu, pytest.MonkeyPatch.context() as patch:
                found[name] = function(gpu, patch)
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}", "where": traceback.format_exc()}
        finally:
            torch.set_default_dtype(torch.float32)
        found[name]["seconds"] = time.process_time() - start
    Path(file).write_text(json.dumps(found))
