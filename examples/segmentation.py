"""Segment digits on striped ground by a U-Net: a plain one, and one that is equivariant to quarter turns."""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import partialsym as ps
from partialsym.data import Preprocessing

torch.manual_seed(0)
digits = F.interpolate(torch.tensor(load_digits().images[:320] / 16).float()[:, None], scale_factor=2.0)
digits = F.pad(digits, [3, 3, 3, 3])  # 22×22 pixels; the levels of the U-Net have 22, 11 and 6
stripes = 0.3 + 0.3 * torch.sin(1.3 * torch.arange(22)[:, None] + 6.28 * torch.rand(320, 1, 1, 1))  # horizontal ones
images = torch.where(digits > 0.4, digits, stripes + 0.15 * torch.rand(320, 1, 22, 22))
masks = (digits > 0.4)[:, 0].long()  # the class of each pixel: ground or digit
test, test_masks = images[256:], masks[256:]
normalised = Preprocessing(mean=(0.4,), std=(0.3,))


def overlap(net: torch.nn.Module, quarters: int) -> float:
    """Intersection over union of the pixels found and the pixels of digits, on turned test images."""
    with torch.no_grad():
        found = net(normalised(test.rot90(quarters, (2, 3)))).argmax(1)
    both = found + test_masks.rot90(quarters, (1, 2))
    return float((both == 2).sum() / (both > 0).sum())


for group, width in (("T2", 8), ("C4", 4)):  # the plane alone, and with the quarter turns
    net = ps.models.create("gunet", group=group, partial=False, in_channels=1, width=width, levels=3, hidden=4)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for batch in torch.randint(256, (80, 16)):
        loss = F.cross_entropy(net(normalised(images[batch])), masks[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ps.recalibrate(net, [normalised(images[:256])])
    print(f"U-Net on {group}: overlap {overlap(net.eval(), 0):.2f} upright, {overlap(net, 1):.2f} turned by 90°")
    (quarter,) = ps.dense_errors(net, test, normalised, angles=[90])
    print(f"  f(g·x) differs from g·f(x) by {quarter['error']:.5f}; {quarter['agreement']:.1%} of the pixels agree")
