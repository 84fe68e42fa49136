"""Lift a trained CNN of torch onto rotations, and tune it on turned digits."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import partialsym as ps

torch.manual_seed(0)
pixels, labels = map(torch.tensor, load_digits(return_X_y=True))
images = nn.functional.pad(pixels.float().view(-1, 1, 8, 8) / 8 - 1, [2, 3, 2, 3], value=-1.0)  # 13×13: an odd side


def train(model: nn.Module, steps: int, lr: float, turned: bool) -> None:
    optimiser = torch.optim.Adam(model.train().parameters(), lr)
    for batch in torch.randint(1200, (steps, 64)):
        x = images[batch].rot90(int(torch.randint(4, ())), (2, 3)) if turned else images[batch]
        loss = nn.functional.cross_entropy(model(x), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def show(name: str, model: nn.Module) -> None:
    right = [(model(images[1200:].rot90(k, (2, 3))).argmax(1) == labels[1200:]).float().mean() for k in range(4)]
    print(f"{name}: upright {right[0]:.0%}, turned by 90°, 180° and 270° " + ", ".join(f"{r:.0%}" for r in right[1:]))


layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
layers += [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
plain = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
train(plain, 300, 1e-2, turned=False)
show("plain network", plain.eval())
network = ps.lift(plain, "SE2", example=images[:8], samples=4, partial=False)
show("lifted", network)
train(network, 100, 3e-3, turned=True)
ps.recalibrate(network, [images[:1200]])  # BatchNorm's statistics, on the elements that eval mode uses
show("lifted and tuned", network.eval())
