"""Training one experiment."""

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from partialsym.cli.output import experiment, progress, say, say_chosen, say_subsets, scores_line
from partialsym.runs.run import Run
from partialsym.training.fit import train


def run(options: Namespace) -> None:
    config = experiment(options)
    trained = train(config, options.out, resume=options.resume, progress=progress(options))
    if config.trainer.processes == 1:  # of a job array, too, where variables give it a rank
        _say(trained)
    else:
        rank_zero_only(_say)(trained)


def _say(run: Run) -> None:
    result = run.result()
    say(f"test accuracy: {100 * result['accuracy']['test']:.1f} %")
    say(scores_line(result["scores"]))
    say_subsets(result)
    say_chosen(result)
    say(f"run: {run.folder}")
