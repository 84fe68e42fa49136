"""CIFAR-10 by a ResNet-18 whose layers learn which rotations they retain, in a training loop of your own."""

import torch
from torch.nn import functional as F

import partialsym as ps
from partialsym.data import load, normalise

EPOCHS, BATCH, WIDTH = 60, 128, 64
device = "cuda" if torch.cuda.is_available() else "cpu"
data = load("CIFAR-10")  # downloaded where it is missing, into the folder that PARTIALSYM_DATA names


def on_device(images: torch.Tensor) -> torch.Tensor:
    return normalise(images, data.mean, data.std).to(device)


torch.manual_seed(0)
net = ps.models.create("gresnet18_cifar", group="SE2", samples=4, width=WIDTH, num_classes=10).to(device)
optimiser = torch.optim.AdamW(ps.parameter_groups(net, lr=1e-3, density_lr=1e-2))  # larger steps for densities
for _ in range(EPOCHS):
    net.train()  # each pass draws the elements of every layer anew
    for batch in torch.randperm(len(data.train)).split(BATCH):
        images, labels = on_device(data.train.images[batch]), data.train.labels[batch].to(device)
        loss = F.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
ps.recalibrate(net, [on_device(data.train.images[:1024])])  # BatchNorm's statistics, on the elements of eval mode
net.eval()
with torch.no_grad():
    answers = torch.cat([net(on_device(images)).argmax(1).cpu() for images in data.test.images.split(BATCH)])
print(f"{float((answers == data.test.labels).float().mean()):.1%} of {len(answers)} test images are right")
for row in ps.learned_subsets(net):
    print(f"{row['layer']} uses ±{row['theta_deg']:.0f}°")
