import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: threads of torch would fight, in sub-processes too
    os.environ["OMP_NUM_THREADS"] = "1"

import gc

import hypothesis
import pytest
import torch

# No example fails for being slow: that is a matter of the machine.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays: no collection walks it, now or later, each run's own among them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _what_a_file_has_imported_stays():
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same seed and leaves the default dtype as it was."""
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def library(monkeypatch):
    """Hugging Face's `datasets`, without the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # read when the library is first imported
    datasets = pytest.importorskip("datasets", reason="needs the extra `hf`")
    datasets.disable_progress_bars()
    return datasets
