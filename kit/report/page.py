"""A page as data, and as one HTML file that asks for nothing from outside: texts, tables, figures and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import kit
from kit import files
from kit.report import style

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind` is plain, lead (large), note (small print), warning or code."""

    text: str
    kind: str = "plain"
    block: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """Rows of cells as they are shown; `caption` says what they are. Cells from the column `numbers` on are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numbers: int = 1
    block: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """A drawing (kit.report.style.drawn), named for its file; `alt` says what it shows to who cannot see it."""

    name: str
    drawing: Drawing
    alt: str
    caption: str = ""
    wide: bool = False
    block: ClassVar[str] = "figure"

    @property
    def svg(self) -> str:
        """The drawing as an element of the page."""
        return style.svg(self.drawing, self.name)


@dataclass(frozen=True)
class Picture:
    """An image of so many pixels, encoded; `badge` is a word of what it is, such as "false negative"."""

    image: bytes  # JPEG or PNG
    alt: str
    caption: str = ""
    badge: str = ""
    tone: str = ""  # of the badge: good, bad, or none

    @property
    def address(self) -> str:
        """The image itself, as an address."""
        kind = "png" if self.image.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.image).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, in columns of at least `width` pixels."""

    pictures: Sequence[Picture]
    caption: str = ""
    width: int = 150
    block: ClassVar[str] = "gallery"


Block = Text | Table | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading, found by `anchor`."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A page: its title, what it is about in a line, and its sections; those without blocks are left out."""

    title: str
    subtitle: str
    sections: Sequence[Section]

    @property
    def figures(self) -> Iterator[Figure]:
        """All figures."""
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Figure))


def as_html(page: Page) -> str:
    """The page as an HTML document. All text is escaped: whatever a label holds, it stays text."""
    sections = [section for section in page.sections if section.blocks]
    runs = [(section, _runs(section.blocks)) for section in sections]
    return _template().render(page=page, sections=runs, version=kit.__version__)


def write(page: Page, path: Path, figures: Path | None = None) -> None:
    """Write the page to `path`, and its figures as PNG into the folder `figures`, where one is given."""
    text = as_html(page)
    if figures is not None:
        for figure in page.figures:
            with files.replacing(figures / f"{figure.name}.png") as part:
                part.write_bytes(style.png(figure.drawing))
    files.write_text(path, text)


def number(value: float | int | None, digits: int = 3) -> str:
    """A number as it is shown: `.912`, `1,024`, `–` for what is not defined."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:z.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def percent(share: float, digits: int = 0) -> str:
    """A share as `95 %`."""
    return f"{100 * share:.{digits}f} %"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """The two ends of an interval."""
    known = low is not None and high is not None and low == low and high == high
    return f"{number(low, digits)} to {number(high, digits)}" if known else "–"


def _runs(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """The blocks, those of a kind that follow each other together: figures that are not wide share a row."""
    runs: list[tuple[str, list[Block]]] = []
    for block in blocks:
        kind = "figure" if isinstance(block, Figure) and not block.wide else ""
        if kind and runs and runs[-1][0] == kind:
            runs[-1][1].append(block)
        else:
            runs.append((kind, [block]))
    return runs


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    source = (resources.files("kit.report") / "page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)
