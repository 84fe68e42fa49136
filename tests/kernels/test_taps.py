"""What docs/diagnosis.md says of kernels that vary faster than their taps sample."""

import re

import pytest

from benchmarks.tables import ROOT
from benchmarks.taps import KERNELS, SIZES, spread

DOCUMENT = (ROOT.parent / "docs" / "diagnosis.md").read_text(encoding="utf-8")


def said():
    """{kernel: {taps across: spread}}"""
    rows = re.findall(r"^\| ((?:SIREN|Gabor|MAGNet)[^|]*) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    return {name: dict(zip(SIZES, map(float, numbers.split(" | ")), strict=True)) for name, numbers in rows}


@pytest.mark.parametrize("index", [i for i, (cls, _) in enumerate(KERNELS) if cls.__name__ not in ("MLP", "Fourier")])
def test_the_document_says_what_is_measured(index):
    cls, options = KERNELS[index]
    name = cls.__name__ + "".join(f", {key}={value}" for key, value in options.items())
    for size, value in said()[name].items():
        assert spread(cls, size, **options) == pytest.approx(value, rel=0.02, abs=6e-4)


def test_it_hangs_on_taps_and_scale():
    held = said()
    for size in SIZES[:-1]:
        assert held["MAGNet"][size] > 3 * held["SIREN"][size]
        assert held["MAGNet, scale=1.0"][size] < 1.2 * held["SIREN"][size]
    assert held["MAGNet"][15] < held["MAGNet"][3] / 50
