"""Which BatchNorms fold into the convolution before them: those that alone read what it gives."""

import pytest
import torch
from helpers import group_conv, lifting
from networks import Own, assert_frozen, of, shaken
from torch import nn

from partialsym import BatchNorm, GlobalPool, Signal


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", ["SE2", "E2", "Mirror"])
def test_a_model_of_ones_own(name, affine, float64):
    net, x = shaken(Own(name, affine=affine)), torch.randn(2, 1, 9, 12)
    frozen = assert_frozen(net, x, example=x[:1])
    assert isinstance(frozen.norm, nn.Identity)
    assert type(frozen) is Own


@pytest.mark.parametrize("options", [{"twice": True}, {"norms": 2}])
def test_what_is_read_beside_the_norm_is_not_folded(options, float64):
    net, x = shaken(Own(**options)), torch.randn(2, 1, 9, 12)
    frozen = assert_frozen(net, x, example=x)
    assert len(of(BatchNorm, frozen)) == options.get("norms", 1)


def test_a_norm_that_follows_two_convolutions_is_not_folded(float64):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift, self.conv, self.norm = lifting("SE2", into=1), group_conv("SE2", "learned"), BatchNorm(3)

        def forward(self, images):
            f = self.norm(self.lift(Signal.image(images)))
            return GlobalPool("mean")(self.norm(self.conv(f)))

    x = torch.randn(2, 1, 9, 9)
    assert len(of(BatchNorm, assert_frozen(shaken(Shared()), x, example=x))) == 1


def test_one_pair_that_must_stay_does_not_keep_the_others_from_folding(float64):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.conv, self.norm = Own(twice=True, last=False), group_conv("E2"), BatchNorm(3)

        def forward(self, images):
            return GlobalPool()(self.norm(self.conv(self.own(images))))

    x = torch.randn(2, 1, 9, 9)
    frozen = assert_frozen(shaken(Two()), x, example=x)
    assert isinstance(frozen.norm, nn.Identity)
    assert isinstance(frozen.own.norm, BatchNorm)


def test_layers_called_twice_and_shared(float64):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift, self.conv = lifting("SE2", into=1), group_conv("SE2")
            self.same = nn.ModuleList([self.conv])

        def forward(self, images):
            f = self.lift(Signal.image(images))
            return GlobalPool("mean")(self.same[0](f=self.conv(f, elements=f.elements), elements=f.elements))

    x = torch.randn(2, 1, 9, 9)
    frozen = assert_frozen(shaken(Twice()), x, example=x)
    assert frozen.conv is frozen.same[0]
