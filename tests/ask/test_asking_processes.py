"""The processes that `ask` trains in."""

from types import SimpleNamespace

import pytest
from processes import context
from test_asking import images_of

from partialsym._utils.signals import Stopped
from partialsym.ask.workers import STOP, pool, progress, run_one, stopping
from partialsym.config import Experiment, ModelConfig, TrainingConfig
from partialsym.runs.verify import examine
from partialsym.training.fit import run_folder


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_runs_are_trained_in_processes_until_they_are_told_to_stop(tmp_path, monkeypatch):
    """Forked ones, which need not import everything anew."""
    forked = SimpleNamespace(get_context=lambda spawn: context())
    monkeypatch.setattr("partialsym.ask.workers.multiprocessing", forked)
    model = ModelConfig("T2", width=2, hidden=4, kernel_size=3, pools=())
    config = Experiment("x", model=model, training=TrainingConfig(1, batch_size=4))
    other = Experiment("y", model=model, training=TrainingConfig(1, batch_size=4))
    run, stopped = run_folder(config, tmp_path), run_folder(other, tmp_path)
    with pool(2) as executor, stopping([stopped.folder]):
        done, ended = (executor.submit(run_one, one, tmp_path, images_of()) for one in (config, other))
        assert (done.result(), ended.result()) == (True, False)
    assert (run.folder / "behaviour.json").is_file()
    assert examine(run).faults == []
    assert progress(config, tmp_path) is None
    assert not stopped.finished
    assert not (stopped.folder / STOP).exists()


def test_a_run_says_how_far_it_is(tmp_path):
    said = []

    def look(config, out, *, watch, **rest):
        for step in (1, 2, 5):
            watch(step, 5)
            said.append(progress(config, out))
        raise Stopped

    model = ModelConfig("T2", width=2, hidden=4, kernel_size=3, pools=())
    config = Experiment("x", model=model)
    run_folder(config, tmp_path).folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("partialsym.ask.workers.train", look)
        patch.setattr("partialsym.ask.workers.EVERY", 0.0)
        assert not run_one(config, tmp_path, images_of())
    assert [(one.step, one.steps) for one in said] == [(0, 5), (1, 5), (4, 5)], "the first step is counted"
    assert said[-1].seconds >= said[1].seconds >= 0
    assert progress(config, tmp_path) is None
