"""Drawings that several sections share: a panel for each of several things, intervals below each other, matrices."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.report import style
from kit.report.page import Figure, number, percent

MOST = 16  # panels of a figure; whoever draws says what is left out
Row = tuple[str, float | None, float | None, float | None]  # of `intervals`: name, value, and the ends of its interval
_NUMBERED = 12  # rows and columns of a matrix up to which its cells have numbers


@dataclass(frozen=True)
class Panel:
    """A panel's title, and what is drawn in it."""

    title: str
    content: Any


@dataclass(frozen=True)
class Names:
    """Axis labels with units."""

    x: str
    y: str


def of_panels(
    name: str,
    draw: Callable[[Any, Any], None],
    panels: Sequence[Panel],
    axes: Names,
    alt: str,
    caption: str = "",
    legend: bool = True,
) -> Figure:
    """A figure with `draw(axes, content)` in each panel: one alone, up to three in a row, or in rows of four."""
    columns = len(panels) if len(panels) < 4 else 4
    rows = math.ceil(len(panels) / columns)
    wide = len(panels) > 1

    def draw_all(grid: Any) -> None:
        each = np.atleast_1d(grid).ravel()
        for place, panel in zip(each, panels, strict=False):
            draw(place, panel.content)
            place.set_title(style.short(panel.title, 26 if columns > 3 else 40))
        for place in each[len(panels) :]:
            place.remove()
        each = each[: len(panels)]
        if columns < 4:
            for n, place in enumerate(each):
                place.set(xlabel=axes.x, ylabel=axes.y if n == 0 else "")
                if legend:
                    place.legend(loc="best")
            return
        for place in each:
            place.locator_params(nbins=4)  # each tick is a text to be laid out
        figure = each[0].figure
        figure.supxlabel(axes.x, fontsize=9)
        figure.supylabel(axes.y, fontsize=9)
        handles, texts = each[0].get_legend_handles_labels()
        if legend and handles:
            figure.legend(handles, texts, loc="outside upper center", ncols=min(len(texts), 6))

    tall = 1.0 if rows == 1 and columns < 4 else 0.2 + 0.62 * rows
    return Figure(name, style.drawn(draw_all, rows=rows, columns=columns, wide=wide, tall=tall), alt, caption, wide)


def intervals(
    name: str,
    rows: Sequence[Row],
    unit: str,
    alt: str,
    caption: str = "",
    reference: float | None = None,
    digits: int = 3,
) -> Figure:
    """Values with their intervals (name, value, low, high), the first at the top; `reference` is a line beside them."""

    def draw(axes: Any) -> None:
        if reference is not None:
            axes.axvline(reference, color=style.CHANCE, linestyle="--", linewidth=1)
        for n, (_, value, low, high) in enumerate(rows):
            if low is not None and high is not None:
                axes.plot([low, high], [n, n], color=style.COLOURS[0], linewidth=2, solid_capstyle="butt")
            if value is not None:
                axes.plot([value], [n], "o", color=style.COLOURS[0], markersize=5)
                axes.annotate(
                    number(value, digits), (value, n), (0, 5), textcoords="offset points", ha="center", fontsize=8
                )
        style.ticks(axes, [row[0] for row in rows], "y", longest=36)
        axes.set(xlabel=unit, ylim=(len(rows) - 0.5, -0.7))

    wide = len(rows) > 8 or max(len(row[0]) for row in rows) > 24
    tall = max(0.5, 0.3 + 0.09 * len(rows))
    return Figure(name, style.drawn(draw, wide=wide, tall=tall), alt, caption, wide)


def draw_matrix(axes: Any, counts: np.ndarray, names: Sequence[str], columns: Sequence[str] | None = None) -> None:
    """Counts [rows, columns] as a matrix shaded by the shares of each row; small ones have both as text."""
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    draw_shades(
        axes,
        shares,
        names,
        columns or names,
        lambda i, j: f"{int(counts[i, j]):,}\n{percent(shares[i, j])}",
        (0.0, 1.0),
    )


def draw_shades(
    axes: Any,
    values: np.ndarray,
    names: Sequence[str],
    columns: Sequence[str],
    text: Callable[[int, int], str],
    limits: tuple[float, float],
) -> None:
    """A matrix of shades between two limits; cells of small ones have a text."""
    low, high = limits
    axes.imshow(values, cmap=style.SEQUENTIAL, vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    style.ticks(axes, columns, "x", longest=18)
    style.ticks(axes, names, "y", longest=18)
    if max(values.shape) > _NUMBERED:
        return
    for i, j in np.ndindex(*values.shape):
        dark = (values[i, j] - low) / max(high - low, 1e-9) < 0.55
        colour = "white" if dark else "black"
        axes.text(j, i, text(i, j), ha="center", va="center", color=colour, fontsize=9 if len(values) < 5 else 7)


def shown(names: Sequence[str], order: np.ndarray | None = None) -> list[int]:
    """The places of those that have a panel: all, or the first `MOST` in this order (int [n]), in their own."""
    places = np.arange(len(names)) if order is None else np.asarray(order)
    return sorted(int(n) for n in places[:MOST])
