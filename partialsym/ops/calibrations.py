"""Costs of the orders of summation by processor; `python -m benchmarks.calibrate` fits them."""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Calibration(NamedTuple):
    """Times relative to one multiplication of the plain convolution, forward and backward together.

    generate: a multiplication that forms the kernel, in the dense order.
    convolve, mix: a multiplication of the factored order. maps: writing and reading one value of its feature maps. The
        defaults were fitted on a core with AVX-512 and AMX, in float32 and bf16.
    transform, product, kernel: a multiplication of the spectral order. calls: its fixed cost. By default that is
        infinite, so that this order is never chosen.
    """

    generate: float = 8.0
    convolve: float = 1.5
    mix: float = 1.5
    maps: float = 400.0
    transform: float = 0.0
    product: float = 0.0
    kernel: float = 0.0
    calls: float = math.inf


UNKNOWN = Calibration()
_AVX512 = Calibration(  # AMD EPYC (Zen 4), one thread
    generate=6.0, convolve=1.5, mix=1.4, maps=130.0, transform=1.1, product=1.7, kernel=6.4, calls=2.5e7
)
_AVX512_BF16 = Calibration(  # the same
    generate=4.7, convolve=1.5, mix=1.0, maps=270.0, transform=2.0, product=3.5, kernel=12.0, calls=1.1e7
)
_AVX2 = Calibration(  # the same processor, restricted to AVX2: to be fitted again
    generate=5.1, convolve=0.87, mix=0.66, maps=190.0, transform=1.5, product=1.3, kernel=6.2, calls=3.1e7
)
# Not measured: assumes that AMX halves the time of the plain convolution, but not that of the spectral order.
_AMX = Calibration(transform=1.5, product=3.2, kernel=15.0, calls=9e7)
CALIBRATIONS: Mapping[str, Mapping[str, Calibration]] = {  # processor → size of a number
    "AVX2": {"single": _AVX2, "half": _AVX2},  # 16 bits are slower than 32 without instructions for them
    "AVX-512 without bf16": {"single": _AVX512, "half": _AVX512},
    "AVX-512": {"single": _AVX512, "half": _AVX512_BF16},
    "AMX": {"single": _AMX, "half": UNKNOWN},
    "other": {"single": UNKNOWN, "half": UNKNOWN},
}
