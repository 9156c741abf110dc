"""A page in a real browser: it asks for nothing from outside, runs nothing, and fits a phone."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from kit.report import page, pictures, style

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium"),
]
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
QUIET = (*OPTIONS, "--no-first-run", "--disable-component-update", "--disable-quic", "--disable-default-apps")
EVIL = '"><img src="http://example.invalid/a.png" onerror="document.title=1"><script src="http://example.invalid/b">'


def _draw(axes):
    axes.plot([0, 1], [1, 0], label=EVIL[:40])
    axes.legend()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page whose texts would like to be more than texts."""
    picture = page.Picture(pictures.jpeg(np.zeros((8, 8), np.uint8)), EVIL, EVIL, EVIL, "bad")
    wide = page.Table([EVIL, *map(str, range(30))], [[EVIL, *map(str, range(30))]], EVIL)
    blocks = [page.Text(EVIL), wide, page.Figure("curve", style.drawn(_draw), EVIL, EVIL), page.Gallery([picture] * 4)]
    path = tmp_path_factory.mktemp("browser") / "page.html"
    page.write(page.Page(EVIL, EVIL, [page.Section(EVIL, "all", blocks)]), path)
    return path


def _run(tmp_path, *arguments):
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def _asked(tmp_path, address):
    """The addresses that Chromium asks the network for while it shows a page, and the page as it ends up."""
    log = tmp_path / "net.json"
    document = _run(tmp_path, f"--log-net-log={log}", "--dump-dom", address)
    events = json.loads(log.read_text())["events"]
    return {str(event.get("params", {}).get("url", "")) for event in events}, document


def test_nothing_is_asked_for_and_nothing_runs(path, tmp_path):
    asked, document = _asked(tmp_path, path.as_uri())
    assert not [address for address in asked if "example.invalid" in address]
    assert "<h1>" in document and "<script" not in document and "<title>1</title>" not in document
    (tmp_path / "other.html").write_text('<img src="http://example.invalid/a.png">')
    asked, _ = _asked(tmp_path, (tmp_path / "other.html").as_uri())
    assert "http://example.invalid/a.png" in asked  # the browser's log would have told


def test_it_is_no_wider_than_a_phone(path, tmp_path):
    target = tmp_path / "phone.png"
    _run(tmp_path, f"--screenshot={target}", "--hide-scrollbars", "--window-size=500,1400", path.as_uri())
    from PIL import Image

    pixels = np.asarray(Image.open(target).convert("L"))
    assert pixels.shape[1] == 500 and (pixels[:, -12:] > 200).all()  # the margin on the right is free


def test_it_can_be_printed(path, tmp_path):
    target = tmp_path / "page.pdf"
    _run(tmp_path, f"--print-to-pdf={target}", "--no-pdf-header-footer", path.as_uri())
    assert target.read_bytes().startswith(b"%PDF")
