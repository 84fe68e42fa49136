"""How well a disc of taps samples a kernel at initialisation: `python -m benchmarks.taps` (seconds).

Turned images need the same kernel at turned taps. Of a uniform image a layer sees Σ k over its taps, which no turn may
change; it is read at 16 angles, for 32 × 4 kernels of a lifting layer on SE(2).
"""

from functools import partial
from typing import Any

import torch

from partialsym.groups import SE2, T2
from partialsym.kernels import MLP, SIREN, Fourier, Gabor, Kernel, MAGNet
from partialsym.nn.conv import GroupConv
from partialsym.signal import Elements

SIZES = (3, 5, 7, 9, 15)
KERNELS: tuple[tuple[type[Kernel], dict[str, Any]], ...] = (
    (MLP, {}),
    (SIREN, {}),
    (Fourier, {}),
    (Gabor, {}),
    (MAGNet, {}),
    (MAGNet, {"scale": 1.0}),
)


@torch.no_grad()
def spread(cls: type[Kernel], size: int, seeds: int = 6, **options: Any) -> float:
    """The standard deviation of Σ k over the angles, relative to its root mean square; the mean over seeds."""
    found = []
    at = Elements(SE2(), SE2().grid(16).float())
    whole = Elements(T2(), torch.eye(2)[None])
    for seed in range(seeds):
        torch.manual_seed(seed)
        conv = GroupConv(4, 32, domain=T2(), codomain=SE2(), kernel_size=size, kernel=partial(cls, **options))
        sums = conv.filters(at, whole).sum((2, 3)).unflatten(0, (32, 16))  # [out, angles, in]
        found.append((sums - sums.mean(1, keepdim=True)).square().mean().sqrt() / sums.square().mean().sqrt())
    return float(torch.stack(found).mean())


def main() -> None:
    lines = [f"{'taps across':<24}" + "".join(f"{size:>7}" for size in SIZES)]
    for cls, options in KERNELS:
        name = cls.__name__ + "".join(f", {key}={value}" for key, value in options.items())
        lines.append(f"{name:<24}" + "".join(f"{spread(cls, size, **options):>7.3f}" for size in SIZES))
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
