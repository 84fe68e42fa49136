"""The 13-layer CNN: shapes, invariance, gradients, sizes, errors, files and the way from a config."""

import inspect
from dataclasses import replace

import pytest
import torch
from helpers import KINDS, SAMPLES, few, perturbed, taken
from torch import nn
from torch.nn import functional as F

from partialsym import GCNN13, GResNet, GroupConv, Signal, group, load_model, recalibrate, save_model
from partialsym.config import ConfigError, DataConfig, Experiment, ModelConfig
from partialsym.measure import learned_subsets
from partialsym.registry import KERNELS
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries
from partialsym.training.fit import build_model, train

NETS = few([(name, partial) for name in SAMPLES for partial in (False, True)], *KINDS)
LAYERS = ["lifting", *(f"convs.{i}" for i in range(1, 9))]


def cnn(name="SE2", **options):
    return GCNN13(name, **{"samples": SAMPLES[name], "width": 2, "hidden": 4, "num_classes": 5, **options})


def images(height=8, width=8, batch=2, channels=1):
    return torch.randn(batch, channels, height, width)


def ready(name, **options):
    """Off its initial values and with statistics of its own: without, nothing passes nine ReLUs and it is constant."""
    net = perturbed(cnn(name, **{"width": 5, **options}))
    recalibrate(net, [images(batch=16)])
    assert net.eval().features(images()).values.std() > 0.1
    return net


@pytest.mark.parametrize(("name", "partial"), NETS)
def test_it_runs_on_every_group(name, partial):
    net = cnn(name, partial=partial, in_channels=2, width=3)
    x = images(9, 13, batch=3, channels=2)
    assert net(x).shape == (3, 5)
    f = net.features(x)
    assert f.values.shape == (3, 6, SAMPLES[name], 3, 4)
    assert f.group.name == name
    net.eval()
    assert torch.equal(net(x), net(x))


def test_widths_pools_and_dropout_are_where_they_should_be():
    net, log = cnn("C4", dropout=0.5), []

    def note(layer, args, out):
        values = (out if isinstance(layer, nn.Dropout) else out.values).shape
        log.append((type(layer).__name__, values[1], values[-1]))

    for module in net.modules():
        if isinstance(module, GroupConv | nn.Dropout) or module is net.shrink:
            module.register_forward_hook(note)
    net(images(16, 16))
    conv = "GroupConv"
    assert log == [
        *[(conv, 2, 16), (conv, 2, 16), (conv, 4, 16), ("SpatialPool", 4, 8), ("Dropout", 4, 8)],
        *[(conv, 4, 8), (conv, 4, 8), (conv, 4, 8), ("SpatialPool", 4, 4), ("Dropout", 4, 4)],
        *[(conv, 4, 4), (conv, 4, 4), (conv, 4, 4), ("Dropout", 4, 4)],
    ]
    assert (net.shrink.mode, net.pool.mode, net.dropout.p) == ("max", "mean", 0.5)


def test_on_the_plane_it_is_a_plain_cnn():
    """Against torch's own layers, with the weights the kernels generate."""
    net = ready("T2")
    f = x = images(12, 12)
    convs, norms = [net.lifting, *net.convs.values()], [net.norm0, *net.norms.values()]
    for i, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        e = Signal.image(x).elements
        f = F.conv2d(f, conv.filters(e, e), conv.bias, padding=1)
        f = F.batch_norm(f, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
        f = F.max_pool2d(f, 2) if i in (2, 5) else f
    torch.testing.assert_close(net(x), net.classifier(f.mean((2, 3))))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "partial"), NETS)
def test_it_is_invariant_at_theta_one(name, partial):
    net = ready(name, partial=partial)
    assert_equivariant(net, images(), group(name), transport=False)


@pytest.mark.usefixtures("float64")
def test_it_is_not_invariant_to_what_it_lacks():
    quarter, mirror = grid_symmetries()[1], grid_symmetries()[4]
    for name, g in (("T2", quarter), ("SE2", mirror), ("Mirror", quarter)):
        assert equivariance_error(ready(name), images(), g, transport=False) > 1e-3
    assert equivariance_error(ready("SE2", samples=6), images(), quarter, transport=False) > 1e-3
    narrow = ready("SE2")
    with torch.no_grad():
        narrow.convs["8"].codomain.algebra.raw.fill_(0.4)
    assert equivariance_error(narrow, images(), quarter, transport=False) > 1e-3


