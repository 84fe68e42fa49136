"""Does memory stay flat in one process that trains for an hour, then makes 100,000 predictions?

`python -m benchmarks.soak --minutes 60 --predictions 100000 --out benchmarks/soak.json` trains one small run after the
other, predicts with the last of them, and writes the resident memory (RSS) of its process over both, with its slope,
and a picture of it beside. Exit status 1 where it grows. On Linux alone. In its first minutes RSS does grow, by memory
that later runs use again: take half an hour or more.
"""

import argparse
import json
import math
import platform
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from partialsym._utils.atomic import replace_text
from partialsym.config import DataConfig, Experiment, ModelConfig, TrainingConfig
from partialsym.data.reading import png, read_images
from partialsym.figures.canvas import BLUE, GREY, ORANGE, PALE, blank, save, write
from partialsym.measure import logits
from partialsym.runs.provenance import provenance
from partialsym.runs.run import Run
from partialsym.training.fit import load_data, train

FORMAT = 1
CONFIG = Experiment(
    "soak",
    data=DataConfig("digits-6-180", augment=("crop",)),
    model=ModelConfig("SE2", samples=4, width=4, hidden=8, kernel_size=5),
    training=TrainingConfig(epochs=3, batch_size=32, density_lr=1e-2, recalibration_images=64, select="best"),
)
PHASES = {"training": (60, "minutes of training"), "predicting": (1000, "thousands of predictions")}
WARM_UP, FITTED = 5, 20  # blocks of samples
STUDENT = 2.101  # its quantile at 97.5 %, FITTED − 2 degrees of freedom
SAMPLES = 3000  # of training: several a run
TOGETHER, ALONE = 64, 4  # images of a round of predictions: in a batch; each on its own
HOUR, MANY = 3600, 100_000
LIMIT = 20.0  # MB in an hour, or in 100,000 predictions: some 0.5 GB a day


class Slope(NamedTuple):
    """By how much something grows, where that lies by 95 %, and the autocorrelation that this took into account."""

    value: float
    low: float
    high: float
    autocorrelation: float


def slope(at: Sequence[float], means: Sequence[float]) -> Slope:
    """The least-squares slope of FITTED block means.

    Its interval is Student's, widened by √((1 + ρ)/(1 − ρ)): it assumes residuals that are a stationary AR(1), ρ their
    lag-1 autocorrelation, corrected for the line, (nρ + 2)/(n − 4), and kept in [0, 0.95]. It then holds the truth in
    96 % of cases at ρ = 0, 90 % at 0.5, 84 % at 0.8.

    Raises:
        ValueError: another number of them.
    """
    if not len(at) == len(means) == FITTED:
        raise ValueError(f"there are {len(at)} places and {len(means)} means: must be {FITTED} of each.")
    x, y = np.asarray(at) - np.mean(at), np.asarray(means) - np.mean(means)
    value = float(x @ y / (x @ x))
    rest = y - value * x
    square = float(rest @ rest)
    rho = float(rest[1:] @ rest[:-1]) / square if square else -1.0
    rho = min(max(0.0, (FITTED * rho + 2) / (FITTED - 4)), 0.95)
    error = math.sqrt(square / (FITTED - 2) / float(x @ x) * (1 + rho) / (1 - rho))
    return Slope(value, value - STUDENT * error, value + STUDENT * error, rho)


def grown(at: Sequence[float], rss: Sequence[float], unit: float) -> dict[str, Any]:
    """What samples of RSS, MB, at regular places say: blocks of them and, after the first fifth, the slope a `unit`.

    Raises:
        ValueError: fewer samples than blocks.
    """
    if len(rss) < WARM_UP + FITTED:
        raise ValueError(f"there are {len(rss)} samples of RSS: must be at least {WARM_UP + FITTED}, so take longer.")
    parts = zip(*(np.array_split(np.asarray(v), WARM_UP + FITTED) for v in (at, rss)), strict=True)
    blocks = [
        {"at": float(a.mean()), "mean": float(r.mean()), "least": float(r.min()), "most": float(r.max())}
        for a, r in parts
    ]
    fitted = blocks[WARM_UP:]
    found = slope([block["at"] / unit for block in fitted], [block["mean"] for block in fitted])
    return {"samples": len(rss), "slope": found._asdict(), "blocks": blocks}


