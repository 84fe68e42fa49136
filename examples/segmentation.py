"""Segment digits on striped ground by a U-Net: one that knows all quarter turns, and a plain one."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

import partialsym as ps
from partialsym.data import Preprocessing

SIDE = 22  # pixels: levels of 22, 11 and 6
normalised = Preprocessing((0.4,), (0.3,))
digits = torch.tensor(load_digits().images / 16).float()[:, None]


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Upright digits on ground with horizontal stripes and noise, and which pixels are digit."""
    generator = torch.Generator().manual_seed(seed)
    chosen = F.interpolate(digits[torch.randint(len(digits), (count,), generator=generator)], scale_factor=2.0)
    rows, columns = torch.randint(SIDE - 16 + 1, (2, count), generator=generator).tolist()
    shown = torch.stack(
        [F.pad(digit, [x, SIDE - 16 - x, y, SIDE - 16 - y]) for digit, x, y in zip(chosen, columns, rows, strict=True)]
    )
    phase = 6.28 * torch.rand(count, 1, 1, 1, generator=generator)
    ground = 0.5 + 0.5 * torch.sin(1.3 * torch.arange(SIDE)[:, None] + phase)
    noise = 0.15 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    mask = shown > 0.4
    return torch.where(mask, shown, 0.6 * ground.expand_as(shown) + noise), mask[:, 0].long()


def overlap(net: torch.nn.Module, images: Tensor, masks: Tensor) -> float:
    """Intersection over union of what is found and what is there."""
    with torch.no_grad():
        found = net(normalised(images)).argmax(1)
    return float(((found == 1) & (masks == 1)).sum() / ((found == 1) | (masks == 1)).sum())


images, masks = scenes(256, seed=0)
test, test_masks = scenes(64, seed=1)
for group, samples, width in (("T2", 1, 8), ("SE2", 4, 4)):
    torch.manual_seed(0)
    net = ps.models.create(
        "gunet", group=group, samples=samples, partial=False, in_channels=1, width=width, levels=3, hidden=4
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(80):
        batch = torch.randint(len(images), (16,))
        loss = F.cross_entropy(net(normalised(images[batch])), masks[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ps.recalibrate(net, [normalised(images)])
    net.eval()
    upright = overlap(net, test, test_masks)
    turned = overlap(net, test.rot90(1, (-2, -1)), test_masks.rot90(1, (-2, -1)))
    (quarter,) = ps.dense_errors(net, test, normalised, angles=[90])
    print(f"U-Net on {group}: overlap {upright:.2f} upright, {turned:.2f} turned by 90°")
    print(f"  f(g·x) differs from g·f(x) by {quarter['error']:.5f}; {quarter['agreement']:.1%} of the pixels agree")
