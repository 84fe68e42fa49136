"""Lift a trained CNN of torch onto rotations, and tune it on turned digits."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import partialsym as ps

torch.manual_seed(0)
digits = load_digits()
images, labels = torch.tensor(digits.images / 16).float()[:, None], torch.tensor(digits.target)
images = F.pad((images - images.mean()) / images.std(), [2, 3, 2, 3], value=float(-images.mean() / images.std()))
training, test = slice(0, 1200), slice(1200, None)  # 13×13 pixels: strides of 2 lie symmetrically on an odd side


def block(into: int, out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def tune(model: nn.Module, steps: int, lr: float, turned: bool) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr)
    model.train()
    for _ in range(steps):
        batch = torch.randint(1200, (64,))
        x = images[batch].rot90(int(torch.randint(4, ())), (2, 3)) if turned else images[batch]
        loss = F.cross_entropy(model(x), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def report(name: str, model: nn.Module) -> None:
    right = [(model(images[test].rot90(k, (2, 3))).argmax(1) == labels[test]).float().mean() for k in range(4)]
    print(f"{name}: upright {right[0]:.0%}, turned by 90°, 180° and 270° " + ", ".join(f"{r:.0%}" for r in right[1:]))


plain = nn.Sequential(*block(1, 8, 1), *block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
tune(plain, 300, 1e-2, turned=False)
report("plain network", plain.eval())

network = ps.lift(plain, "SE2", example=images[training][:8], samples=4, partial=False)
assert network.report is not None  # a network that was loaded has none
print(f"{len(network.report.changes)} layers were moved to lie symmetrically")
report("lifted", network)
tune(network, 100, 3e-3, turned=True)
ps.recalibrate(network, [images[training]])  # BatchNorm's statistics, on the elements that eval mode uses
report("lifted and tuned", network.eval())
