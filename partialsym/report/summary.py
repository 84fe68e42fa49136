"""What the page begins with: the verdict, and how well each method does."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from partialsym.ask import Finding, Interval
from partialsym.figures.dials import share
from partialsym.report.markup import Row, count, details, name_of, paragraph, section, shared, spread, table
from partialsym.report.verdicts import Judged
from partialsym.runs.schema import describe_choice, sampled_accuracy

UNDECIDED = (0.3, 0.7)
WIDE, TALL = 180, 20  # pixels of an interval's picture
UNDECIDED_TEXT = (
    "These layers ended with a probability between .3 and .7. A deterministic pass keeps an element or drops it, so "
    "such a layer may answer otherwise than it did in training; compare the two accuracies."
)
CHOSEN_TEXT = (
    "A deterministic pass keeps the elements of P > ½. In these networks that was not what training had learned: under "
    "drawn elements they were right more often on validation images. So validation images chose which of the elements "
    "a layer keeps."
)
ACCURACY_TEXT = (
    "How often each method is right on test images: the mean over the classes with its 95 % interval, over seeds and "
    "images."
)
ACCURACY_NOTE = (
    "Test accuracy: mean ± standard deviation over seeds (n − 1), deterministic. Sampled: the group elements are drawn "
    "anew for every batch, as in training."
)


def verdict(judged: Judged, terms: Sequence[str] = ()) -> str:
    """The verdict, or in its place why there is none; then the `terms` of the comparison, a paragraph each."""
    below = [paragraph(text, "soft") for text in terms]
    if judged.verdict is None:
        return section("verdict", "There is no verdict", paragraph(judged.problem), *below)
    scale = _scale([f.difference for f in judged.verdict.findings if f.difference], zero=True)
    findings = "\n".join(_finding(finding, scale) for finding in judged.verdict.findings)
    return section(
        "verdict",
        judged.verdict.headline,
        paragraph(judged.verdict.best, "lead"),
        f'<div class="findings">\n{findings}\n</div>' if findings else "",
        *below,
        paragraph(judged.problem, "soft"),
    )


def _finding(finding: Finding, scale: tuple[float, float]) -> str:
    drawn = ""
    if finding.difference:
        mean, low, high = map(_points, finding.difference)
        text = f"{mean} points ({low} to {high})"
        drawn = f'<p class="difference">{interval(finding.difference, scale, text)} <span>{text}</span></p>'
    return (
        f'<article>\n<h3>{escape(finding.question)}</h3>\n<p class="answer">{escape(finding.answer)}</p>\n'
        f"{drawn}\n{paragraph(finding.text)}\n</article>"
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _scale(intervals: Sequence[Interval], zero: bool = False) -> tuple[float, float]:
    """Both ends of an axis that has room for all of `intervals`, and for 0."""
    ends = [end for i in intervals for end in (i.low, i.high)] + ([0.0] if zero or not intervals else [])
    room = 0.06 * (max(ends) - min(ends)) or 0.01
    return min(ends) - room, max(ends) + room


def interval(of: Interval, scale: tuple[float, float], text: str) -> str:
    """A line from low to high with a dot at the mean, and a tick at 0 where that is on the scale."""
    low, high = scale

    def x(value: float) -> str:
        return f"{4 + (WIDE - 8) * (value - low) / (high - low):.1f}"

    zero = f'<path class="zero" d="M{x(0)} 2V{TALL - 2}"/>' if low < 0 < high else ""
    return (
        f'<svg class="interval" role="img" aria-label="{escape(text)}" viewBox="0 0 {WIDE} {TALL}" width="{WIDE}" '
        f'height="{TALL}"><path class="axis" d="M0 {TALL / 2}H{WIDE}"/>{zero}'
        f'<path class="span" d="M{x(of.low)} {TALL / 2}H{x(of.high)}"/>'
        f'<circle cx="{x(of.mean)}" cy="{TALL / 2}" r="3.5"/></svg>'
    )


def accuracies(judged: Judged) -> str:
    """A row a method, the best first where the verdict knows."""
    known = list(judged.standings.values())
    scale = _scale([standing.accuracy for standing in known])
    rows: list[Row] = []
    for method in sorted(judged.methods, key=lambda m: -_mean(judged, m.name)):
        named = name_of(method.title)
        if method.title != method.name and method.name not in method.title:
            named += f' <span class="soft">{name_of(method.name)}</span>'
        row: list[str | tuple[str]] = [(named,)]
        if standing := judged.standings.get(method.name):
            mean, low, high = (f"{100 * value:.1f}" for value in standing.accuracy)
            drawn = interval(standing.accuracy, scale, f"{mean} %, from {low} to {high}")
            row += [f"{mean} ({low} to {high})", (drawn,)]
        elif known:
            row += ["–", ""]
        row += [
            spread([100 * result["accuracy"]["test"] for result in method.results]),
            spread([100 * sampled_accuracy(result) for result in method.results]),
            str(len(method.seeds)),
        ]
        rows.append(row)
    images = shared(
        count(r["images"]["test"], "image") for m in judged.methods for r in m.results if "test" in r["images"]
    )
    head = ["method", *(["balanced accuracy, %", ""] if known else []), "test accuracy, %", "sampled, %", "seeds"]
    lead = ACCURACY_TEXT if known else "How often each method is right on test images."
    return section(
        "accuracy",
        "Accuracy",
        paragraph(lead),
        table(head, rows, f"{ACCURACY_NOTE} Test: {images}." if images else ACCURACY_NOTE),
    )


def _mean(judged: Judged, name: str) -> float:
    standing = judged.standings.get(name)
    return standing.accuracy.mean if standing else -math.inf


def undecided(result: Mapping[str, Any]) -> list[str]:
    """`block1.conv1 P(m) .43` for each probability that ended between .3 and .7."""
    low, high = UNDECIDED
    return [
        f"{subset['layer']} {key} {share(p)}"
        for subset in result["subsets"]
        for key, p in subset.items()
        if key.startswith("P(") and low <= p <= high
    ]


def undecided_layers(judged: Judged) -> str:
    """The notes on elements that validation chose, and on layers that keep an element half of the time."""
    chosen = [
        f"<li>{name_of(method.title)}, seed {seed.number}: {escape(text)}</li>"
        for method in judged.methods
        for seed in method.seeds
        if (text := describe_choice(seed.result))
    ]
    items = [
        f"<li>{name_of(method.title)}, seed {seed.number}: {escape(', '.join(layers))}. Deterministic "
        f"{100 * seed.result['accuracy']['test']:.2f} %, sampled {100 * sampled_accuracy(seed.result):.2f} %.</li>"
        for method in judged.methods
        for seed in method.seeds
        if (layers := undecided(seed.result))
    ]
    return "\n".join(
        details(title, paragraph(text), f"<ul>\n{chr(10).join(listed)}\n</ul>")
        for title, text, listed in (
            ("Elements chosen by validation", CHOSEN_TEXT, chosen),
            ("Undecided layers", UNDECIDED_TEXT, items),
        )
        if listed
    )
