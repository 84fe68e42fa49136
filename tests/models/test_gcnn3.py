"""The CNN of three convolutions."""

import pytest
import torch
from torch.nn import functional as F

from partialsym import GCNN3, Signal, group, load_model, save_model
from partialsym.export.conversion import to_conv2d
from partialsym.models.dense_twin import dense_twin
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries


def images(height=12, width=12, batch=2):
    return torch.randn(batch, 1, height, width, generator=torch.Generator().manual_seed(1)).to(
        torch.get_default_dtype()
    )


SAMPLES = {"T2": None, "Mirror": None, "SE2": 4, "E2": 8, "D4": None}


def cnn(name, **options):
    torch.manual_seed(0)
    model = GCNN3(
        name, **{"samples": SAMPLES[name], "width": 2, "hidden": 4, "num_classes": 5, "partial": False} | options
    )
    with torch.no_grad():
        for module in (model.norm0, model.norm1, model.norm2):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def test_on_the_plane_it_is_a_plain_cnn():
    """Against torch's own layers, with the weights the kernels generate."""
    net, x = cnn("T2", first_pool=4), images(24, 24)
    f, e = x, Signal.image(x).elements
    layers = ((net.lifting, net.norm0, 4), (net.conv1, net.norm1, 2), (net.conv2, net.norm2, 1))
    for conv, norm, size in layers:
        f = F.conv2d(f, conv.filters(e, e), conv.bias, padding=1)
        f = F.batch_norm(f, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        f = F.max_pool2d(f, size).relu()
    assert f.shape[1:] == (8, 3, 3)
    torch.testing.assert_close(net(x), net.classifier(f.mean((2, 3))))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["SE2", "E2", "Mirror", "D4"])
@pytest.mark.parametrize("first_pool", [2, 4])
def test_it_is_invariant_to_its_group_and_to_no_other(name, first_pool):
    net = cnn(name, first_pool=first_pool)
    assert_equivariant(net, images(), group(name), transport=False)
    quarter, mirror = grid_symmetries()[1], grid_symmetries()[4]
    lacking = {"SE2": mirror, "Mirror": quarter}.get(name)
    if lacking is not None:
        assert equivariance_error(net, images(), lacking, transport=False) > 1e-3


def test_it_is_saved_frozen_and_has_a_twin(tmp_path):
    net, x = cnn("E2", partial=True, first_pool=4), images(24, 24)
    save_model(net, tmp_path / "model")
    again, _ = load_model(tmp_path / "model")
    assert torch.equal(again(x), net(x))
    torch.testing.assert_close(to_conv2d(net)(x), net(x), rtol=1e-4, atol=1e-5)
    assert dense_twin(net)(x).shape == (len(x), 5)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="first_pool is 0: must be at least 1"):
        GCNN3("T2", first_pool=0)
    with pytest.raises(ValueError, match="smaller than the 3×3 kernel"):
        cnn("T2")(images(2, 2))
