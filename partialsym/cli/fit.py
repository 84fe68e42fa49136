"""The command `fit`: train one experiment."""

from dataclasses import replace

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from partialsym.cli.output import experiment, parse_time, progress, say, say_chosen, say_subsets, scores_line
from partialsym.config import Experiment
from partialsym.runs.run import Run
from partialsym.training.budget import epochs_within
from partialsym.training.fit import run_folder, train


def run(options: Namespace) -> None:
    config = experiment(options)
    if options.budget:
        config = _within(config, options)
    trained = train(config, options.out, resume=options.resume, progress=progress(options))
    if config.trainer.processes == 1:  # rank_zero_only would read a rank from the variables of a job array
        _say(trained)
    else:
        rank_zero_only(_say)(trained)


def _within(config: Experiment, options: Namespace) -> Experiment:
    """The config with as many epochs as fit into the budget; a resumed run retains its number of epochs."""
    seconds, started = parse_time(options.budget), run_folder(config, options.out)
    if options.resume and (started.folder / "config.yaml").exists():
        epochs = started.config().training.epochs
    else:
        epochs = epochs_within(config, seconds)
    say(f"budget of {options.budget}: {epochs} epochs")
    return replace(config, training=replace(config.training, epochs=epochs))


def _say(run: Run) -> None:
    result = run.result()
    say(f"test accuracy: {100 * result['accuracy']['test']:.1f} %")
    say(scores_line(result["scores"]))
    say_subsets(result)
    say_chosen(result)
    say(f"run: {run.folder}")
