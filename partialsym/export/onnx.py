"""Export a model to a file that runs without this package: ONNX, or a program of torch.export."""

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from partialsym import __version__
from partialsym._utils.atomic import replace_file
from partialsym._utils.precision import full_float32
from partialsym.data import normalise
from partialsym.data.reading.levels import NARROW, WIDE, Range
from partialsym.data.reading.sizing import Fit, check_fit
from partialsym.errors import InputError, MissingExtraError
from partialsym.export.conversion import to_conv2d
from partialsym.inference import evaluating
from partialsym.nn.conv import GroupConv

TOLERANCE = 1e-4  # of the logits in a file, relative to the largest of them where that is above 1
RESAMPLING = "bilinear, antialiased, of 8-bit or 16-bit pixels: PIL.Image.resize(size, BILINEAR)"
ABOUT = "partialsym.json"  # in a .pt2; in ONNX its entries are the model's metadata


class Classifier(nn.Module):
    """The model with normalisation of its input, images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], softmax: bool = False) -> None:
        super().__init__()
        self.model, self.softmax = model, softmax
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model((images - self.mean) / self.std)
        return logits.softmax(1) if self.softmax else logits


def export(
    model: nn.Module,
    path: str | Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[str],
    size: tuple[int, int],
    range: Range = WIDE,
    fit: Fit = "resize",
    softmax: bool = False,
) -> float:
    """Export `model` as ordinary convolutions: float32 images [batch, channels, height, width] in [0, 1] → [batch, C].

    The output is logits, or probabilities with `softmax`. The batch is dynamic. The metadata contain the C classes,
    mean and std (which the file applies itself), the size, how images are brought to that size, ranges, and the
    version. Before the file is written, its output on noise is compared with that of the model in eval mode.

    Args:
        model: a model that `to_conv2d` accepts, or one that it returned. Its densities determine the elements.
        path: a name that ends in `.onnx`, for example for onnxruntime, or in `.pt2`, for `torch.export.load`.
        mean, std: of the normalisation, one number per channel.
        classes: their names, in the order of the logits.
        size: height and width of the images.
        range: values of 16-bit grey that become 0 and 1 in the input; values beyond are clipped.
        fit: how images of another size get this one, for the metadata: "resize", "crop" or "centre".
        softmax: whether the file ends in a softmax, and returns probabilities.
    Returns:
        The largest difference between a logit (a probability) of the file and that of the model.
    Raises:
        ValueError: the suffix is unknown, arguments do not fit the model, or the outputs differ.
        ImportError: `.onnx` needs the extra `export`.
    """
    path = Path(path)
    pack, load = FORMATS[check_target(path)]
    images = torch.rand(4, len(mean), *size, generator=torch.Generator().manual_seed(0))
    like = next(model.parameters())
    with evaluating(model), torch.no_grad():
        example = normalise(images, mean, std).to(like)
        expected = model(example)
        expected = expected.softmax(1) if softmax else expected
    check_fit(size, fit)
    if expected.shape != (4, len(classes)):
        raise InputError(
            f"the model returns {list(expected.shape[1:])} numbers per image, but classes has {len(classes)} names."
        )
    holds_kernels = any(isinstance(module, GroupConv) for module in model.modules())
    frozen = to_conv2d(model, example) if holds_kernels else copy.deepcopy(model)
    about = {
        "partialsym": __version__,
        "input": "float32 [batch, channels, height, width] in [0, 1]",
        "classes": list(classes),
        "mean": list(mean),
        "std": list(std),
        "output": "probabilities [batch, classes]" if softmax else "logits [batch, classes]",
        "size": list(size),
        "fit": fit,
        "resampling": "none" if fit == "centre" else RESAMPLING,
        "range": {"uint8": list(NARROW), "uint16": list(range)},  # what is 0 and 1 of such pixels
    }
    with _quietly(), torch.autocast("cpu", enabled=False):
        data = pack(_program(Classifier(frozen.cpu().float(), mean, std, softmax).eval(), images[:2]), about)
        run = load(data)
        with full_float32():  # not round torch.export, which reads cuDNN's earlier flag
            found = torch.cat([run(batch) for batch in images.split([1, 3])])
    expected = expected.cpu().double()
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise InputError(f"{path} was not written: its logits would differ from the model's by {difference:.2g}.")
    replace_file(path, lambda temporary: temporary.write_bytes(data))
    return difference


def check_target(path: Path) -> str:
    """The suffix of the path. Raise ValueError or ImportError if such a file cannot be written."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path} has no format: its name must end in {' or '.join(FORMATS)}.")
    if path.suffix == ".onnx":
        try:
            for package in ("onnx", "onnxscript", "onnxruntime"):
                import_module(package)
        except ImportError:
            raise MissingExtraError(
                "writing ONNX needs the extra `export`: pip install 'partialsym[export]'."
            ) from None
    return path.suffix


def _program(classifier: Classifier, images: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    program = torch.export.export(classifier, (images,), dynamic_shapes={"images": {0: batch}})
    program.graph.eliminate_dead_code()  # matrices of elements, which no convolution reads any more
    program.graph_module.recompile()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    program.example_inputs = None
    return program


def _pack_onnx(program: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    import onnx

    outputs = [about["output"].split()[0]]
    exported = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["images"], output_names=outputs)
    assert exported is not None
    model = exported.model_proto
    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    onnx.helper.set_model_props(model, text)
    return model.SerializeToString()


def _load_onnx(data: bytes) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _pack_pt2(program: torch.export.ExportedProgram, about: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about, ensure_ascii=False)})
    return buffer.getvalue()


def _load_pt2(data: bytes) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(data)).module()


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress the exporters' warnings about skipped operators and deprecations."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMATS = {".onnx": (_pack_onnx, _load_onnx), ".pt2": (_pack_pt2, _load_pt2)}
