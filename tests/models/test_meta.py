"""Networks on torch's device `meta`: shapes and operations, without numbers."""

import pytest
import torch
from helpers import few

import partialsym as ps
from partialsym.profiling import Step, multiply_adds, operations
from partialsym.registry import KERNELS, NETWORKS
from partialsym.regularization import haar_divergence, kernel_norm, monotonic, width


@pytest.mark.parametrize("network", few(NETWORKS, "ResNet", "CNN13"))
def test_a_network_on_meta_learns_in_shapes(network):
    def make():
        return NETWORKS[network]("E2", samples=2, width=2, hidden=2, kernel_size=3, in_channels=1, proportional=True)

    with torch.device("meta"):
        made = make()
    moved = ps.Augerino(make(), "E2", copies=2).to("meta")
    images = torch.empty(3, 1, 28, 28, device="meta")
    for model in (made, moved):
        assert all(tensor.is_meta for tensor in model.state_dict().values())
        parts = (
            kernel_norm,
            monotonic,
            width,
            haar_divergence,
        )
        loss = model.train()(images).sum() + sum(part(model) for part in parts)
        loss.backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            answers = model.eval()(images)
        assert answers.is_meta
        assert answers.shape == (3, 10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_made_on_meta(kernel):
    with torch.device("meta"):
        layer = ps.GroupConv(
            1, 2, domain=ps.group("T2"), codomain=ps.learned(ps.group("E2"), 2), kernel_size=3, kernel=KERNELS[kernel]
        )
    image = ps.Signal.image(torch.empty(1, 1, 6, 6, device="meta"))
    assert layer(image).values.shape == layer.to_empty(device="cpu").to("meta")(image).values.shape == (1, 2, 2, 6, 6)


def test_numbers_of_meta_are_refused_and_its_operations_counted():
    model = ps.GResNet("SE2", samples=2, width=2, hidden=2, kernel_size=3)
    images, labels = torch.randn(2, 1, 28, 28), torch.tensor([0, 1])
    expected = operations(Step(model, images, labels))
    model.to("meta")
    with pytest.raises(ValueError, match="the model is on `meta`, where it has no numbers"):
        ps.to_conv2d(model)
    assert multiply_adds(model, 1, (28, 28)) is None
    assert operations(Step(model, images.to("meta"), labels.to("meta"))) == expected
