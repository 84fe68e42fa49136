"""`python -m fuzzing [--inputs N] [--seconds S] [TARGET …]`: make up inputs for the readers; exit status 1 at a crash.

Needs the extra `fuzz`. Without TARGET all of them, each in a process of its own. What makes one crash is left in
build/fuzzing/; `--record` writes how many inputs were tried to fuzzing/results.json.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzzing.targets import TARGETS

RESULTS = Path(__file__).parent / "results.json"
CRASHES = Path("build/fuzzing")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzzing")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seconds", type=int, default=0, help="for each target at most; 0 for no limit")
    parser.add_argument("--record", action="store_true", help="write fuzzing/results.json")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown target {sorted(unknown)[0]!r}: must be one of {', '.join(TARGETS)}")
    rows = {name: _run(name, options.inputs, options.seconds) for name in options.targets or TARGETS}
    if options.record:
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        merged = {name: row for name, row in (known | rows).items() if name in TARGETS}
        RESULTS.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row["crashed"] for row in rows.values()) else 0


def _run(name: str, inputs: int, seconds: int) -> dict[str, object]:
    CRASHES.mkdir(parents=True, exist_ok=True)
    limits = [
        "-seed=1",
        f"-runs={inputs}",
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=3000",
        "-max_len=8192",
    ]
    with tempfile.TemporaryDirectory() as corpus:
        for i, seed in enumerate(TARGETS[name].seeds()):
            (Path(corpus) / str(i)).write_bytes(seed)
        command = [sys.executable, "-m", "fuzzing.one", name, *limits, f"-artifact_prefix={CRASHES}/{name}-", corpus]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    found = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    if done.returncode or not found:
        sys.stdout.write(done.stderr[-3000:])
    row = {
        "inputs": int(found[1]) if found else 0,
        "seconds": int(found[2]) if found else 0,
        "branches": max(map(int, re.findall(r" cov: (\d+)", done.stderr)), default=0),
        "crashed": done.returncode != 0,
    }
    sys.stdout.write(f"{name}: {json.dumps(row)}\n")
    sys.stdout.flush()
    return row


if __name__ == "__main__":
    sys.exit(main())
