"""Which run is next, on a machine made of numbers: no process, no clock but the test's."""

import math
from concurrent.futures import Future
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from partialsym.ask import difference
from partialsym.ask.question import MOST_SEEDS
from partialsym.ask.schedule import STRICT, WATCHED, Comparison, Job, Schedule, closed, further, to_close
from partialsym.cli.ask import _steps

STEP = {"plain": 0.05, "half": 0.1, "full": 0.2}
PAIRS = (("half", "plain"), ("full", "plain"))


class Plan:
    """Runs of `steps` steps of STEP seconds each."""

    def __init__(self, steps=100):
        self.lengths, self.slow, self.revisions = [steps], 1.0, []

    methods = tuple(STEP)

    def steps(self, seed):
        return self.lengths[min(seed, len(self.lengths) - 1)]

    def step(self, method):
        return self.slow * STEP[method]

    def takes(self, job):
        return self.steps(job.seed) * self.step(job.method)

    def anew(self, factor, left):
        self.revisions.append(factor)
        self.slow *= factor
        each = self.slow * sum(STEP.values()) * 3 / 2
        self.lengths = [int(0.8 * left / each)]

    def shorten(self, seed, left):
        each = self.slow * sum(STEP.values()) * (3 - seed) / 2
        self.lengths = [self.steps(k) for k in range(seed)] + [int(0.8 * left / each)]


class Machine:
    """A clock, and two workers whose runs take what `slow` makes of the plan, and `fixed` seconds before they begin."""

    def __init__(self, plan, slow=lambda now: 1.0, fixed=0.0):
        self.plan, self.slow, self.now, self.fixed = plan, slow, 0.0, fixed
        self.running, self.begun, self.stopped = {}, [], []

    def clock(self):
        return self.now

    def begin(self, job):
        future = Future()
        self.begun.append((self.now, job))
        done = -self.fixed / STEP[job.method]
        self.running[job] = [future, done, self.plan.steps(job.seed), 0.0]
        return future

    def far(self, job):
        if job not in self.running:  # it has ended, and is not collected yet
            return None
        _, done, _, seconds = self.running[job]
        return max(0, int(done)), max(0.0, seconds - self.fixed)

    def stop(self, jobs, ended):
        for job in jobs:
            self.stopped.append(job)
            self.running.pop(job)[0].set_result(False)
        ended()

    def wait(self, futures, seconds):
        self.now += 0.25
        for job, run in list(self.running.items()):
            run[1] += 0.25 / (STEP[job.method] * self.slow(self.now))
            run[3] += 0.25
            if run[1] >= run[2]:
                del self.running[job]
                run[0].set_result(True)


def answers(random, gains, seeds, images=400, spread=0.0):
    """Right answers of each method, with these gains over .7, and runs that spread."""
    easy = random.random(images)
    return {
        name: easy + random.normal(0, 0.1, (seeds, images)) + random.normal(0, spread, (seeds, 1)) < 0.7 + gain
        for name, gain in gains.items()
    }


class World:
    """What all runs would answer, and the comparisons of those that have ended."""

    def __init__(self, **gains):
        self.right = answers(np.random.default_rng(0), {"plain": 0.0, **gains}, MOST_SEEDS)
        self.labels = np.arange(400) % 2
        self.schedule = None

    def look(self):
        found = []
        for one, other in PAIRS:
            shared = sorted(self.schedule.finished.get(one, set()) & self.schedule.finished.get(other, set()))
            d = difference(self.right[one][shared], self.right[other][shared], self.labels) if shared else None
            found.append(Comparison(one, other, d))
        return found


def conduct(world, seconds, *, slow=lambda now: 1.0, steps=100, plan=None, finished=None, fixed=0.0):
    plan = plan or Plan(steps)
    machine = Machine(plan, slow, fixed)
    told = []
    world.schedule = schedule = Schedule(
        plan,
        machine,
        world.look,
        machine.clock,
        seconds,
        3,
        2,
        0.01,
        finished or {},
        lambda schedule, job: told.append((machine.now, job)),
        machine.wait,
    )
    schedule.run()
    assert not machine.running
    return schedule, machine, told