@pytest.mark.parametrize(("name", "partial"), NETS)
def test_the_gradient_reaches_every_parameter(name, partial):
    net = perturbed(cnn(name, partial=partial))
    for key, parameter in net.named_parameters():
        if key.endswith("raw"):
            parameter.data.fill_(0.6)  # at 1 the gradient leads inside or is 0
    reached = set()
    for _ in range(4):  # a component has a gradient through the relaxation of its own draw
        net(images(batch=8)).square().sum().backward()
        reached |= {key for key, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {key for key, _ in net.named_parameters()}
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_partial_learns_every_density_but_that_of_lifting():
    learned = {k.rsplit(".codomain", 1)[0] for k, _ in cnn("E2").named_parameters() if "codomain" in k}
    assert learned == set(LAYERS[1:])
    assert [s["layer"] for s in learned_subsets(cnn("E2"))] == LAYERS
    assert not [k for k, _ in cnn("E2", partial=False).named_parameters() if "codomain" in k]
    assert not [k for k, _ in cnn("T2", partial=True).named_parameters() if "codomain" in k]


@pytest.mark.parametrize(("name", "samples"), [("T2", 1), ("SE2", 8), ("E2", 8)])
def test_the_size_is_the_papers(name, samples):
    """3.99 M, as printed: within half of its last digit."""
    net = GCNN13(name, samples=samples, in_channels=3)
    assert abs(sum(p.numel() for p in net.parameters()) - 3.99e6) <= 5e3


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_can_be_named(kernel):
    net = cnn(kernel=kernel, kernel_options=taken(KERNELS[kernel], layers=2), kernel_size=5)
    assert all(type(m.kernel) is KERNELS[kernel] for m in net.modules() if isinstance(m, GroupConv))
    assert net(images()).isfinite().all()


ERRORS = [
    ({"name": "SE3"}, "'SE3'"),
    ({"in_channels": 0}, "in_channels is 0"),
    ({"num_classes": -1}, "num_classes is -1"),
    ({"width": -1}, "width is -1"),
    ({"hidden": 0}, "hidden is 0"),
    ({"kernel": "CNN"}, "kernel is 'CNN'.*SIREN"),
    ({"kernel_size": 4}, "kernel_size is 4"),
    ({"dropout": 1.0}, r"dropout is 1\.0"),
    ({"sampling": "halton"}, "sampling is 'halton'"),
    ({"name": "E2", "samples": 5}, "multiple of 2, got 5"),
    ({"kernel_options": {"omega": 1.0}}, "kernel_options has 'omega'"),
]


@pytest.mark.parametrize(("options", "quoted"), ERRORS)
def test_errors_quote_the_value(options, quoted):
    name = options.get("name", "SE2")
    settings = {"samples": SAMPLES.get(name, 4), **{k: v for k, v in options.items() if k != "name"}}
    with pytest.raises(ValueError, match=quoted):
        GCNN13(name, **settings)


def test_wrong_images_are_refused():
    assert cnn()(images(3, 3)).shape == (2, 5)
    with pytest.raises(ValueError, match="images of 2×28 pixels are smaller than the 3×3 kernel"):
        cnn()(images(2, 28))
    with pytest.raises(ValueError, match="images of 28×6 pixels are smaller than the 7×7 kernel"):
        cnn(kernel_size=7)(images(28, 6))
    with pytest.raises(ValueError, match="has 3 channels, but this layer expects 1"):
        cnn()(images(channels=3))
    with pytest.raises(ValueError, match=r"must be \[batch, channels, height, width\]"):
        cnn()(images()[0])


@pytest.mark.parametrize("name", ["T2", "E2", "C4"])
def test_save_load_gives_identical_outputs(tmp_path, name):
    net = ready(name, dropout=0.1, kernel_options={"omega0": 3.0})
    save_model(net, tmp_path)
    loaded, about = load_model(tmp_path)
    assert (type(loaded), about["model"], about["format"]) == (GCNN13, "GCNN13", 2)
    assert loaded.settings == net.settings
    x = images()
    assert torch.equal(loaded(x), net(x))


def test_a_config_chooses_it():
    config = ModelConfig("C4", network="CNN13", width=2, kernel_options={"omega0": 30.0})
    net = build_model(config, channels=3, num_classes=7)
    assert isinstance(net, GCNN13)
    assert net(images(channels=3)).shape == (2, 7)
    assert net.lifting.kernel.omega0 == 30
    assert isinstance(build_model(ModelConfig("C4", width=2), 1, 2), GResNet)


def test_what_a_config_leaves_out_is_the_networks_own():
    config = Experiment("x", model=ModelConfig(network="CNN13")).model
    assert (config.width, config.kernel_size, config.hidden, config.pools, config.dropout) == (128, 3, 8, None, 0.3)
    for name, parameter in inspect.signature(GCNN13).parameters.items():
        if name in ("width", "kernel_size", "hidden", "dropout"):
            assert getattr(config, name) == parameter.default
    chosen = ModelConfig(network="CNN13", dropout=0.0, width=4).complete()
    assert (chosen.width, chosen.dropout) == (4, 0)
    resnet = Experiment("x").model
    assert (resnet.network, resnet.width, resnet.kernel_size, resnet.hidden) == ("ResNet", 32, 7, 32)
    assert (resnet.pools, resnet.dropout) == (("lifting", "block1"), 0)
    for model in (config, resnet, ModelConfig(pools=())):
        experiment = Experiment("x", model=model)
        assert Experiment.from_dict(experiment.to_dict()) == experiment
    assert Experiment.from_dict({"name": "x", "model": {"network": "CNN13"}}).model == config


def test_a_config_from_before_there_were_two_networks_is_a_resnets():
    experiment = Experiment("x", model=ModelConfig("E2", width=3, pools=("block2",)))
    tree = experiment.to_dict()
    del tree["model"]["network"]
    assert Experiment.from_dict(tree) == experiment


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "CNN12"}, "model.network is 'CNN12': must be one of ResNet, CNN13, .* Did you mean 'CNN13'"),
        ({"network": "CNN13", "pools": ("block1",)}, r"model.pools is \('block1',\): must be left out"),
        ({"network": "CNN13", "pools": ()}, r"model.pools is \(\): must be left out"),
        ({"network": "CNN13", "kernel_size": 2}, "model.kernel_size is 2: must be odd"),
        ({"network": "CNN13", "hidden": 0}, "model.hidden is 0"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)
    with pytest.raises(ConfigError, match=message):
        Experiment.from_dict({"name": "x", "model": settings})


def test_settings_the_network_refuses_are_config_errors_before_anything_is_written(tmp_path):
    tiny = Experiment("tiny", data=DataConfig("digits-6-180"), model=ModelConfig("C4", network="CNN13", width=2))
    for model, message in (
        (replace(tiny.model, samples=5), "model: .*samples must be 4, got 5"),
        (
            replace(tiny.model, kernel_size=29),
            r"28\) pixels do not fit the model: .*smaller than the 29×29 kernel",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            train(replace(tiny, model=model), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
