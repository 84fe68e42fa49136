"""Build a network of your own from the layers: tell a six from a nine, with all rotations and with some of them."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import partialsym as ps


class Net(nn.Module):
    """Two group convolutions on SE(2), the rotations, and an answer that depends on no place and no element.

    Args:
        density: the rotations that the second layer keeps.
    """

    def __init__(self, density: ps.Density) -> None:
        super().__init__()
        plane, rotations = ps.T2(), ps.SE2()
        self.lift = ps.GroupConv(1, 8, domain=plane, codomain=ps.haar(rotations, samples=4), kernel_size=3)
        self.norm1 = ps.BatchNorm(8)
        self.pool1 = ps.SpatialPool()
        self.conv = ps.GroupConv(8, 8, domain=rotations, codomain=density, kernel_size=3)
        self.norm2 = ps.BatchNorm(8)
        self.pool2 = ps.GlobalPool("mean")
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        f = ps.Signal.image(images)  # on pixels: [batch, 1, 1, height, width]
        f = self.pool1(self.norm1(self.lift(f)).map(F.relu))  # on pixels and rotations: [batch, 8, 4, …]
        f = self.norm2(self.conv(f)).map(F.relu)
        return self.head(self.pool2(f))


digits = load_digits()
chosen = (digits.target == 6) | (digits.target == 9)
images = torch.tensor((digits.images[chosen] - digits.images.mean()) / digits.images.std()).float()[:, None]
labels = torch.tensor(digits.target[chosen] == 9).long()
known, test = slice(0, 240), slice(240, None)

for partial in (False, True):
    torch.manual_seed(0)
    density = ps.learned(ps.SE2(), samples=4) if partial else ps.haar(ps.SE2(), samples=4)
    net = Net(density)
    optimiser = torch.optim.Adam(ps.parameter_groups(net, lr=3e-3, density_lr=2e-2))
    for _ in range(160):
        batch = torch.randint(240, (32,))
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ps.recalibrate(net, [images[known]])
    with torch.no_grad():
        answers, turned = net.eval()(images[test]), net(images[test].rot90(2, (-2, -1)))
    right = float((answers.argmax(1) == labels[test]).float().mean())
    changed = float((turned - answers).abs().max())
    print(f"{'partial' if partial else 'full'} network: {right:.0%} of {len(answers)} test images are right")
    print(f"  exactly invariant to: {', '.join(ps.exact_symmetries(net, (8, 8))) or 'nothing'}")
    print(f"  turned by 180°: the answers {'stay' if changed < 1e-4 else 'change'}")
print(f"the partial network's second layer keeps rotations up to ±{density.support()['theta_deg']:.0f}°")
