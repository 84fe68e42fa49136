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
CALIBRATIONS: Mapping[str, Mapping[str, Calibration]] = {  # processor → size of a number
    "AVX2": {
        "single": Calibration(transform=4.0, product=1.6, kernel=2.0, calls=1e7),
        "half": Calibration(transform=4.0, product=1.6, kernel=2.0, calls=1e7),
    },
    "AVX-512": {
        "single": Calibration(transform=4.0, product=1.6, kernel=2.0, calls=1e7),
        "half": Calibration(transform=8.0, product=3.2, kernel=4.0, calls=2e7),
    },
    "AVX-512 without bf16": {
        "single": Calibration(transform=4.0, product=1.6, kernel=2.0, calls=1e7),
        "half": Calibration(transform=4.0, product=1.6, kernel=2.0, calls=1e7),
    },
    "AMX": {"single": Calibration(transform=4.0, product=1.6, kernel=2.0, calls=1e7), "half": UNKNOWN},
    "other": {"single": UNKNOWN, "half": UNKNOWN},
}
