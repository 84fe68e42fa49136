"""The same seed on the same machine gives the same run, bit for bit, in one process and in fresh ones."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import few
from training import TINY, run, weights

from partialsym.config import ConfigError, Experiment
from partialsym.training import fit as fitting
from partialsym.training.determinism import WORKSPACE, algorithms
from partialsym.training.fit import Ablation

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
APART = ("seconds", "loader_share", "finished", "git", "config")  # times, the checkout, and what differs on purpose
PRECISIONS = ("32", "bf16-mixed")
SCRIPT = """
import sys, tempfile, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import torch
from test_determinism import digest, experiment
torch.set_num_threads(int(sys.argv[2]))
for seed in (0, 0, 1):
    print("digest", digest(Path(tempfile.mkdtemp(dir=sys.argv[3])), experiment(sys.argv[1], seed)))
"""


def experiment(precision, seed=0, **training):
    short = replace(TINY.training, epochs=2, precision=precision, **training)
    return replace(TINY, seed=seed, data=replace(TINY.data, train_images=128), training=short)


def digest(folder, config):
    """Of all weights, the metrics a step and an epoch, and the result but what is APART."""
    done = run(folder, config)
    result = {key: value for key, value in done.result().items() if key not in APART}
    found = hashlib.sha256(json.dumps([result, done.history()], sort_keys=True).encode())
    found.update((done.folder / "metrics.csv").read_bytes())
    for name, value in weights(done).items():
        found.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@pytest.mark.long
@pytest.mark.parametrize("precision", few(PRECISIONS, "32"))
def test_one_after_the_other_runs_of_a_seed_are_one_and_the_same(precision, tmp_path):
    first, again = (digest(tmp_path / str(i), experiment(precision)) for i in range(2))
    assert first == again
    if precision == "32":
        assert digest(tmp_path / "strict", experiment(precision, deterministic=True)) == first  # and none is refused
        assert digest(tmp_path / "other", experiment(precision, seed=1)) != first


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_runs_of_a_seed_in_fresh_processes_are_one_and_the_same(precision, threads, tmp_path):
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", SCRIPT, precision, str(threads), str(tmp_path)]
        env = {
            **os.environ,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }
        out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        found.append([line.split()[1] for line in out.splitlines() if line.startswith("digest")])
    (first, again, other), elsewhere = found
    assert elsewhere == [first, again, other]
    assert first == again != other


def scattering(model):
    """An operation that torch knows to have no deterministic algorithm, on the way to the logits."""

    def scatter(_, args, out):
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))

    model.classifier.register_forward_hook(scatter)


def test_what_has_no_deterministic_algorithm_is_an_error_when_asked_for(tmp_path):
    alter = Ablation("scattering", scattering)
    run(tmp_path / "free", experiment("32"), alter=alter)
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        run(tmp_path / "strict", experiment("32", deterministic=True), alter=alter)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("warn_only", [False, True])
def test_what_was_set_before_is_set_afterwards(warn_only):
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        with algorithms(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)


class Reached(Exception):
    """Training would use the GPU from here on."""


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """(used, deterministic) → cuBLAS's variable when training reaches a GPU, which this process had used or not."""
    monkeypatch.setenv(WORKSPACE, "")  # so that it is as before afterwards
    monkeypatch.delenv(WORKSPACE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def reach(used, deterministic=True):
        def trainer_of(*args):
            raise Reached(os.environ.get(WORKSPACE))

        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
        monkeypatch.setattr(fitting, "trainer_of", trainer_of)
        with pytest.raises(Reached) as found:
            run(tmp_path, experiment("32", deterministic=deterministic))
        return found.value.args[0]

    return reach


def test_what_cublas_needs_is_set_before_a_gpu_is_used_or_training_is_refused(gpu, monkeypatch):
    with pytest.raises(
        ConfigError, match=f"has used a GPU without {WORKSPACE}=:4096:8, which is read only at the first use"
    ):
        gpu(used=True)
    assert gpu(used=True, deterministic=False) is None
    assert gpu(used=False) == ":4096:8"
    assert gpu(used=True) == ":4096:8"  # as the run before it set it
    monkeypatch.setenv(WORKSPACE, ":16:8")
    assert gpu(used=True) == gpu(used=False) == ":16:8"


def test_a_config_from_before_the_key_still_reads():
    tree = TINY.to_dict()
    del tree["training"]["deterministic"]
    assert Experiment.from_dict(tree) == TINY
