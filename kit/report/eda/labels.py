"""What a data set holds: counts by split, label and fold, and labels that occur together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit.errors import counted
from kit.report import page, style
from kit.tables import truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 30  # labels in a figure
_WIDE = 6  # classes that are columns of a table
_LONGEST = 60  # letters of a cell


def splits(table: pd.DataFrame, side: pd.Series, labels: Sequence[str]) -> list[page.Block]:
    """Images, groups and positives of each label, by side (train, test, or the folders of the data)."""
    parts = [(str(name), table[side == name]) for name in sorted(side.unique(), key="train val test".find)]
    return [
        page.Text("Images, groups (patients, where they are known) and images of each label.", "note"),
        _counts(parts, labels),
    ]


def folds(table: pd.DataFrame, fold: np.ndarray, labels: Sequence[str]) -> list[page.Block]:
    """The same by fold, as training deals the training images `table`; `fold` int [rows]."""
    note = (
        "Folds as training will deal them: no group is in two, and labels should be about as frequent in all of them. "
        "A fold with few of a label has an uncertain score."
    )
    return [page.Text(note, "note"), _counts([(f"fold {k}", table[fold == k]) for k in np.unique(fold)], labels)]


def _counts(parts: Sequence[tuple[str, pd.DataFrame]], labels: Sequence[str]) -> page.Table:
    """A column for each part of the images."""
    columns = [_column(rows, labels) for _, rows in parts]
    names = ["images", "groups", *labels, "unlabelled"]
    rows = [[name, *cells] for name, *cells in zip(names, *columns, strict=True)]
    return page.Table(["", *(name for name, _ in parts)], rows if any(c[-1] != "0" for c in columns) else rows[:-1])


def _column(rows: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    y = truth(rows, labels)
    positive, known = (y > 0.5).sum(axis=0), (~np.isnan(y)).sum(axis=0)
    cells = [
        f"{count:,} ({count / total:.1%})" if total else "–"
        for count, total in zip(positive.tolist(), known.tolist(), strict=True)
    ]
    unlabelled = int(np.isnan(y).all(axis=1).sum())
    return [f"{len(rows):,}", f"{rows['group'].nunique():,}", *cells, f"{unlabelled:,}"]


def shares(what: str, parts: Sequence[tuple[str, np.ndarray]], names: Sequence[str], members: np.ndarray) -> page.Table:
    """Of the images of each part (name, bool [rows]) the share of each class, where it is known; many classes are rows.

    `members` bool [rows, classes].
    """
    known = members.any(axis=1)
    columns = ["images", "of all", *names]
    rows = []
    for _, inside in parts:
        of = inside & known
        classes = [f"{members[of, n].mean():.1%}" if of.any() else "–" for n in range(len(names))]
        rows.append([f"{inside.sum():,}", f"{inside.mean():.1%}", *classes])
    titles = [style.short(name, _LONGEST) for name, _ in parts]
    if len(names) <= _WIDE:
        return page.Table([what, *columns], [[name, *row] for name, row in zip(titles, rows, strict=True)])
    return page.Table([what, *titles], [[name, *cells] for name, *cells in zip(columns, *rows, strict=True)])


def frequencies(names: Sequence[str], members: np.ndarray) -> page.Figure:
    """Images of each class; `members` bool [rows, classes]."""
    counts = members.sum(axis=0)
    order = np.argsort(-counts, kind="stable")[:_MOST]
    shown = [names[n] for n in order]
    drawing = style.drawn(_bars, shown, counts[order], tall=max(0.7, 0.09 * len(order) + 0.4))
    caption = (
        "Images of each class, where labels are known. Where one is far more frequent than another, accuracy says "
        "little: look at ROC AUC or average precision, and consider input.balance."
    )
    more = f" The {_MOST} most frequent of {len(names)}." if len(names) > _MOST else ""
    alt = "Bars: " + ", ".join(f"{names[n]} {counts[n]}" for n in order)
    return page.Figure("labels", drawing, alt, caption + more)


def _bars(axes: "Axes", names: Sequence[str], counts: np.ndarray) -> None:
    places = np.arange(len(names))
    axes.barh(places, counts, color=style.colour(0))
    for place, count in zip(places, counts, strict=True):
        axes.annotate(f"{count:,}", (count, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    style.ticks(axes, names, "y")
    axes.set_xlim(0, max(1, counts.max(initial=0)) * 1.15)
    axes.invert_yaxis()
    axes.set_xlabel("images")


def together(table: pd.DataFrame, labels: Sequence[str]) -> page.Figure:
    """How often labels occur together: of the images with the label of a row, the share with that of a column."""
    y = (truth(table, labels) > 0.5).astype(np.float64)
    order = np.argsort(-y.sum(axis=0), kind="stable")[:_MOST]
    both = y[:, order].T @ y[:, order]
    of_row = np.diag(both)[:, None]
    shares = np.divide(both, of_row, out=np.full_like(both, np.nan), where=of_row > 0)
    names = [labels[n] for n in order]
    caption = (
        "Of the images that have the label of the row, the percentage that also has that of the column. High values "
        "off the diagonal: the network may find one label by the other."
    )
    alt = f"A matrix of {counted(len(names), 'label')} by themselves: how often they occur together."
    tall = max(1.0, 0.12 * len(names) + 0.5)
    return page.Figure(
        "together",
        style.drawn(_matrix, names, shares, wide=len(names) > 6, tall=tall),
        alt,
        caption,
        wide=len(names) > 6,
    )


def _matrix(axes: "Axes", names: Sequence[str], shares: np.ndarray) -> None:
    axes.imshow(shares, cmap=style.SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share == share:
            colour = "black" if share > 0.55 else "white"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=7)
    style.ticks(axes, names)
    style.ticks(axes, names, "y")
