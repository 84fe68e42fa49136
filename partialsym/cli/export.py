"""The command `export`: write a network as plain convolutions."""

from pathlib import Path

from jsonargparse import Namespace

from partialsym.cli.output import say, say_by_layer
from partialsym.config import Experiment
from partialsym.densities import set_proportional
from partialsym.export.conversion import kept
from partialsym.export.onnx import check_target, export
from partialsym.inference import recalibrate
from partialsym.runs.run import LoadedModel, Run
from partialsym.training.evaluation import calibration
from partialsym.training.fit import load_data


def run(options: Namespace) -> None:
    trained_run, path = Run(Path(options.run)), Path(options.out)
    check_target(path)
    trained = trained_run.model()
    if options.proportional:
        _make_proportional(trained, trained_run.config(), options.data.root)
    difference = export(
        trained.model,
        path,
        mean=trained.preprocess.mean,
        std=trained.preprocess.std,
        classes=trained.classes,
        size=trained.size,
        range=trained.range,
        fit=trained.fit,
        softmax=options.softmax,
    )
    say_by_layer({layer: f"{taken} of {samples} elements" for layer, (taken, samples) in kept(trained.model).items()})
    say(f"largest difference of {'a probability' if options.softmax else 'a logit'} from the run's: {difference:.1e}")
    say(f"file: {path} ({path.stat().st_size / 1e6:.2f} MB)")


def _make_proportional(trained: LoadedModel, config: Experiment, root: str | None) -> None:
    """Use ⌈rθ⌉ of r rotations per component, and recalibrate BatchNorm if this changes the number of elements."""
    before = kept(trained.model)
    set_proportional(trained.model, True)
    if kept(trained.model) == before:
        return
    data = load_data(config.data, root, trained.range)
    recalibrate(trained.model, calibration(config, data, trained.preprocess))