def resident(peak: bool = False) -> float:
    """RSS of this process in MB, now or at its peak.

    Raises:
        OSError: not on Linux.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise OSError(f"there is no /proc/self/status on {platform.system()}: RSS is read on Linux alone.") from None
    values = dict(line.split(":", 1) for line in lines)
    return int(values["VmHWM" if peak else "VmRSS"].split()[0]) * 1024 / 1e6


class Watch:
    """A context that samples RSS every so many seconds: `at`, s since it was entered, and `rss`, MB."""

    def __init__(self, every: float) -> None:
        self.every, self.at, self.rss = every, list[float](), list[float]()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._start = time.monotonic()
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self.every):
            self._sample()

    def _sample(self) -> None:
        self.rss.append(resident())
        self.at.append(time.monotonic() - self._start)


def training(folder: Path, seconds: float, config: Experiment = CONFIG) -> tuple[Run, dict[str, Any]]:
    """Run after run, seeds from 0, until `seconds` are over; the last one and what RSS did meanwhile."""
    steps, start, before = 0, time.monotonic(), None
    with Watch(seconds / SAMPLES) as watch:
        for seed in count():
            run = train(replace(config, seed=seed), folder, progress=False)
            steps += int(run.history()[-1]["step"])
            if before is not None:
                shutil.rmtree(before.folder)
            before = run
            if time.monotonic() - start >= seconds:
                break
    done = {"seconds": round(time.monotonic() - start), "runs": seed + 1, "steps": steps, "unit": "MB/hour"}
    return run, done | grown(watch.at, watch.rss, HOUR)


def pictures(folder: Path, config: Experiment = CONFIG) -> list[Path]:
    """The test images of a config as files."""
    folder.mkdir()
    images = load_data(config.data).test.images
    files = [folder / f"{i}.png" for i in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(png((255 * image).round().to(torch.uint8)))
    return files


def predicting(run: Run, files: Sequence[Path], least: int) -> dict[str, Any]:
    """At least so many predictions from image files, in rounds of a batch and some images alone; what RSS did."""
    trained, start, done = run.model(), time.monotonic(), 0
    at, rss = list[float](), list[float]()
    for turn in count():
        chosen = [files[(turn + i) % len(files)] for i in range(TOGETHER + ALONE)]
        for some in (chosen[:TOGETHER], *([file] for file in chosen[TOGETHER:])):
            images = read_images(some, trained.size, len(trained.preprocess.mean), trained.fit, trained.range)
            shares = logits(trained.model, images, trained.preprocess).softmax(1).tolist()
            done += len(shares)
        at.append(done)
        rss.append(resident())
        if done >= least:
            break
    counts = {"predictions": done, "alone": ALONE * (turn + 1), "seconds": round(time.monotonic() - start)}
    return counts | {"unit": "MB/100,000 predictions"} | grown(at, rss, MANY)


def picture(report: Mapping[str, Any]) -> Figure:
    """RSS over training and over predictions: means and ranges of the blocks, and the line through them."""
    figure = blank(8.6, 3.3)
    write(figure, 0.07, 0.92, "Resident memory of one process", size=11, weight="bold")
    for left, (phase, (unit, label)) in zip((0.07, 0.56), PHASES.items(), strict=True):
        axes = figure.add_axes((left, 0.16, 0.41, 0.58))
        _panel(axes, report[phase], unit)
        axes.set_xlabel(label, fontsize=8, color=GREY)
        write(figure, left, 0.79, said(report[phase]), size=8, color=GREY)
    figure.axes[0].set_ylabel("RSS, MB", fontsize=8, color=GREY)
    return figure


def _panel(axes: Axes, found: Mapping[str, Any], unit: float) -> None:
    at = np.array([block["at"] for block in found["blocks"]]) / unit
    mean, least, most = (np.array([block[key] for block in found["blocks"]]) for key in ("mean", "least", "most"))
    axes.fill_between(at, least, most, color=PALE, lw=0, label="range")
    axes.plot(at, mean, color=BLUE, marker="o", ms=3, lw=0, label="mean")
    x, y = at[WARM_UP:], mean[WARM_UP:]
    axes.plot(x, np.polyval(np.polyfit(x, y, 1), x), color=ORANGE, lw=1.5, label="fitted, without the first fifth")
    middle, half = (mean.max() + mean.min()) / 2, max(50.0, float(np.ptp(mean)))
    axes.set_ylim(middle - half, middle + half)
    axes.tick_params(labelsize=7, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def verdict(slope: Mapping[str, float]) -> str:
    """`grows` or `flat` where the interval is all above LIMIT, or all below; else `undecided`."""
    return "grows" if slope["low"] > LIMIT else "flat" if slope["high"] < LIMIT else "undecided"


def said(found: Mapping[str, Any]) -> str:
    """The slope in a line."""
    s = found["slope"]
    return f"{s['value']:+.1f} {found['unit']}, 95 %: [{s['low']:+.1f}, {s['high']:+.1f}], {verdict(s)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of training")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/soak.json"), help="a .png is written beside it")
    options = parser.parse_args()
    if not 0 < options.minutes < math.inf:
        parser.error(f"minutes is {options.minutes}: must be positive and finite.")
    if options.predictions < (least := (WARM_UP + FITTED) * (TOGETHER + ALONE)):
        parser.error(f"predictions is {options.predictions}: must be at least {least}.")
    origin = provenance()  # of the code that runs, not of what is committed meanwhile
    with TemporaryDirectory() as folder:
        run, found = training(Path(folder) / "runs", 60 * options.minutes)
        report: dict[str, Any] = {"format": FORMAT, "config": CONFIG.to_dict(), "training": found}
        report["predicting"] = predicting(run, pictures(Path(folder) / "images"), options.predictions)
    report |= {"peak": resident(peak=True), **origin}
    replace_text(options.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    save(picture(report), options.out.with_suffix(".png"))
    sys.stdout.writelines(f"{phase}: {said(report[phase])}\n" for phase in PHASES)
    return int(any(verdict(report[phase]["slope"]) == "grows" for phase in PHASES))


if __name__ == "__main__":
    sys.exit(main())
