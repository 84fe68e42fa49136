"""Validation accuracy by learning rate: what that of the `short` budgets rests on. `python -m studies.rates`."""

import argparse
from dataclasses import replace

from partialsym.reproduction.table import load_table
from partialsym.training.fit import train

TRIALS = (("T2/plain+early-pools/rotMNIST", 32, 4, (1e-3, 3e-3, 1e-2)), ("SE2-4/partial/rotMNIST", 16, 3, (1e-3, 3e-3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs")
    out = parser.parse_args().out
    for row, width, epochs, rates in TRIALS:
        for lr in rates:
            config = load_table("table2").experiment(row, seed=0)
            training = replace(config.training, lr=lr, epochs=epochs)
            model = replace(config.model, width=width)
            run = train(
                replace(config, name=f"rates/{row}/{lr}", model=model, training=training),
                out,
                resume=True,
                progress=False,
            )
            print(row, width, lr, run.result()["history"][-1]["validation_accuracy"], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