def seeds(schedule):
    return {name: len(found) for name, found in schedule.finished.items()}


def test_all_is_decided_early_and_the_rest_of_the_time_is_left():
    schedule, machine, _ = conduct(World(half=0.2, full=-0.2), 1000)
    assert seeds(schedule) == {"plain": 3, "half": 3, "full": 3}
    assert machine.now < 200


def test_what_is_open_gets_the_rest_of_the_time():
    """The comparison that is decided gets nothing more; the other one everything, as long as both of a pair fit."""
    schedule, machine, _ = conduct(World(half=0.2, full=0.004), 300)
    found = seeds(schedule)
    assert found["half"] == 3
    assert found["full"] == found["plain"] > 8
    assert 300 - 21 < machine.now <= 300
    assert {job.seed for _, job in machine.begun if job.method == "full"} == set(range(found["full"]))


def test_that_which_is_nearest_to_a_decision_comes_first():
    random = np.random.default_rng(1)
    labels = np.arange(400) % 2
    right = answers(random, {"plain": 0.0, "half": 0.004, "full": 0.045}, 3, spread=0.02)
    found = [Comparison(a, b, difference(right[a], right[b], labels)) for a, b in PAIRS]
    steps = [to_close(c.difference, 0.01) for c in found]
    assert not any(closed(c.difference, 0.01, 3) for c in found)
    assert steps[1] < steps[0]
    taken = {name: {0, 1, 2} for name in STEP}
    seconds = dict.fromkeys(STEP, 1.0)
    assert further(found, taken, seconds, 10.0, 0.01, 3).method in ("full", "plain")
    first = further(found, taken | {"plain": {0, 1, 2, 3}}, seconds, 10.0, 0.01, 3)
    assert first == Job("full", 3)
    dear = seconds | {"full": 1000.0}
    assert further(found, taken, dear, 10.0, 0.01, 3).method in ("half", "plain"), "one that does not fit was begun"
    assert further(found, taken, dear, 0.5, 0.01, 3) is None


def test_a_comparison_is_closed_by_a_stricter_interval_than_the_verdicts():
    """A difference that 95 % tell from 0, and 99.5 % do not, stays open."""
    random = np.random.default_rng(3)
    labels = np.arange(600) % 2
    for gain in np.arange(0.0, 0.2, 0.004):
        right = answers(random, {"plain": 0.0, "full": gain}, 3, images=600)
        d = difference(right["full"], right["plain"], labels)
        assert closed(d, 0.01, 3) == (d.interval(STRICT).low > 0 or max(map(abs, d.interval(STRICT)[1:])) <= 0.01)
        assert not closed(d, 0.01, 4), "it has too few seeds"
    alike = np.tile(random.random(5000) < 0.9, (3, 1))
    same = difference(alike, alike, np.arange(5000) % 2)
    assert closed(same, 0.01, 3)
    assert not closed(same, 1e-4, 3)
    assert not closed(None, 0.01, 3)
    assert to_close(None, 0.01) == math.inf


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_plan_is_made_anew_when_its_first_runs_say_so(factor):
    """Once, after a small part of the time; all methods then take as many steps, and three seeds fit."""
    plan = Plan(steps=300)
    schedule, machine, _ = conduct(World(half=0.2, full=-0.2), 180, slow=lambda now: factor, plan=plan)
    assert plan.revisions == [pytest.approx(factor, rel=0.1)]
    assert machine.begun[2][0] <= (WATCHED + 0.02) * 180
    assert seeds(schedule) == {"plain": 3, "half": 3, "full": 3}
    assert (plan.steps(0) < 300) == (factor > 1)
    assert len(machine.stopped) == 2
    assert machine.now <= 180


def test_a_machine_as_fast_as_timed_begins_once():
    plan = Plan(steps=100)
    _, machine, _ = conduct(World(half=0.2, full=-0.2), 180, slow=lambda now: 1.05, plan=plan)
    assert (plan.revisions, machine.stopped) == ([], [])


