"""A page: one HTML file that asks for nothing from outside, and in which text stays text."""

import io
import re

import html5lib
import numpy as np
import pytest

from kit.report import page, pictures, style

NASTY = '<script>alert(1)</script> & "quoted" $a_b$'


def _draw(axes, name):
    axes.plot([0, 1], [1, 0], label=name)
    style.ticks(axes, [name, "b"])
    axes.set_title(name)
    axes.legend()


@pytest.fixture(scope="module")
def html():
    picture = page.Picture(pictures.jpeg(np.zeros((8, 8), np.uint8)), NASTY, NASTY, NASTY, "bad")
    figures = [page.Figure(f"curve{n}", style.drawn(_draw, NASTY), NASTY, NASTY) for n in range(2)]
    blocks = [page.Text(NASTY), page.Table([NASTY, "n"], [[NASTY, "1"]], NASTY), *figures, page.Gallery([picture])]
    return page.as_html(page.Page(NASTY, NASTY, [page.Section(NASTY, "all", blocks), page.Section("none", "none", [])]))


def test_it_is_well_formed_and_text_stays_text(html):
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)
    assert not tree.findall(".//script")
    assert tree.find(".//h1").text == NASTY and tree.find(".//td").text == NASTY
    assert [heading.text for heading in tree.findall(".//h2")] == [NASTY]
    texts = ["".join(element.itertext()) for element in tree.iter() if str(element.tag).endswith("text")]
    assert NASTY in texts  # of the figure: not taken for mathematics


def test_ids_are_there_once_and_references_are_to_them(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = {*re.findall(r'href="#([^"]+)"', html), *re.findall(r"url\(#([^)]+)\)", html)}
    assert references and references <= set(ids)


def test_nothing_comes_from_outside(html):
    addresses = re.findall(r"""\b(?:src|xlink:href|href|action|srcset)\s*=\s*["']([^"']*)""", html)
    assert addresses and all(address.startswith(("#", "data:image/")) for address in addresses)
    assert "default-src 'none'" in html and not re.search(r"@import|url\((?!#)", html)


def test_figures_become_files_too(tmp_path):
    figure = page.Figure("curve", style.drawn(_draw, "a"), "a curve")
    path = tmp_path / "page.html"
    page.write(page.Page("t", "s", [page.Section("A", "a", [figure])]), path, tmp_path / "figures")
    assert path.read_text().startswith("<!doctype html>")
    assert (tmp_path / "figures" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_as_they_are_shown():
    assert [page.number(x) for x in (0.91234, -0.5, 1.0, 12.3456, 1024, None, float("nan"))] == [
        ".912", "-.500", "1.000", "12.346", "1,024", "–", "–",
    ]  # fmt: skip
    assert page.interval(0.1, None) == "–" and page.interval(0.1, 0.2, 2) == ".10 to .20"


def test_pictures_have_the_side_that_is_asked_for():
    from PIL import Image

    grey = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert Image.open(io.BytesIO(pictures.jpeg(grey, 128))).size == (128, 128)
    boxed = pictures.with_boxes(grey, np.array([[0.25, 0.25, 0.5, 0.5]]), pictures.TRUE, [".9"], 64)
    assert boxed.shape == (64, 64, 3) and tuple(boxed[16, 32]) == pictures.TRUE
    hot = np.zeros((4, 4), np.float32)
    hot[0, 0] = 1
    mapped = pictures.with_map(grey, hot, side=64).astype(int)
    plain = pictures.resized(pictures.as_rgb(grey), 64).astype(int)
    assert np.abs(mapped - plain)[48:, 48:].max() <= 1 and np.abs(mapped - plain)[:8, :8].max() > 40
