"""The page in a browser: its controls work by keyboard, its images turn, it can be read in every scheme and width."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_results import result
from helpers import few
from PIL import Image
from reports import ANGLES, BREAK, HOSTILE, behaved, write_hostile, write_run

from partialsym.report import report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
]
RANGE = "#responses input[type=range]"
CONTRAST = (Path(__file__).parents[1] / "support" / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args, timeout=600_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    runs = [
        write_run(root, result(name, seed=seed, run=name), behaved(("cat", "dog", "owl"), shift=seed / 100))
        for name in ("T2", "SE2")
        for seed in range(3)
    ]
    return report(runs, root / "page.html")


@pytest.fixture
def show(browser):
    """Opens a page; when the test ends, it must have loaded, logged and asked for nothing."""
    contexts, said = [], []

    def open_page(path, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(600_000)  # ms, which end a hang
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or said.append(request.url)
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def values(page, view="responses"):
    rows = page.locator(f"#{view} .readout tr").all()
    return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


def expected(label, step, key="mean", seeds=(0, 1, 2), classes=("cat", "dog", "owl")):
    behaviours = [behaved(classes, shift=seed / 100)["responses"][key][label] for seed in seeds]
    means = {name: 100 * np.mean([b[k][step] for b in behaviours]) for k, name in enumerate(classes)}
    return {name: f"{mean:.0f} %" for name, mean in means.items()}


def test_the_keyboard_alone_chooses_method_seed_class_and_angle(show, path):
    page = show(path)
    reached = []
    while len(reached) < 9:
        page.keyboard.press("Tab")
        element = "document.activeElement.name || document.activeElement.type || document.activeElement.tagName"
        reached.append(page.evaluate(element))
        if reached[-1] == "method":
            note = page.locator("#responses .note").inner_text()
            assert note.startswith("Mean over 6 test images of class \u2068cat\u2069; the line is the mean of ")
            page.keyboard.press("ArrowDown")
        if reached[-1] == "seed":
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowDown")
        if reached[-1] == "label":
            page.keyboard.press("ArrowDown")
        if reached[-1] == "range":
            break
    assert reached == ["method", "seed", "label", "mirrored", "range"]
    drawn = page.locator("#responses .chart svg").get_attribute("aria-label")
    assert drawn.endswith("images of class dog, Partial SE(2) G-CNN")
    assert values(page) == expected(1, 0, seeds=(1,))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#responses .angle").inner_text() == "turned 30°"
    assert values(page) == expected(1, 2, seeds=(1,))
    page.keyboard.press("Home")
    assert values(page) == expected(1, ANGLES.index(180), seeds=(1,))
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert values(page) == expected(1, ANGLES.index(180), "mirrored", seeds=(1,))
    assert page.locator(RANGE).get_attribute("aria-valuetext").startswith("mirrored, turned −180°: dog ")


@pytest.mark.long
def test_means_come_with_the_range_of_the_seeds(show, path):
    page = show(path)
    assert values(page)["cat"] == "81 % (80 to 82)"
    assert page.locator("#responses .band").count() == 3
    assert page.locator("#unchanged .line.thin").count() == 6
    assert set(values(page, "unchanged")) == {"plain CNN", "Partial SE(2) G-CNN"}
    page.locator("#errors input[type=range]").press("End")
    assert values(page, "errors")["output"] == "0.72"
    page.locator("#errors [name=layer]").select_option("last")
    assert values(page, "errors") == {"last": "0.54", "pixel grid": "0.13", "picture there and back": "0.06"}


def test_a_pointer_moves_the_cursor(show, path):
    page = show(path)
    page.locator("#responses").scroll_into_view_if_needed()
    box = page.locator("#responses .chart svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 60)
    assert page.locator("#responses .angle").inner_text() == "turned 180°"


@pytest.mark.parametrize(
    ("turn", "mirrored", "corner"),
    few(
        [
            (0, False, "top left"),
            (90, False, "bottom left"),
            (-90, False, "top right"),
            (0, True, "top right"),
            (90, True, "top left"),
        ],
        (90, False, "bottom left"),
        (90, True, "top left"),
    ),
)
def test_the_image_turns_as_the_images_did(show, path, turn, mirrored, corner):
    page = show(path, reduced_motion="reduce")
    page.locator("#responses [name=mirrored]").set_checked(mirrored)
    page.locator(RANGE).fill(str(12 + turn // 15))
    stage = Image.open(io.BytesIO(page.locator("#responses .stage").screenshot())).convert("L")
    low, high = round(0.12 * stage.width), round(0.88 * stage.width)
    corners = {
        f"{v} {h}": stage.getpixel((x, y))
        for v, y in (("top", low), ("bottom", high))
        for h, x in (("left", low), ("right", high))
    }
    assert {name for name, value in corners.items() if value > 150} == {corner}


NAMES = {"plain": ("cat", "dog"), "hostile": HOSTILE, "long": ["W" * 120, "mmm " * 40]}


@pytest.mark.parametrize("names", few(NAMES, "hostile", "long"))
def test_a_phone_scrolls_down_alone(show, tmp_path, names):
    runs = [write_run(tmp_path, result(seed=seed, run="x" * 100), behaved(NAMES[names])) for seed in range(2)]
    page = show(report(runs, tmp_path / "page.html"), viewport={"width": 390, "height": 844}, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(show, path, scheme):
    page = show(path, color_scheme=scheme)
    found = page.evaluate(CONTRAST)
    assert len(found) > 200
    assert min(found) >= 4.5
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.long
def test_figures_take_the_scheme_of_the_page(show, path):
    def brightness(scheme):
        page = show(path, color_scheme=scheme)
        dial = page.locator("#training img").first
        return np.asarray(Image.open(io.BytesIO(dial.screenshot())).convert("L")).mean()

    assert brightness("light") > 200
    assert brightness("dark") < 60


@pytest.mark.long
def test_print_is_light_and_has_no_controls(show, path):
    page = show(path, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    assert min(page.evaluate(CONTRAST)) >= 4.5
    assert not page.locator(RANGE).is_visible()
    assert page.locator("#responses .chart svg").is_visible()
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_hostile_names_are_shown_as_they_are(show, tmp_path):
    page = show(report(write_hostile(tmp_path), tmp_path / "page.html", asked=BREAK))
    shown = page.locator("#responses [name=label] option").all_text_contents()
    assert shown == list(HOSTILE)
    assert page.locator("header").inner_text().count(BREAK) == 2
    for label in range(len(HOSTILE)):
        page.locator("#responses [name=label]").select_option(str(label))
    assert page.locator("img[src=x]").count() == 0


def test_without_script_there_are_verdict_tables_and_figures(show, path):
    page = show(path, java_script_enabled=False)
    assert page.locator("#verdict h2").is_visible()
    assert page.locator("#accuracy tbody tr").count() == 2
    assert page.locator("#subsets img").count() == 3
    assert not page.locator("#responses .view").is_visible()
    assert page.get_by_text("The curves need JavaScript").first.is_visible()


@pytest.mark.long
def test_downloads_are_the_tables(show, path, tmp_path):
    page = show(path)
    folder = report([write_run(tmp_path, result("SE2"), behaved())], tmp_path / "out").parent
    names = page.locator("#downloads button").all_text_contents()
    assert sorted(names) == sorted(file.name for file in folder.glob("*.csv"))
    with page.expect_download() as download:
        page.get_by_role("button", name="errors.csv").press("Enter")
    text = download.value.path().read_text(encoding="utf-8")
    assert text == page.evaluate("JSON.parse(document.getElementById('data').textContent).files['errors.csv']")
    assert text.startswith("method,seed,layer")
