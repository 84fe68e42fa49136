"""Which order of summation is chosen, by what it costs: a function of shapes, precision and processor alone."""

import pytest
import torch
from convolutions import multiplied
from torch.utils.flop_counter import FlopCounterMode

from partialsym.nn.conv import disc
from partialsym.ops import (
    FactoredKernel,
    Options,
    Shape,
    choice,
    convolve,
    dense_work,
    factored_work,
    orders,
    resolved,
    shape_of,
    spectral,
    spectral_work,
)


def test_the_cost_model_counts_what_the_orders_multiply():
    """By torch's own counter of operations, two a multiplication."""
    f, phi = torch.randn(3, 4, 3, 7, 6), torch.randn(2, 6, 3, 5, 5)
    kernel = FactoredKernel(torch.randn(5, 4, 6), torch.randn(5, 4), phi, torch.rand(3), disc(5)[1].float())
    s = shape_of(f.shape, kernel.weight.shape, phi.shape, 1)
    assert s == Shape(3, 4, 5, 3, 2, 6, 5, 7, 6, 1)
    assert s.size == (5, 4)
    orders_of = {"dense": orders.dense, "factored": orders.factored, "spectral": spectral.spectral}
    for path, work in (("dense", dense_work(s)), ("factored", factored_work(s)), ("spectral", spectral_work(s))):
        inside = multiplied(lambda path=path: orders_of[path](f, kernel, None, Options(1)))
        assert inside == pytest.approx(2 * sum(work), rel=0.02)  # and the mean over elements
        with FlopCounterMode(display=False) as outside:
            convolve(f, kernel, None, 1, path)
        assert outside.get_total_flops() == 2 * sum(work)


MEASURED = [
    (Shape(4, 128, 128, 8, 8, 8, 3, 32, 32, 1), "factored"),  # the 13-layer CNN
    (Shape(4, 256, 256, 8, 8, 8, 3, 8, 8, 1), "factored"),
    (Shape(16, 16, 16, 4, 4, 8, 3, 14, 14, 1), "dense"),  # where it is narrow, with few elements
    (Shape(64, 32, 32, 8, 8, 32, 7, 14, 14, 3), "spectral"),  # the ResNet's blocks
    (Shape(64, 64, 64, 8, 8, 32, 7, 7, 7, 3), "spectral"),
    (Shape(64, 16, 16, 8, 8, 32, 5, 16, 16, 2), "spectral"),
    (Shape(32, 256, 256, 3, 4, 27, 3, 8, 8, 1), "spectral"),  # 3×3: a ResNet-18 on photographs
    (Shape(64, 16, 32, 4, 8, 36, 3, 8, 8, 1), "spectral"),  # a question about E(2)
    (Shape(64, 32, 32, 1, 1, 32, 7, 14, 14, 3), "spectral"),  # T(2)
    (Shape(64, 1, 32, 1, 8, 32, 7, 28, 28, 3), "dense"),  # lifting
    (Shape(64, 3, 16, 1, 4, 32, 5, 32, 32, 2), "dense"),
    (Shape(64, 32, 64, 8, 8, 16, 1, 7, 7, 0), "dense"),  # a shortcut
]


@pytest.mark.parametrize("kind", ["AVX-512", "AVX2"])
@pytest.mark.parametrize(("shape", "path"), MEASURED)
def test_the_choice_where_measurements_leave_no_doubt(shape, path, kind, monkeypatch):
    monkeypatch.setattr(choice, "processor", lambda: kind)
    assert resolved("auto", shape) == path


def test_the_spectral_order_is_not_chosen_where_it_was_not_measured(monkeypatch):
    """On a GPU, on a processor of another kind, and in 16 bits where those have units of their own."""
    spectral = MEASURED[4][0]
    monkeypatch.setattr(choice, "processor", lambda: "AMX")
    assert resolved("auto", spectral) == "spectral"
    assert resolved("auto", spectral, torch.bfloat16) == resolved("auto", spectral, torch.float16) == "dense"
    assert resolved("auto", spectral, device="cuda") == "dense"
    monkeypatch.setattr(choice, "processor", lambda: "other")
    assert resolved("auto", spectral) == "dense"
    assert resolved("spectral", spectral) == "spectral"
    assert resolved("auto", spectral._replace(images=0)) == "dense"


def test_what_the_processor_is_follows_from_torchs_own_queries(monkeypatch):
    def found(capability, **answers):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: answers)
        choice.processor.cache_clear()
        return choice.processor()

    try:
        assert found("AVX512", amx_tile=True, avx512_bf16=True) == "AMX"
        assert found("AVX512", amx_tile=False, avx512_bf16=True) == "AVX-512"
        assert found("AVX512", avx512_bf16=False) == "AVX-512 without bf16"
        assert found("AVX512") == "AVX-512 without bf16"  # neither name is there
        assert found("AVX2") == "AVX2"
        assert found("NEON") == "other"
    finally:
        choice.processor.cache_clear()
