"""The page: one file, which loads nothing and runs nothing but its own script."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from partialsym.report.collect import Method
from partialsym.report.markup import count, fill, paragraph, resource, section
from partialsym.report.payload import payload, safe_json
from partialsym.report.provenance import costs, provenance
from partialsym.report.responses import behaving
from partialsym.report.subsets import old_responses, subsets, training
from partialsym.report.summary import accuracies, verdict
from partialsym.report.verdicts import Judged

SCRIPTS = ("chart.js", "views.js", "page.js")


def page(judged: Judged, files: Mapping[str, str], *, asked: str | None = None, single: bool = True) -> str:
    """The HTML of a report.

    Args:
        judged: methods and the verdict on them.
        files: name → content of the CSV files; a `single` page holds them, another links to them.
        asked: what was asked, in a reader's words, and after a blank line on which terms, below the verdict.
    """
    style, script = resource("page.css"), "\n".join(map(resource, SCRIPTS))
    data = payload(judged.methods)
    lead, *terms = (asked or _lead(judged.methods)).split("\n\n")
    body = (
        verdict(judged, terms),
        accuracies(judged),
        behaving(judged.methods),
        old_responses(judged.methods),
        subsets(judged),
        training(judged.methods),
        costs(judged.methods),
        provenance(judged.methods),
        _downloads(files, single),
    )
    return fill(
        "page.html",
        title=escape(_title(judged.methods, asked)),
        asked=paragraph(lead, "asked"),
        policy=_policy(style, script),
        style=style,
        body="\n".join(filter(None, body)),
        data=safe_json({**data, "files": dict(files) if single else {}}),
        script=script,
    )


def _policy(style: str, script: str) -> str:
    """A content security policy: pictures of the page's own, and this style and script alone."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    rules = "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; "
    return escape(rules.format(*hashes) + "base-uri 'none'; form-action 'none'", quote=False)


def _title(methods: Sequence[Method], asked: str | None) -> str:
    names = list(dict.fromkeys(method.data for method in methods))
    if len(names) > 1:
        return "Partial equivariance: report"
    return f"Which symmetries does {names[0]} have?" if asked else f"Partial equivariance on {names[0]}"


def _lead(methods: Sequence[Method]) -> str:
    runs = sum(len(method.seeds) for method in methods)
    names = ", ".join(dict.fromkeys(method.data for method in methods))
    return f"{count(runs, 'run')} of {count(len(methods), 'method')}, trained and tested on images of {names}."


def _downloads(files: Mapping[str, str], single: bool) -> str:
    """Links to the CSV files; in a single page the script makes them."""
    lead = paragraph("Every number above, a row a measurement: for a spreadsheet, or for a program.")
    links = "\n".join(
        f'<li><button type="button" data-file="{escape(name)}" hidden>{escape(name)}</button></li>'
        if single
        else f'<li><a href="{escape(name)}" download>{escape(name)}</a></li>'
        for name in files
    )
    without = (
        paragraph("They need JavaScript; the tables above hold their main numbers.", "soft without") if single else ""
    )
    return section("downloads", "Downloads", lead, f'<ul class="files">\n{links}\n</ul>', without)
