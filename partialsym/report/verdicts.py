"""The verdict on methods, or the reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from partialsym.ask import MARGIN, Standing, Verdict, method_results, verdict
from partialsym.report.collect import Method
from partialsym.report.text import count


@dataclass(frozen=True)
class Judged:
    """The methods and the verdict about them.

    Attributes:
        methods: all methods, with the titles of the verdict.
        verdict: None if there is none.
        standings: method name → how well it generalises.
        problem: the reason why there is no verdict, or why it excludes some runs.
    """

    methods: list[Method]
    verdict: Verdict | None
    standings: dict[str, Standing]
    problem: str = ""

    @property
    def shown(self) -> Method | None:
        """The method whose predictions are shown: the recommended one, else the best; None without a verdict."""
        if self.verdict is None:
            return None
        advice = self.verdict.recommendation
        name = (advice.method if advice else None) or self.verdict.standings[0].method
        return next(method for method in self.methods if method.name == name)


def judge(methods: Sequence[Method], margin: float = MARGIN) -> Judged:
    """The verdict of all methods whose behaviour is known; `margin` as in `partialsym.ask.verdict`."""
    known = [method for method in methods if method.measured]
    missing = [seed.problem for method in methods for seed in method.seeds if seed.behaviour is None]
    problem = ""
    if missing:
        runs = count(len(missing), "run")
        problem = f"The verdict excludes {runs} whose model or data are not available ({missing[0]})"
    if not known:
        return Judged(list(methods), None, {}, f"No model, or no data, could be read: {missing[0]}")
    try:
        arms = [method_results(m.name, [s.result for s, _ in m.measured], [b for _, b in m.measured]) for m in known]
        found = verdict(arms, margin)
    except ValueError as error:
        return Judged(list(methods), None, {}, f"These runs cannot be compared: {error}")
    standings = {standing.method: standing for standing in found.standings}
    named = [replace(m, title=standings[m.name].name) if m.name in standings else m for m in methods]
    return Judged(named, found, standings, problem)
