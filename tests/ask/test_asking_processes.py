"""The processes that `ask` trains in."""

import math
from types import SimpleNamespace

import pytest
from processes import context
from test_asking import images_of

from partialsym.ask.workers import pool, run_one
from partialsym.config import Experiment, ModelConfig, TrainingConfig
from partialsym.runs.verify import examine
from partialsym.training.fit import run_folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_runs_are_trained_in_processes_as_long_as_there_is_time(tmp_path, monkeypatch):
    """Forked ones, which need not import everything anew."""
    forked = SimpleNamespace(get_context=lambda spawn: context())
    monkeypatch.setattr("partialsym.ask.workers.multiprocessing", forked)
    model = ModelConfig("T2", width=2, hidden=4, kernel_size=3, pools=())
    config = Experiment("x", model=model, training=TrainingConfig(1, batch_size=4))
    run = run_folder(config, tmp_path)
    with pool(2) as executor:  # of one thread each
        late, done = (executor.submit(run_one, config, tmp_path, images_of(), end, 60.0) for end in (0.0, math.inf))
        assert (late.result(), done.result()) == (False, True)
    assert (run.folder / "behaviour.json").is_file()
    assert examine(run).faults == []
