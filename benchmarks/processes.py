"""`python -m benchmarks.processes`: how much faster two processes train than one, with a core each.

Runs of one and of two alternate; the time is that of the epochs after the first, by the times of their log entries.
Writes benchmarks/processes.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.rows import Book, quotient_of
from partialsym.config import DataConfig, Experiment, ModelConfig, TrainerConfig, TrainingConfig
from partialsym.training.fit import run_folder

RESULTS = Path(__file__).parent / "processes.json"
SIZES = (("SE2", 8, 64),)  # group, width, batch size
EPOCHS, REPEATS, TARGET = 3, 3, 0.6


def experiment(group: str, width: int, batch_size: int, processes: int) -> Experiment:
    training = TrainingConfig(epochs=EPOCHS, repeats=REPEATS, batch_size=batch_size, precision="32")
    name = f"{group}-{width}-{batch_size}-{processes}"
    model = ModelConfig(group=group, width=width, samples=8 if group == "SE2" else None)
    return Experiment(
        name, data=DataConfig("digits-6-180"), model=model, training=training, trainer=TrainerConfig(processes)
    )


def seconds(config: Experiment) -> float:
    """Of an epoch, in a command of its own, one thread a process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(config.to_dict()), encoding="utf-8")
        command = [sys.executable, "-m", "partialsym.cli.main", "fit", "--config", str(file), "--out", folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--progress", "false"], check=True, capture_output=True, env=environment)
        log = EventAccumulator(str(run_folder(config, folder).folder / "tensorboard"))
        log.Reload()
        times = [event.wall_time for event in log.Scalars("train_loss")]
    return (times[-1] - times[0]) / (len(times) - 1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="pairs of runs")
    options = parser.parse_args(arguments)
    book = Book()
    for size in SIZES:
        pairs = [tuple(seconds(experiment(*size, processes)) for processes in (2, 1)) for _ in range(options.rounds)]
        group, width, batch = size
        name = f"ResNet {group}, width {width}, batch {batch}: an epoch"
        columns = zip(*pairs, strict=True)
        book.add(quotient_of(name, *columns, precision="float32", target=TARGET, unit="of one process"))
    book.write(RESULTS)
    return 1 if book.missed else 0


if __name__ == "__main__":
    sys.exit(main())
