"""What a budget pays for, and what is lowered where it pays for less."""

import re

import pytest

from partialsym.ask import METHODS, look, planning
from partialsym.ask.methods import Shape
from partialsym.ask.planning import ENOUGH, FEWEST, LEAST, MOST, PAGE, ROUNDING, SHARE, START, Budget, Seconds, plan
from partialsym.ask.timing import FIRST, LONG, TIMES, measure
from partialsym.config import ConfigError, DataConfig, ModelConfig

OWN = (96, 96)
NAMES = tuple(METHODS["E2"])
LEARNING = frozenset(name for name in NAMES if "partial" in name)


def budget(seconds=600.0, *, seeds=3, workers=2, train=600, validation=60, evaluated=3000, chosen=60):
    return Budget(seconds, seeds, workers, train, validation, evaluated, chosen, LEARNING)


class Machine:
    """Seconds in proportion to the pixels, and to the width; notes what was measured."""

    def __init__(self, step=0.03, side=32):
        self.step, self.side, self.asked = step, side, []

    def __call__(self, size, width):
        self.asked.append((size, width))
        factor = (size or OWN)[0] ** 2 / self.side**2 * (width / 8) ** 1.5
        return {name: Seconds(self.step * factor * (1 + i), self.step * factor / 100) for i, name in enumerate(NAMES)}


