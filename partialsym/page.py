"""The HTML of a report: self-contained, without scripts, every text escaped."""

import base64
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template
from typing import Any

import yaml
from matplotlib.figure import Figure

from partialsym.figures.dials import share

UNDECIDED = (0.3, 0.7)
NUMBER = ' class="n"'
TITLES = {
    "subsets": (
        "What the layers keep",
        "A row a method, a column a layer: the part of the group each layer learned to keep.",
    ),
    "responses": (
        "Answers to turned images",
        "How often the model calls an original an original, while it is turned through a circle; a copy is an original "
        "turned by 180°. A model equivariant to the whole circle answers alike on opposite sides.",
    ),
    "training": ("Training", "Mean over the seeds, with the range they span."),
}
# numbers are the columns from "parameters" to "seconds"
HEAD = (
    "run",
    "data",
    "group",
    "elements",
    "equivariance",
    "parameters",
    "epochs",
    "seeds",
    "test accuracy, %",
    "sampled, %",
    "seconds",
    "machine",
)
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #22282f; --soft: #5a646e; --line: #dfe3e7; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a3adb7; --line: #353c44; --paper: #15191d; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1180px;
  margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .4rem 0; } .soft, caption { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; }
th, td { padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; } tbody th { overflow-wrap: anywhere; min-width: 8rem; }
.n { text-align: right; white-space: nowrap; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; margin: .75rem 0; }
details { border-bottom: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: .8125rem; line-height: 1.45; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="soft">$lead</p>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed alone."""

    name: str
    results: list[dict[str, Any]] = field(default_factory=list)
    histories: list[list[dict[str, float]]] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [result["config"]["seed"] for result in self.results]


def page(methods: Sequence[Method], figures: Mapping[str, Figure]) -> str:
    """The page of these methods and figures (names as in TITLES)."""
    body = [_summary(methods), _undecided(methods)]
    for name, figure in figures.items():
        title, text = TITLES[name]
        body += [f"<h2>{title}</h2>", f"<p>{text}</p>", _image(figure, title)]
        if name == "subsets":
            body.append(_subsets(methods))
    body += ["<h2>Where the numbers come from</h2>", *(_provenance(m, r) for m in methods for r in m.results)]
    runs = sum(len(method.results) for method in methods)
    lead = f"{_count(runs, 'run')} of {_count(len(methods), 'method')}. Accuracies are of the test split, in per cent."
    return PAGE.substitute(title="Partial equivariance: report", lead=lead, body="\n".join(filter(None, body)))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± std` (n − 1 in the denominator); the mean alone where there is one value."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def _summary(methods: Sequence[Method]) -> str:
    rows = []
    for method in methods:
        first = method.results[0]
        model = first["config"]["model"]
        kept = "translations" if model["group"] == "T2" else "partial" if model["partial"] else "full"
        texts = (first["config"]["data"]["name"], model["group"], model["samples"], kept)
        numbers = (
            _shared(f"{result['parameters']:,}" for result in method.results),
            _shared(str(result["epochs"]) for result in method.results),
            str(len(method.results)),
            spread([100 * result["accuracy"]["test"] for result in method.results]),
            spread([100 * sampled(result) for result in method.results]),
            spread([result["seconds"] for result in method.results], 0),
        )
        machine = _shared(_machine(result["machine"]) for result in method.results)
        cells = [_cell(text) for text in texts] + [_cell(n, number=True) for n in numbers] + [_cell(machine)]
        rows.append(f'<tr><th scope="row">{escape(method.name)}</th>{"".join(cells)}</tr>')
    head = "".join(_head(text, number=5 <= i < 11) for i, text in enumerate(HEAD))
    caption = (
        "Mean ± standard deviation over seeds (n − 1), the mean alone for one seed. Test accuracy is deterministic; "
        "the sampled one draws the group elements anew for every batch, as in training."
    )
    return _table(head, rows, caption)


def sampled(result: Mapping[str, Any]) -> float:
    """Mean sampled accuracy of a run over its draws."""
    return statistics.mean(result["accuracy"]["test_sampled"])


def undecided(result: Mapping[str, Any]) -> list[str]:
    """`block1.conv1 P(m) .43` for each probability that ended between .3 and .7."""
    low, high = UNDECIDED
    return [
        f"{subset['layer']} {key} {share(p)}"
        for subset in result["subsets"]
        for key, p in subset.items()
        if key.startswith("P(") and low <= p <= high
    ]


def _undecided(methods: Sequence[Method]) -> str:
    items = [
        f"<li>{escape(method.name)}, seed {seed}: {escape(', '.join(layers))}. Deterministic "
        f"{100 * result['accuracy']['test']:.2f} %, sampled {100 * sampled(result):.2f} %.</li>"
        for method in methods
        for seed, result in zip(method.seeds, method.results, strict=True)
        if (layers := undecided(result))
    ]
    if not items:
        return ""
    text = (
        "These layers ended with a probability between .3 and .7. A deterministic pass keeps an element where its P is "
        "above ½, so such a layer may answer otherwise than it did in training; compare the two accuracies."
    )
    return f"<h2>Undecided layers</h2>\n<p>{text}</p>\n<ul>\n{chr(10).join(items)}\n</ul>"


def _subsets(methods: Sequence[Method]) -> str:
    """Degrees and probabilities, a row a number and a column a layer."""
    layers = list(dict.fromkeys(s["layer"] for m in methods for r in m.results for s in r["subsets"]))
    rows = []
    for method in methods:
        read = [{s["layer"]: s for s in result["subsets"]} for result in method.results]
        for key in dict.fromkeys(k for r in read for s in r.values() for k in s if k not in ("layer", "group")):
            label, digits = ("±θ, degrees", 1) if key == "theta_deg" else (key, 2)
            found = [[r[layer][key] for r in read if key in r.get(layer, {})] for layer in layers]
            cells = "".join(_cell(spread(values, digits) if values else "–", number=True) for values in found)
            rows.append(f'<tr><th scope="row">{escape(method.name)}</th>{_cell(label)}{cells}</tr>')
    if not rows:
        return ""
    head = _head("run") + _head("kept") + "".join(_head(layer, number=True) for layer in layers)
    return _table(head, rows, "Mean ± standard deviation over seeds; ±180 is the whole circle.")


def _provenance(method: Method, result: Mapping[str, Any]) -> str:
    git = result.get("git") or {}
    commit = (git.get("commit") or "unknown") + (", with changes not committed" if git.get("dirty") else "")
    lines = {
        "finished": result["finished"],
        "commit": commit,
        "precision of training": result["precision"],
        "versions": ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version),
        "machine": f"{_machine(result['machine'])}, {result['machine'].get('system', '')}".strip(", "),
        "images": ", ".join(f"{count:,} {split}" for split, count in result["images"].items()),
    }
    if "copy_gap" in result:
        lines["largest difference of logits between an original and its copy"] = f"{result['copy_gap']:.3g}"
    rows = [f'<tr><th scope="row">{escape(key)}</th>{_cell(value)}</tr>' for key, value in lines.items()]
    config = yaml.safe_dump(result["config"], sort_keys=False, allow_unicode=True)
    summary = f"{escape(method.name)}, seed {result['config']['seed']}"
    table = f'<div class="wide"><table><tbody>{"".join(rows)}</tbody></table></div>'
    return f"<details>\n<summary>{summary}</summary>\n{table}\n<pre>{escape(config)}</pre>\n</details>"


def _machine(machine: Mapping[str, Any]) -> str:
    return machine.get("gpu") or f"{machine.get('processor')}, {_count(machine.get('threads') or 1, 'thread')}"


def _image(figure: Figure, alt: str) -> str:
    # As an image, not inline: the ids of two SVGs in one document would clash.
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    width = round(figure.get_figwidth() * 96)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(alt)}" width="{width}" src="data:image/svg+xml;base64,{data}">'


def _table(head: str, rows: Sequence[str], caption: str) -> str:
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _cell(text: object, *, number: bool = False) -> str:
    return f"<td{NUMBER if number else ''}>{escape(str(text))}</td>"


def _head(text: str, *, number: bool = False) -> str:
    return f'<th scope="col"{NUMBER if number else ""}>{escape(text)}</th>'


def _shared(texts: Iterable[str]) -> str:
    """What the seeds have in common, or all they have."""
    return "; ".join(dict.fromkeys(texts))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
