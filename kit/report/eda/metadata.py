"""Columns that say more of an image, such as age, sex and view, against its labels; odd values by name."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kit.errors import counted
from kit.report import page, style
from kit.report.eda.labels import shares
from kit.report.eda.pixels import by_class

_FEW = 12  # values of a column, up to which they are categories; and rows of a table
_OLDEST = 120  # years
_ODD = 4  # named values
_SHOWN_ELSEWHERE = ("width", "height", "part")


def columns(table: pd.DataFrame, candidates: Sequence[str]) -> list[str]:
    """Those of the candidate columns that hold one value for each image, and more than none."""

    def is_plain(name: str) -> bool:
        known = table[name].dropna()
        return len(known) > 0 and not known.map(lambda value: isinstance(value, list | tuple | np.ndarray)).any()

    return [name for name in candidates if name not in _SHOWN_ELSEWHERE and is_plain(name)]


def blocks(table: pd.DataFrame, names: Sequence[str], members: np.ndarray, columns: Sequence[str]) -> list[page.Block]:
    """A table or a histogram of each column, by class (`names`, `members` bool [rows, classes])."""
    figures: list[page.Block] = []
    tables: list[page.Block] = []
    remarks: list[page.Block] = []
    for number, name in enumerate(columns):
        values = table[name]
        numbers = as_numbers(values)
        if odd := odd_values(name, numbers if numbers is not None else values, table["id"]):
            remarks.append(page.Text(odd, "warning"))
        if numbers is not None and numbers.nunique() > _FEW:
            figures.append(_figure(number, name, numbers, names, members))
        else:
            tables += _table(name, values, names, members)
    return [*remarks, *figures, *tables]


def as_numbers(values: pd.Series) -> pd.Series | None:
    """The values as float64, where all that are known are numbers; else None."""
    if values.dtype == bool:
        return None
    numbers = pd.to_numeric(values, errors="coerce")
    blank = values.isna() | (values.astype(str).str.strip() == "")
    return numbers.astype(np.float64) if (numbers.notna() | blank).all() and numbers.notna().any() else None


def odd_values(name: str, values: pd.Series, ids: pd.Series) -> str:
    """What is odd about the values of a column, with the ids; an empty text where nothing is.

    Ages are odd beyond 0 to 120 years. Other numbers are when they lie farther from the middle half than ten times its
    width, if they are few; and spellings of one text that differ in case or spaces.
    """
    if values.dtype.kind == "f":
        if re.search(r"(^|[^a-z])ages?($|[^a-z])", name.lower()):
            bad, why = (values < 0) | (values > _OLDEST), f"not between 0 and {_OLDEST} years"
        else:
            low, high = values.quantile(0.25), values.quantile(0.75)
            far = 10 * (high - low)
            bad, why = (values < low - far) | (values > high + far), f"far from the others ({low:g} to {high:g} mostly)"
            if not high > low or bad.mean() > 0.01:
                return ""
        bad |= np.isinf(values)
        if not bad.any():
            return ""
        first = ", ".join(f"{value:g} ({name})" for value, name in zip(values[bad], ids[bad][:_ODD], strict=False))
        more = f" and {bad.sum() - _ODD:,} more" if bad.sum() > _ODD else ""
        return f"{name}: {first}{more}: {why}."
    known = values.dropna().astype(str)
    plain = known.str.strip().str.lower()
    spellings = known.groupby(plain).unique()
    several = [", ".join(map(repr, sorted(each))) for each in spellings if len(each) > 1]
    return f"{name}: {'; '.join(several[:_ODD])}: spellings of one value?" if several else ""


def _figure(number: int, name: str, values: pd.Series, names: Sequence[str], members: np.ndarray) -> page.Figure:
    low, mid, high = values.dropna().quantile([0, 0.5, 1])
    caption = (
        f"{name}, by class: {low:g} to {high:g}, median {mid:g}; {_missing(values)}. Where classes differ, they can be "
        "guessed from it, and from whatever shows it in an image."
    )
    drawing = style.drawn(by_class, names, members, values.to_numpy(), name)
    return page.Figure(f"metadata{number}", drawing, caption, caption)


def _table(name: str, values: pd.Series, names: Sequence[str], members: np.ndarray) -> list[page.Block]:
    """Images of each value, and of them the share of each class."""
    texts = values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value)).where(values.notna())
    counts = texts.value_counts()
    shown = [*counts.index[:_FEW]]
    parts = [(str(value), (texts == value).to_numpy()) for value in shown]
    if len(counts) > _FEW:
        parts.append((f"{len(counts) - _FEW:,} other values", (texts.notna() & ~texts.isin(shown)).to_numpy()))
    if texts.isna().any():
        parts.append(("missing", texts.isna().to_numpy()))
    if len(counts) == 1 and not texts.isna().any():
        return [page.Text(f"{name}: {shown[0]} in all images.", "note")]
    note = f"{name}: images of each value, and of those the share of each class; {_missing(values)}."
    return [page.Text(note, "note"), shares(name, parts, names, members)]


def _missing(values: pd.Series) -> str:
    missing = int(values.isna().sum())
    return f"missing in {counted(missing, 'image')}" if missing else "none missing"
