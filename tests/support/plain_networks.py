"""Small networks of torch, written as well-known libraries write theirs: what `lift` must be able to read."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """As in torchvision: one ReLU for all, a sum in place, a shortcut that may be missing."""

    def __init__(self, into, out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """As in torchvision, with its stem for ImageNet."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2 = nn.Sequential(BasicBlock(4, 4)), nn.Sequential(BasicBlock(4, 6, 2))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(6, 5)

    def _forward_impl(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))

    def forward(self, x):
        return self._forward_impl(x)


class Bottleneck(nn.Module):
    """As in timm: layers that may be an Identity, activations by class, a pool in the shortcut."""

    def __init__(self, into, out, stride, act=nn.SiLU, drop_path=None):
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(into, 3, 1, bias=False), nn.BatchNorm2d(3), act(inplace=True)
        self.conv2 = nn.Conv2d(3, 3, 3, stride, 1, groups=3, bias=False)
        self.bn2, self.drop_block, self.act2 = nn.BatchNorm2d(3), nn.Identity(), act(inplace=True)
        self.conv3, self.bn3, self.act3 = nn.Conv2d(3, out, 1, bias=False), nn.BatchNorm2d(out), act(inplace=True)
        pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
        self.downsample = nn.Sequential(pool, nn.Conv2d(into, out, 1, bias=False), nn.BatchNorm2d(out))
        self.drop_path = drop_path

    def forward(self, x):
        shortcut = x
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.drop_block(self.bn2(self.conv2(x))))
        x = self.bn3(self.conv3(x))
        if self.drop_path is not None:
            x = self.drop_path(x)
        x += self.downsample(shortcut)
        return self.act3(x)


class SelectPool(nn.Module):
    """As in timm."""

    def __init__(self):
        super().__init__()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten(1)

    def forward(self, x):
        return self.flatten(self.pool(x))


class TimmResNet(nn.Module):
    """As in timm: a deep stem, `forward_features` and `forward_head`, switches that are off."""

    def __init__(self):
        super().__init__()
        self.grad_checkpointing, self.drop_rate = False, 0.1
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 3, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.SiLU(inplace=True),
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
        )
        self.bn1, self.act1 = nn.BatchNorm2d(4), nn.SiLU(inplace=True)
        self.layer1 = nn.Sequential(Bottleneck(4, 5, 1), Bottleneck(5, 6, 2))
        self.global_pool, self.fc = SelectPool(), nn.Linear(6, 5)

    def forward_features(self, x):
        x = self.act1(self.bn1(self.conv1(x)))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            raise NotImplementedError
        return self.layer1(x)

    def forward_head(self, x, pre_logits: bool = False):
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=float(self.drop_rate), training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


ACT2FN = {"relu": nn.ReLU, "gelu": nn.GELU, None: nn.Identity}


class ConvLayer(nn.Module):
    """As in Hugging Face's transformers."""

    def __init__(self, into, out, kernel_size=3, stride=1, activation="relu"):
        super().__init__()
        self.convolution = nn.Conv2d(into, out, kernel_size, stride, kernel_size // 2, bias=False)
        self.normalization, self.activation = nn.BatchNorm2d(out), ACT2FN[activation]()

    def forward(self, input):
        return self.activation(self.normalization(self.convolution(input)))


class BasicLayer(nn.Module):
    """As in Hugging Face's transformers: the sum is written out."""

    def __init__(self, into, out, stride):
        super().__init__()
        apart = into != out or stride != 1
        self.shortcut = ConvLayer(into, out, 1, stride, None) if apart else nn.Identity()
        self.layer = nn.Sequential(ConvLayer(into, out, stride=stride), ConvLayer(out, out, activation=None))
        self.activation = ACT2FN["gelu"]()

    def forward(self, hidden_state):
        residual = hidden_state
        hidden_state = self.layer(hidden_state)
        residual = self.shortcut(residual)
        hidden_state += residual
        return self.activation(hidden_state)


@dataclass
class Config:
    num_channels: int = 3
    num_labels: int = 5
    use_return_dict: bool = True


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedder = ConvLayer(config.num_channels, 4, 7, 2)
        self.pooler, self.num_channels = nn.MaxPool2d(3, 2, 1), config.num_channels

    def forward(self, pixel_values):
        if pixel_values.shape[1] != self.num_channels:
            raise ValueError("Make sure that the channel dimension of the pixel values match.")
        return self.pooler(self.embedder(pixel_values))


class HuggingFaceResNet(nn.Module):
    """As in Hugging Face's transformers: a config, checks of shapes, hidden states, an ordered dict as the answer."""

    def __init__(self):
        super().__init__()
        self.config = Config()
        self.embedder = Embeddings(self.config)
        self.stages = nn.ModuleList([BasicLayer(4, 4, 1), BasicLayer(4, 6, 2)])
        self.pooler = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(6, self.config.num_labels))

    def forward(self, pixel_values, labels=None, output_hidden_states=None, return_dict=None):
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict
        hidden_states = () if output_hidden_states else None
        hidden_state = self.embedder(pixel_values)
        for stage in self.stages:
            if hidden_states is not None:
                hidden_states = (*hidden_states, hidden_state)
            hidden_state = stage(hidden_state)
        logits = self.classifier(self.pooler(hidden_state))
        if not return_dict:
            return (logits,)
        return OrderedDict(logits=logits, hidden_states=hidden_states)


class VGG(nn.Module):
    """Maps that are flattened with their pixels, several linear layers, dropout, a softmax."""

    def __init__(self, side=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding="same"),
            nn.ReLU(True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, padding=2, dilation=2, padding_mode="reflect"),
            nn.LeakyReLU(0.2),
            nn.MaxPool2d(2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((side, side))
        self.classifier = nn.Sequential(
            nn.Linear(5 * side**2, 7), nn.ReLU(True), nn.Dropout(), nn.Linear(7, 7), nn.BatchNorm1d(7), nn.Linear(7, 5)
        )

    def forward(self, x):
        x = self.avgpool(self.features(x))
        x = x.view(x.size(0), -1)
        return F.log_softmax(self.classifier(x), dim=1)


class DenseNet(nn.Module):
    """Concatenations, norms before convolutions with a ReLU in place, sums with numbers, means by hand."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (1, 3), padding=(0, 1))
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(7)])
        self.convs = nn.ModuleList([nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(7, 3, 2, stride=2)])
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.convs[0](F.relu(self.norms[0](x), inplace=True))
        x = torch.cat([x, y], dim=1)
        x = self.convs[1](F.hardtanh(self.norms[1](x), 0.0, 6.0))
        x = 0.5 * torch.tanh(x) + 1
        return self.head(x.mean((-2, -1)) + x.amax([2, 3]))


NETWORKS = {
    "torchvision": ResNet,
    "timm": TimmResNet,
    "Hugging Face": HuggingFaceResNet,
    "VGG": VGG,
    "DenseNet": DenseNet,
}


def ready(name, size=16, seed=0):
    """A network with statistics of its own and weights off their start, in eval mode, and some images."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(4, 3, size, size))
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), torch.randn(3, 3, size, size)


def answers(model, images):
    out = model(images)
    return out["logits"] if isinstance(out, dict) else out