def cost(made, spend):
    """Seconds on the clock that the plan takes, counted anew: every step and image of every run."""
    length, total = made.lengths[0], 0.0
    steps = length.epochs * (length.repeats * (length.images or spend.train) // made.batch)
    for name in made.methods:
        images = spend.evaluated + planning.EPOCHS[-1] * (spend.validation + min(256, spend.train))
        if name in LEARNING:  # fixed at the end: draws, and trials with recalibration
            images += planning.DRAWS * spend.chosen + planning.TRIALS * (spend.chosen + min(256, spend.train))
        total += steps * made.seconds[name].step + images * made.seconds[name].image
    return START + PAGE + spend.seeds * total / spend.workers


def steps_of(made, spend):
    return made.lengths[0].steps(spend.train, made.batch)


@pytest.mark.parametrize("seconds", [400.0, 1200.0, 7200.0])
@pytest.mark.parametrize("train", [100, 600, 50_000])
def test_a_plan_keeps_to_its_budget_and_uses_it(seconds, train):
    spend = budget(seconds, train=train)
    made = plan(spend, Machine(0.01), OWN)
    assert cost(made, spend) <= SHARE * seconds
    assert cost(made, spend) > ROUNDING * SHARE * seconds or steps_of(made, spend) > ROUNDING * MOST
    runs = [made.takes(name, seed, train) for name in made.methods for seed in range(3)]
    assert START + PAGE + sum(runs) / spend.workers == pytest.approx(cost(made, spend))


def test_width_then_size_then_methods_are_lowered():
    """Each no further than it must be, whatever the budget."""
    machine = Machine(0.1)
    seen = []
    for seconds in (
        80_000,
        30_000,
        10_000,
        4_000,
        2_000,
        1_000,
        500,
        350,
        300,
        250,
        220,
        200,
        180,
        160,
        140,
        120,
        100,
        90,
        80,
        70,
    ):
        try:
            made = plan(spend := budget(seconds), machine, OWN)
        except ConfigError:
            break
        assert made.methods == NAMES[: len(made.methods)]
        assert LEAST <= steps_of(made, spend) <= MOST
        seen.append((made.width, made.size or OWN, len(made.methods)))
    assert seen == sorted(seen, reverse=True)
    widths, sizes, counts = ({one[i] for one in seen} for i in range(3))
    assert widths == {16, 8}
    assert len(sizes) > 2
    assert min(counts) == FEWEST < max(counts) == len(NAMES)
    assert all(width == 8 for width, size, _ in seen if size != OWN), "images were lowered before the width"
    assert all(size == (16, 16) for _, size, count in seen if count < len(NAMES)), "methods before the images"


def test_the_wider_network_needs_enough_steps():
    spend = budget(3000)
    wide, narrow = (plan(spend, Machine(step), OWN, resizable=False) for step in (0.004, 0.02))
    assert (wide.width, narrow.width) == (16, 8)
    assert steps_of(wide, spend) >= ROUNDING * ENOUGH
    assert spend.steps(Machine(0.02)(None, 16)) < ENOUGH


def test_a_size_that_cannot_do_is_not_timed():
    machine = Machine(0.2)
    plan(budget(600), machine, OWN)
    assert machine.asked[0] == (None, 8)
    assert ((64, 64), 8) not in machine.asked
    assert len(machine.asked) <= 3


def test_named_images_are_not_resized():
    machine = Machine(0.02)
    made = plan(budget(250), machine, OWN, resizable=False)
    assert made.size is None
    assert len(made.methods) < len(NAMES)


@pytest.mark.parametrize("step", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("seconds", [20, 60, 80])
def test_a_refusal_names_what_fits_and_that_fits(seconds, step):
    machine = Machine(step)
    with pytest.raises(ConfigError, match=r"plain and SE2-full .* on 16×16 pixels") as caught:
        plan(budget(seconds), machine, OWN)
    minutes = int(re.search(r"--budget (\d+)m", str(caught.value))[1])
    made = plan(budget(60 * minutes), machine, OWN)
    assert steps_of(made, budget(60 * minutes)) >= LEAST
    if minutes > 1:
        with pytest.raises(ConfigError):
            plan(budget(60 * minutes * SHARE * 0.5), machine, OWN)


@pytest.mark.parametrize("step", [0.03, 0.1])
def test_a_refusal_counts_what_else_the_command_does(step):
    """Reading the images took 200 seconds, and the look at them takes a share: the named budget pays for these, too."""
    machine = Machine(step)

    def left(total):
        return budget(total - 200 - look.seconds(total))._replace(whole=lambda s: look.whole(s + 200))

    with pytest.raises(ConfigError, match="a budget of 60 s is too small") as caught:
        plan(left(60), machine, OWN)
    minutes = int(re.search(r"--budget (\d+)m", str(caught.value))[1])
    assert steps_of(plan(left(60 * minutes), machine, OWN), left(60 * minutes)) >= LEAST
    with pytest.raises(ConfigError) as caught:  # what was named when only the trainings counted
        plan(left(60)._replace(whole=float), machine, OWN)
    minutes = int(re.search(r"--budget (\d+)m", str(caught.value))[1])
    with pytest.raises(ConfigError):
        plan(left(60 * minutes), machine, OWN)


@pytest.mark.parametrize("total", [60.0, 2000.0, 9000.0])
def test_the_budget_that_leaves_time_for_a_look(total):
    assert look.whole(total - look.seconds(total)) == pytest.approx(total)


def test_of_many_images_a_part_is_taken_and_few_are_repeated():
    many = plan(budget(2000, train=50_000), Machine(0.01), OWN).lengths[0]
    assert many.images < 50_000
    few = plan(budget(2000, train=100), Machine(0.01), OWN).lengths[0]
    assert few.images is None
    assert few.repeats > 1


@pytest.mark.parametrize("factor", [0.5, 1.3, 6.0, 50.0])
def test_a_revised_plan_fits_the_machine_as_it_is(factor):
    spend = budget(1200)
    made = plan(spend, Machine(0.01), OWN)
    later = spend._replace(seconds=1150.0)
    now = planning.revised(made, later, factor)
    assert (now.width, now.size) == (made.width, made.size)
    assert now.methods == made.methods[: len(now.methods)]
    assert now.seconds["plain"].step == pytest.approx(factor * made.seconds["plain"].step)
    assert steps_of(now, spend) >= LEAST
    if factor < 5:
        assert now.methods == made.methods
        assert cost(now, later) <= SHARE * later.seconds
    else:
        assert len(now.methods) < len(made.methods)


def test_what_a_revision_shortens_holds_from_its_seed_on():
    made = plan(budget(1200), Machine(0.01), OWN)
    short = planning.Length(3, 1, None)
    later = made.shortened(1, short)
    assert [later.length(seed) for seed in range(4)] == [made.lengths[0], short, short, short]
    assert later.takes("plain", 1, 600) < later.takes("plain", 0, 600) == made.takes("plain", 0, 600)
    model = ModelConfig("T2", partial=False, width=2)
    assert later.experiment("plain", 2, DataConfig("MNIST"), model).training.repeats == 1


@pytest.mark.parametrize(("slow", "whole"), [(LONG / 2, True), (LONG * 2, False)])
def test_timing_takes_the_median_of_a_few_warm_steps(slow, whole):
    """With a clock of the test's own: which calls it times, and what it makes of them."""
    images = []

    def clock(one):
        count = len(one.images) if hasattr(one, "images") else None
        images.append(count)
        if images.count(count) == 1:
            return 100.0  # cold
        if count in (FIRST, None):
            return slow
        return [3.0, 0.5, 0.7][images.count(count) % 3]

    model = ModelConfig("T2", partial=False, width=2, kernel_size=3, hidden=4, pools=())
    found = measure(model, Shape((8, 8), 1, 2), batch=16, clock=clock)
    if whole:
        assert found.step < 100
        assert images.count(16) <= TIMES + 1
    else:
        assert found.step == slow * 16 / FIRST
        assert 16 not in images
