"""`benchmarks.cores`: rounds wait until two threads help each other, and say where they did not."""

import torch

from benchmarks import cores
from benchmarks.cores import Together
from benchmarks.rows import quotient


def test_one_thread_has_nothing_to_wait_for(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    waiting = Together()
    waiting()
    assert (waiting.patience, waiting.calls, waiting.apart, waiting.note()) == (5.0, 1, 0, "")


def test_what_takes_longer_with_all_threads_is_waited_for(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(cores, "_median_seconds", lambda tensors: 1.0 if len(tensors) > 1 else left.pop(0))
    slept, left = [], [2.0, 1.5, 0.6, 0.5]
    monkeypatch.setattr(cores.time, "sleep", slept.append)
    waiting = Together()
    waiting()
    waiting()
    assert len(slept) == 2
    assert waiting.patience == 5.0 - sum(slept)
    assert waiting.note() == ""
    left += [2.0] * 5
    impatient = Together(2 * cores.PAUSE)
    impatient()
    assert (impatient.apart, len(slept), len(left)) == (1, 4, 2)
    row = quotient("a", lambda: None, lambda: None, precision="float32", pairs=1, warm_up=0, together=impatient)
    assert row.note == "cores apart in 2 of 2 rounds"
    assert row.line().endswith(row.note)
    assert impatient.note() == ""


def test_its_work_is_the_same_for_all_threads_and_for_one():
    waiting = Together()
    assert waiting.whole.numel() == sum(part.numel() for part in waiting.parts)
    assert all(part.numel() <= cores.SERIAL for part in waiting.parts)
    cores._pass_on(waiting.parts)
    assert all(part.eq(1).all() for part in waiting.parts)