def test_a_machine_that_becomes_slower_shortens_later_seeds_alike():
    """After the first seed: the later ones take fewer steps, and all three seeds still fit."""
    plan = Plan(steps=300)
    schedule, machine, _ = conduct(
        World(half=0.2, full=-0.2), 175, slow=lambda now: 1.0 if now < 45 else 2.5, plan=plan
    )
    assert seeds(schedule) == {"plain": 3, "half": 3, "full": 3}
    assert plan.steps(0) == 300 > plan.steps(1)
    assert machine.now <= 180


def test_a_hiccup_shortens_nothing(monkeypatch):
    """The first three seconds of the second seed are four times as slow, and all that follow are as planned."""
    monkeypatch.setattr(f"{__name__}.STEP", dict.fromkeys(STEP, 0.1))
    plan = Plan(steps=300)
    schedule, machine, _ = conduct(
        World(half=0.2, full=-0.2), 185, slow=lambda now: 4.0 if 30 < now < 33 else 1.0, plan=plan
    )
    assert [job.seed for now, job in machine.begun if 29 < now < 32] == [0, 1]
    assert (plan.lengths, machine.stopped) == ([300], [])
    assert seeds(schedule) == {"plain": 3, "half": 3, "full": 3}


def test_what_every_run_takes_to_begin_is_no_slower_machine():
    """Eight seconds are more than the shortest run, and two thirds of all: the pace is that of all."""
    schedule, _, _ = conduct(World(half=0.2, full=-0.2), 300, fixed=8.0)
    assert {schedule.plan.steps(k) for k in range(3)} == {100}
    assert schedule.pace == pytest.approx((35 + 24) / 35, abs=0.02)


def test_no_run_begins_that_would_end_late():
    schedule, machine, _ = conduct(World(half=0.2, full=-0.2), 15, plan=Plan(steps=100))
    assert machine.now <= 15
    assert 0 < sum(seeds(schedule).values()) < 9


def test_an_earlier_commands_runs_are_not_repeated():
    schedule, machine, _ = conduct(World(half=0.2, full=-0.2), 500, finished={name: {0, 1} for name in STEP})
    assert {job.seed for _, job in machine.begun} == {2}
    assert seeds(schedule) == {"plain": 3, "half": 3, "full": 3}
    _, machine, _ = conduct(World(half=0.2, full=-0.2), 500, finished={name: {0, 1, 2} for name in STEP})
    assert machine.begun == []


def test_the_terminal_hears_of_every_poll_and_every_run():
    _, machine, told = conduct(World(half=0.2, full=-0.2), 500)
    times = [now for now, _ in told]
    assert max(b - a for a, b in pairwise(times)) <= 1.0
    ended = [job for _, job in told if job]
    assert sorted(ended) == sorted(job for _, job in machine.begun)
    assert len(ended) == 9


def test_a_failure_names_its_run():
    class Broken(Machine):
        def begin(self, job):
            future = super().begin(job)
            del self.running[job]
            future.set_exception(RuntimeError("no memory"))
            return future

    world, plan = World(half=0.2, full=0.0), Plan()
    machine = Broken(plan)
    schedule = Schedule(plan, machine, world.look, machine.clock, 100.0, 3, 2, 0.01, {}, wait=machine.wait)
    with pytest.raises(OSError, match="full, seed 0 failed: no memory"):
        schedule.run()


def test_seeds_of_the_same_number_of_steps_are_named_together():
    result = {"images": {"train": 5}}
    runs = [SimpleNamespace(result=lambda k=k: result | {"config": {"seed": k}}) for k in (3, 0, 1, 2, 0)]
    of = {0: SimpleNamespace(steps=lambda *_: 615)}
    plan = SimpleNamespace(batch=64, length=lambda seed: of.get(seed, SimpleNamespace(steps=lambda *_: 240)))
    assert _steps(plan, runs).startswith("615 steps with seed 0, 240 steps with seeds 1 to 3, of 64 images each")
    assert _steps(plan, runs[:1]) == "240 steps of 64 images each"
