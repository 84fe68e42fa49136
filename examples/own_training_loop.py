"""Train a Partial G-CNN in a loop of your own: tell a six from the same six turned by 180°."""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import partialsym as ps

# 181 sixes of 8×8 pixels, and their copies. An image and its copy go to the same split.
torch.manual_seed(0)
digits = load_digits()
sixes = torch.tensor(digits.images[digits.target == 6] / 16).float()[:, None]
turned = sixes.rot90(2, (-2, -1))
training, test = torch.cat([sixes[:120], turned[:120]]), torch.cat([sixes[120:], turned[120:]])
mean, std = training.mean(), training.std()
training, test = (training - mean) / std, (test - mean) / std
labels, test_labels = torch.arange(2).repeat_interleave(120), torch.arange(2).repeat_interleave(61)


def trained(partial: bool, steps: int = 80) -> ps.GResNet:
    """The paper's ResNet, small, on SE(2): every layer uses all rotations, or learns which."""
    torch.manual_seed(0)
    model = ps.GResNet("SE2", partial=partial, samples=4, num_classes=2, width=4, kernel_size=3, pools=("lifting",))
    # A density has one or two parameters in a layer: they need a larger learning rate than the weights.
    optimiser = torch.optim.Adam(ps.parameter_groups(model, lr=1e-2, density_lr=5e-2))
    model.train()  # each pass draws the elements of every layer anew
    for _ in range(steps):
        batch = torch.randint(len(training), (32,))
        loss = F.cross_entropy(model(training[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ps.recalibrate(model, [training])  # BatchNorm's statistics, on the elements that eval mode uses
    return model.eval()


@torch.no_grad()
def accuracy(model: torch.nn.Module) -> float:
    return float((model(test).argmax(1) == test_labels).float().mean())


for partial in (False, True):
    model = trained(partial)
    print(f"{'partial' if partial else 'full'} G-CNN: {accuracy(model):.0%} of {len(test)} test images are right")
for row in ps.learned_subsets(model)[1:]:  # the first layer, lifting, uses all rotations
    print(f"{row['layer']} uses ±{row['theta_deg']:.0f}°")
