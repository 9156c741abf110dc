"""The page in a real browser, as people use it: by mouse, by keyboard, on a phone, several at once."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit.predict.predictor import Predictor
from tests.conftest import REAL
from tests.data.pixels.test_dicom import dicom_of
from tests.serve.test_app import png, zipped

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium"),
]
RSNA = REAL / "dicom_real_rsna_style.dcm"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, served):
    """A function: a new visitor's page, open; at the end no page has asked anybody else, or had an error of its own."""
    contexts, asked, errors = [], [], []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "violates" in line.text else None)
        page.on("filechooser", lambda _: None)  # no dialog from here on: later may be too late
        page.goto(served.address)
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert asked and all(address.startswith((served.address, "data:", "blob:")) for address in asked)


def upload(page, *files):
    page.set_input_files("#files", list(files))


def answered(page, name):
    """The words about an image, when its picture, and what lies over it, are there."""
    page.locator("#one-title", has_text=name).wait_for()
    page.wait_for_selector("#opacity-control:not([hidden])")
    return page.inner_text("#answer")


def file(name, data):
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def pixels(page):
    """What the canvas shows, as bytes of a PNG."""
    return page.evaluate("document.querySelector('#stage canvas').toDataURL()")


def set_slider(page, name, value):
    page.evaluate(
        "([name, value]) => { const s = document.getElementById(name); s.value = value;"
        " s.dispatchEvent(new Event('input', { bubbles: true })); }",
        [name, value],
    )


def serious(page):
    """What axe-core finds that keeps people from using the page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def table_of(page):
    with page.expect_download() as download:
        page.click("#csv")
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


@pytest.mark.skipif(not RSNA.exists(), reason=f"no real images in {REAL} (KIT_REAL_DATA)")
def test_a_dicom_of_the_rsna_challenge(visit, run, tmp_path):
    page = visit()
    upload(page, RSNA)
    words = answered(page, RSNA.name)
    (p,), (decision,) = (Predictor.open(run.directory).predict(RSNA)[column] for column in ("p_tumour", "decision"))
    assert page.inner_text("#decision") == decision and f"{100 * p:.0f}\u00a0%" in words
    assert "training images scored like this one" in words and "the cut" in words
    before = pixels(page)
    set_slider(page, "width", 60)
    narrow = pixels(page)
    set_slider(page, "level", 40)
    assert len({before, narrow, pixels(page)}) == 3
    assert page.inner_text("output[for=level]") == "40"
    page.click("#reset")
    assert page.inner_text("output[for=width]") != "60"
    for share in ("0", "0.75"):
        set_slider(page, "opacity", float(share) * 100)
        assert page.evaluate("getComputedStyle(document.getElementById('map')).opacity") == share
    upload(page, file(RSNA.name, RSNA.read_bytes()), file("other.png", png(1)))
    page.wait_for_selector("#rows tr:nth-child(2)")
    page.locator("#status", has_text="2 files, none").wait_for()
    rows = table_of(page)
    assert rows[0] == ["id", "p_tumour", "decision"] and rows[1][0] == RSNA.name
    assert float(rows[1][1]) == pytest.approx(p, abs=1e-5) and rows[1][2] == decision


def test_the_window_is_that_of_the_file(visit):
    """Values of 12 bits through a window: black below, white above, as pydicom's rule has it."""
    ramp = np.tile(np.arange(0, 4096, 16, np.uint16), (64, 1))
    page = visit()
    upload(
        page, file("ramp.dcm", dicom_of(ramp, WindowCenter=1024, WindowWidth=512, RescaleSlope=1, RescaleIntercept=0))
    )
    answered(page, "ramp.dcm")
    page.wait_for_selector(".window:not([hidden])")
    assert [page.input_value(f"#{name}") for name in ("level", "width")] == ["1024", "512"]
    set_slider(page, "level", 2048)
    set_slider(page, "width", 1024)
    shown = page.evaluate(
        "() => { const c = document.querySelector('#stage canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, 1).data; return [...d].filter((_, n) => n % 4 === 0); }"
    )
    expected = np.clip((ramp[0] - (2048 - 512.0)) / 1024, 0, 1) * 255
    assert np.abs(np.array(shown) - expected).max() <= 1


