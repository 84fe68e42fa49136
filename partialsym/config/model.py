"""Which network an experiment trains."""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from partialsym._utils.validation import check, one_of
from partialsym.registry import DENSE_NETWORKS, GROUPS, KERNELS, LIFTED, NETWORKS, SETTINGS, network_defaults, takes

PLACES = ("lifting", "block1", "block2")
HEADS = ("group", "plane", "linear")


@dataclass(frozen=True)
class ModelConfig:
    """The network: see partialsym.models.

    Args:
        group: T2, Mirror, SE2, E2, C<n>, D<n> or a registered one.
        network: ResNet, CNN13 (the 13-layer CNN), CNN3 (three convolutions), a preset such as gresnet18_cifar,
            gwrn16_4 or gconvnext, or a registered one. Lifted, if pretrained holds a lifted network.
        options: other arguments of the network, such as {depth: 3} or {checkpoint: true}.
        partial: learn which part of the group each layer retains.
        learned_layers: which layers learn it, all or only the last; the others use the whole group.
        samples: number of group elements in every layer; default 8, or all elements of a finite group.
        width: channels after lifting, or of the first stage; default 32, CNN13 128, CNN3 16, a preset its own.
        kernel_size: in pixels, odd; default 7, CNN13 and CNN3 3, a preset its own.
        kernel: SIREN, MLP, Fourier, Gabor, MAGNet, Grid or a registered one.
        hidden: features of the kernel network; default 32, CNN3 16, CNN13 and presets 8.
        kernel_options: other arguments of the kernel network, such as {omega0: 10}.
        pools: for the ResNet, where it pools by 2×2 maxima: any of lifting, block1, block2; default lifting and block1.
        dropout: probability, in [0, 1); default 0, CNN13 0.3.
        head: for the ResNet, group, plane (the last convolution projects to T(2)) or linear (a linear layer pools the
            elements). With plane or linear a full network is not fully equivariant. Default group.
        augerino: group (SE2, E2, Mirror) of which Augerino learns a part and transforms the images by it, around the
            whole network; default none.
        copies: number of transformed copies that Augerino averages over.
        sampling: how elements are drawn: systematic (equally spaced) or iid.
        proportional: evaluate on ceil(r·theta) rotations instead of r.
        pretrained: folder of save_model, or of a run, whose weights training starts from. A lifted network is taken as
            it is there, and the other keys of model are left out; any other needs the keys that it was made with. If
            the data have other classes, the last layer starts anew. The short form is `--pretrained`.
    """

    group: str = "SE2"
    network: str = "ResNet"
    options: dict[str, bool | int | float | str | list[int]] = field(default_factory=dict)
    partial: bool = True
    learned_layers: Literal["all", "last"] = "all"
    samples: int | None = None
    width: int | None = None
    kernel_size: int | None = None
    kernel: str = "SIREN"
    hidden: int | None = None
    kernel_options: dict[str, int | float | str] = field(default_factory=dict)
    pools: tuple[str, ...] | None = None
    dropout: float | None = None
    head: str | None = None
    augerino: str | None = None
    copies: int = 4
    sampling: Literal["systematic", "iid"] = "systematic"
    proportional: bool = False
    pretrained: str | None = None

    def __post_init__(self) -> None:
        _check_group("model.group", self.group)
        if self.augerino is not None:
            _check_group("model.augerino", self.augerino)
        dense = self.network in DENSE_NETWORKS
        right = "a network with one answer per image: this one answers per pixel and needs your own training loop"
        check("model.network", self.network, not dense, right)
        if self.network != LIFTED:
            one_of("model.network", self.network, NETWORKS)
        held = self.network != LIFTED or self.pretrained is not None
        check("model.network", self.network, held, "left out: model.pretrained names the folder of a lifted network")
        one_of("model.kernel", self.kernel, KERNELS)
        for name in SETTINGS:
            value = getattr(self, name)
            free = value is None or takes(self.network, name)
            check(f"model.{name}", value, free, f"left out: {self.network} has no such setting")
        for place in self.pools or ():
            one_of("model.pools", place, PLACES)
        if self.head is not None:
            one_of("model.head", self.head, HEADS)
        for name in ("samples", "width", "hidden", "copies"):
            value = getattr(self, name)
            check(f"model.{name}", value, value is None or value >= 1, "at least 1")
        odd = self.kernel_size is None or (self.kernel_size >= 1 and self.kernel_size % 2 == 1)
        check("model.kernel_size", self.kernel_size, odd, "odd and positive, so that the kernel has a centre")
        check("model.dropout", self.dropout, self.dropout is None or 0 <= self.dropout < 1, "in [0, 1)")

    def complete(self) -> "ModelConfig":
        """The config with the network's defaults for the settings that are left out."""
        defaults = network_defaults(self.network)
        return replace(self, **{key: value for key, value in defaults.items() if getattr(self, key) is None})


def _check_group(key: str, value: str) -> None:
    near = [name for name in GROUPS if name.lower() == value.lower()]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    named = value in GROUPS or re.fullmatch(r"[CD][1-9]\d{0,3}", value) is not None
    check(key, value, named, f"one of {', '.join(GROUPS)}, C<n> or D<n>", hint)
