"""The page: one file that loads nothing and runs only its own script."""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from partialsym.ask.two_sample import Visibility
from partialsym.report.answers import answers
from partialsym.report.collect import Method
from partialsym.report.payload import payload
from partialsym.report.provenance import costs, provenance
from partialsym.report.responses import old_responses, responses
from partialsym.report.subsets import subsets, training
from partialsym.report.summary import accuracies, allowed, findings, images
from partialsym.report.text import count
from partialsym.report.verdicts import Judged

SCRIPTS = ("chart.js", "views.js", "page.js")
TEMPLATES = Environment(
    loader=PackageLoader("partialsym.report"),
    autoescape=True,  # names of runs, classes and files are shown as text
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # do not sort keys


def page(
    judged: Judged,
    files: Mapping[str, str],
    *,
    asked: str | None = None,
    seen: Sequence[Visibility] = (),
    command: str = "",
    single: bool = True,
) -> str:
    """The HTML of a report.

    Args:
        judged: methods and the verdict on them.
        files: name → content of the CSV files; a `single` page contains them, other pages link to them.
        asked: the question in plain words, then a blank line and the conditions, shown below the verdict.
        seen: the results of the two-sample tests on the images.
        command: the command that carries out the recommendation.
    """
    methods = judged.methods
    style, script = _static("page.css"), "\n".join(map(_static, SCRIPTS))
    lead, *terms = (asked or _lead(methods)).split("\n\n")
    return TEMPLATES.get_template("page.html").render(
        title=_title(methods, asked),
        lead=lead,
        terms=terms,
        judged=judged,
        findings=findings(judged),
        allowed=allowed(judged, seen),
        command=command,
        images=images(seen),
        accuracies=accuracies(judged),
        answers=answers(judged.shown),
        responses=responses(methods),
        old_responses=old_responses(methods),
        subsets=subsets(judged),
        training=training(methods),
        costs=costs(methods),
        provenance=provenance(methods),
        files=list(files),
        single=single,
        data={**payload(methods), "files": dict(files) if single else {}},
        policy=_policy(style, script),
        style=style,
        script=script,
    )


def _static(name: str) -> str:
    return (importlib.resources.files(__package__) / "static" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content security policy that allows only inline images, this style and this script."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    rules = "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; "
    return rules.format(*hashes) + "base-uri 'none'; form-action 'none'"


def _title(methods: Sequence[Method], asked: str | None) -> str:
    names = list(dict.fromkeys(method.data for method in methods))
    if len(names) > 1:
        return "Partial equivariance: report"
    return f"Which symmetries does {names[0]} have?" if asked else f"Partial equivariance on {names[0]}"


def _lead(methods: Sequence[Method]) -> str:
    runs = sum(len(method.seeds) for method in methods)
    names = ", ".join(dict.fromkeys(method.data for method in methods))
    return f"{count(runs, 'run')} of {count(len(methods), 'method')}, trained and tested on images of {names}."
