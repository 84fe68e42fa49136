"""Finished runs with made-up numbers, how they behave included, and what a page holds."""

import base64
import json
import struct
import zlib
from html.parser import HTMLParser

from fake_results import LAYERS, history, result

from partialsym.runs.run import Run
from partialsym.training.behaviour import FORMAT

ANGLES = [float(a) for a in range(0, 360, 15)]
TURNS = [0.0, 45.0, 90.0, 180.0]
BREAK = "</script><img src=x onerror=alert(1)>"
HOSTILE = (BREAK, "\"'`&amp;$x ${y}", "\u202egnp.exe\u2066", "a\u2028b\u2029c\x00\x0b", "猫\n犬", "]]><!--", "=1+1")


def picture(side=4):
    """A grey PNG that is bright in one corner."""
    rows = b"".join(b"\0" + bytes(255 if (x, y) == (0, 0) else 60 for x in range(side)) for y in range(side))
    chunks = (
        (b"IHDR", struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    made = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + made).decode()


def likely(true, k, step, count, shift):
    """Probability of class k, the largest for the true one upright."""
    own = 0.8 - 0.02 * step + shift
    return own if k == true else (1 - own) * 2 * (k + 1) / (count * (count + 1) - 2 * (true + 1))


def behaved(classes=("cat", "dog"), *, right=0.9, shift=0.0, of=100):
    """What behaviour.json holds; images of every class, `right` of their answers right."""
    count = len(classes)
    labels = [i % count for i in range(of)]
    wrong = round(of * (1 - right))
    curves = {
        kind: [
            [[likely(t, k, s + 5 * m, count, shift) for s in range(len(ANGLES))] for k in range(count)]
            for t in range(count)
        ]
        for m, kind in enumerate(("mean", "mirrored"))
    }
    part = {"interpolation": 0.125, "elements": 0.25, "partiality": None, "monte_carlo": None, "control": 0.0625}
    return {
        "format": FORMAT,
        "classes": list(classes),
        "multiply_adds": 1_500_000,
        "image_seconds": 1e-3,
        "images": {"answered": of, "turned": 6 * count, "compared": 3},
        "answers": {
            "labels": labels,
            "predictions": [(label + (i < wrong)) % count for i, label in enumerate(labels)],
        },
        "responses": {"angles": ANGLES, "classes": list(range(count)), "images": [6] * count, **curves},
        "unchanged": {
            "angles": ANGLES,
            "share": [1 - i / 100 for i in range(len(ANGLES))],
            "mirrored": [0.5 - i / 100 for i in range(len(ANGLES))],
            "classes": list(range(count)),
            "by_class": [[max(0.0, 1 - i / (10 + k)) for i in range(len(ANGLES))] for k in range(count)],
        },
        "changed": [
            {"label": 0, "png": picture(), "angle": 315.0, "mirrored": False, "answer": 1},
            {"label": 1, "png": picture(), "angle": 0.0, "mirrored": True, "answer": 0},
        ],
        "preserved": {"labels": [0, 1, 1], "ranges": [30.0, 60.0 + 100 * shift, 120.0]},
        "errors": [
            {"layer": layer, "angle": a, "mirrored": m, "total": (1 + i + 4 * m) * a / 1000, **part}
            for m in (False, True)
            for a in TURNS
            for i, layer in enumerate((*LAYERS, "output"))
        ],
        "examples": [{"label": k, "png": picture()} for k in range(min(10, count))],
    }


def write_run(root, content, behaviour=None):
    """A finished run without a model."""
    run = Run(root / f"run{sum(1 for _ in root.glob('run*')) if root.is_dir() else 0}")
    run.folder.mkdir(parents=True)
    run.write_history(history())
    (run.folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    if behaviour is not None:
        (run.folder / "behaviour.json").write_text(json.dumps(behaviour), encoding="utf-8")
    return run


def write_hostile(root, text=BREAK, names=HOSTILE):
    """Two methods with `text` wherever a run holds one."""
    runs = []
    for epochs, name in ((98, text), (99, f"\u202e={text}")):
        content = result(run="a")
        content["config"]["name"] = name
        content["config"]["training"]["epochs"] = epochs
        content["config"]["data"]["name"] = content["data"] = f"{text}data"
        content["machine"]["gpu"] = content["versions"]["torch"] = content["git"]["commit"] = text
        for subset in content["subsets"]:
            subset["layer"] += text
        content["components"] = {"by_probability": 0.5, "drawn": 0.9, "chosen": 0.9, "changed": {f"last {text}": False}}
        runs.append(write_run(root, content, behaved(names)))
    return runs


class Page(HTMLParser):
    """Checks nesting and collects what a page loads, says and holds as data."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.loads, self.text, self.raw, self.policy = [], [], [], "", {}, ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.data = json.loads(self.raw["script application/json"])

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.loads += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        assert not [key for key, _ in attrs if key.startswith("on") or key == "style"]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)
            self.kind = f"{tag} {given.get('type', '')}".strip()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.raw[self.kind] = self.raw.get(self.kind, "") + data
        else:
            self.text += data


def read(path):
    return Page(path.read_text(encoding="utf-8"))
