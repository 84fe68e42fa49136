"""What a multiplication of each order of summation costs, by processor; fitted by `python -m benchmarks.calibrate`."""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Calibration(NamedTuple):
    """Time of a multiplication, and of writing and reading a value of a feature map, relative to a multiplication of
    the plain convolution; forward and backward together.

    generate: of the kernel, in the dense order. convolve, mix, maps: of the factored one; the defaults were fitted on a
    core with AVX-512 and AMX, float32 and bf16. transform, product, kernel: of the spectral one, and calls its fixed
    cost in multiplications; by default it is never taken.
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
_AVX512 = Calibration(transform=0.7, product=2.1, kernel=8.0, calls=6e7)  # AMD EPYC (Zen 4), one thread
_AVX2 = Calibration(transform=0.72, product=1.8, kernel=6.2, calls=4.7e7)  # the same one, held to AVX2
# Not measured: a convolution that gains more from wider units than a product of matrices does would be half as long.
_AMX = Calibration(transform=1.4, product=4.2, kernel=16.0, calls=12e7)
CALIBRATIONS: Mapping[str, Mapping[str, Calibration]] = {  # processor → size of a number
    "AVX2": {"single": _AVX2, "half": _AVX2},  # 16 bits are slower than 32 without instructions for them
    "AVX-512 without bf16": {"single": _AVX512, "half": _AVX512},
    "AVX-512": {"single": _AVX512, "half": Calibration(transform=0.9, product=4.0, kernel=15.0, calls=6e7)},
    "AMX": {"single": _AMX, "half": UNKNOWN},
    "other": {"single": UNKNOWN, "half": UNKNOWN},
}