def test_garbage_gets_a_sentence(visit):
    page = visit()
    upload(page, file("scan.dcm", b"\0" * 500 + b"<script>alert(1)</script>"))
    page.wait_for_selector("#status.error")
    assert "no image that can be read" in page.inner_text("#status") and not page.is_visible("#one")


def test_five_files_at_once_and_names_that_are_no_html(visit):
    evil = "<img src=x onerror=alert(1)>.png"
    page = visit()
    files = [file(f"{n}.png", png(n)) for n in range(3)] + [file(evil, png(3)), file("bad.tif", b"II*\0garbage")]
    upload(page, *files)
    page.locator("#status", has_text="5 files, 1 ").wait_for()
    assert page.locator("#rows tr").count() == 5 and evil in page.inner_text("#rows")
    assert page.locator("#rows .failed").count() == 1
    answered(page, "0.png")
    page.get_by_role("button", name="2.png").click()
    answered(page, "2.png")
    assert [row[0] for row in table_of(page)] == ["id", "0.png", "1.png", "2.png", evil]
    assert serious(page) == []


def test_a_zip_and_a_folder(visit, tmp_path):
    page = visit()
    upload(page, file("all.zip", zipped({"a.png": png(0), "b.dcm": dicom_of(np.zeros((9, 9), np.uint8))})))
    page.locator("#status", has_text="2 files").wait_for()
    page.get_by_role("button", name="all.zip: b.dcm").click()
    answered(page, "all.zip: b.dcm")
    assert page.inner_text("#caption").startswith("9 × 9 pixels")
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png", ".hidden"):
        (tmp_path / "photos" / name).write_bytes(png(1))
    page.set_input_files("#folder", tmp_path / "photos")
    page.get_by_role("button", name="photos/b.png").wait_for()
    assert page.locator("#rows tr").count() == 2


def test_nothing_of_one_image_is_shown_with_another(visit):
    page, held = visit(), []
    upload(page, file("a.png", png(0)), file("b.png", png(1, 56)))
    answered(page, "a.png")
    page.route("**/api/map*", lambda route: route.continue_() if held else held.append(route))
    page.get_by_role("button", name="b.png").click()
    assert not page.is_visible("#opacity-control") and "40" not in page.inner_text("#caption")
    page.locator("#caption", has_text="56 × 56 pixels").wait_for()
    assert not page.is_visible("#map")
    page.get_by_role("button", name="a.png").click()
    answered(page, "a.png")
    assert page.inner_text("#caption").startswith("40 × 40 pixels. The map")
    with page.expect_response("**/api/map*"):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert page.inner_text("#caption").startswith("40 × 40 pixels. The map")


def test_two_visitors_see_their_own(visit):
    one, other = visit(), visit()
    upload(one, file("one.png", png(1)))
    upload(other, file("other.png", png(2, 56)))
    answered(one, "one.png"), answered(other, "other.png")
    assert one.inner_text("#caption").startswith("40 × 40") and other.inner_text("#caption").startswith("56 × 56")
    assert "one.png" not in other.content() and "other.png" not in one.content()


def test_a_phone(visit, tmp_path):
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True)
    page.locator("#examples button").first.tap()
    answered(page, "Example 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert serious(page) == []
    upload(page, *(file(f"a_name_that_is_rather_long_for_a_phone_{n}.png", png(n)) for n in range(2)))
    page.locator("#status", has_text="2 files").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    picture = Image.open(io.BytesIO(page.screenshot()))
    assert picture.size == (PHONE["width"], PHONE["height"]) and len(picture.getcolors(2**24)) > 100


def test_by_keyboard_alone(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(file("ramp.dcm", dicom_of(np.tile(np.arange(256, dtype=np.uint8), (64, 1)))))
    answered(page, "ramp.dcm")
    assert page.evaluate("document.activeElement.id") == "one-title"  # reading goes on there
    page.wait_for_selector(".window:not([hidden])")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        before = pixels(page)
        if reached[-1] == "width":
            for _ in range(5):
                page.keyboard.press("ArrowLeft")
            assert pixels(page) != before
    assert reached[:4] == ["opacity", "level", "width", "reset"]
    page.keyboard.press("Enter")
    assert page.locator("#card-part").get_attribute("open") is not None
