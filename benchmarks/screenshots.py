"""Pictures of a report for the documentation: `python -m benchmarks.screenshots PAGE.html --out docs`.

Takes a page that `partialsym report` or `partialsym ask` wrote; needs Debian's chromium.
"""

import argparse
import io
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

VIEWS: dict[str, dict[str, Any]] = {
    "report": {"viewport": {"width": 1200, "height": 1640}},
    "report-phone": {"viewport": {"width": 390, "height": 1560}, "device_scale_factor": 1.5, "is_mobile": True},
}
LARGEST = 300_000  # bytes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--turn", type=int, default=3, help="steps that the image is turned by")
    options = parser.parse_args(argv)
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("there is no chromium: apt install chromium")
    with sync_playwright() as playwright:
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=args)
        for name, view in VIEWS.items():
            page = browser.new_page(**view)
            page.goto(options.page.resolve().as_uri())
            target = options.out / f"{name}.png"
            target.write_bytes(_shoot(page, options.turn))
            sys.stdout.write(f"{target}: {target.stat().st_size / 1e3:.0f} kB\n")
        browser.close()
    return 0


def _shoot(page: Page, turn: int) -> bytes:
    """The top of the page with its first image turned, in at most 256 colours."""
    cursor = page.locator("#responses input[type=range]")
    if cursor.count():
        cursor.fill(str(int(cursor.input_value()) + turn))
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(500)  # until the image has turned
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    if len(file.getvalue()) > LARGEST:
        raise ValueError(f"the picture has {len(file.getvalue()):,} bytes: must be at most {LARGEST:,}.")
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
