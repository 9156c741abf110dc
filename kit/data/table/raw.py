"""For readers of raw folders: tables as strings, and joining them with lists of images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kit.delimited import read_delimited
from kit.errors import DataError, counted, some

log = logging.getLogger(__name__)


def read_table(
    path: Path, columns: Sequence[str], unique: str | None = None, may_be_empty: bool = False, remedy: str = ""
) -> pd.DataFrame:
    """A CSV file as strings; the index is the line in the file, so that an error can name it.

    Says what is odd about the file. Raises DataError when it is no table, lacks one of `columns` (with the `remedy`),
    has no row (unless it `may_be_empty`), or has a value of `unique` twice or not at all.
    """
    read = read_delimited(path, columns, remedy)
    blank = [f"{counted(len(read.blank), 'row is', 'rows are')} blank and left out"] if read.blank else []
    for remark in [*read.remarks, *blank]:
        log.info(f"noticed: {path.name}: {remark}")
    table = read.table
    if table.empty and not may_be_empty:
        raise DataError(f"{path} has no row below its header")
    if unique:
        _require_unique(path, table, unique)
    return table


def _require_unique(path: Path, table: pd.DataFrame, column: str) -> None:
    empty = table.index[table[column].str.strip() == ""]
    if len(empty):
        raise DataError(f"{path}: {column} is empty in {_lines(empty)}: give every row one, or delete the row")
    duplicates = table[table[column].duplicated(keep=False)]
    if len(duplicates):
        first, count = duplicates[column].iloc[0], duplicates[column].nunique()
        more = f" ({count - 1} more ids are repeated)" if count > 1 else ""
        where = _lines(duplicates.index[duplicates[column] == first])
        raise DataError(f"{path}: {column} {first!r} is in {where}{more}: keep one line for each")


def _lines(index: pd.Index, at_most: int = 5) -> str:
    lines = ", ".join(map(str, index[:at_most]))
    return f"line{'s' * (len(index) > 1)} {lines}" + (
        f" and {len(index) - at_most} more" if len(index) > at_most else ""
    )


def refuse_rows(path: Path, table: pd.DataFrame, bad: pd.Series, column: str, expected: str, remedy: str = "") -> None:
    """Raise DataError when a row is `bad`: its line, its value in `column`, what was `expected`, and the remedy."""
    if bad.any():
        line, row = next(table[bad].iterrows())
        where = f"{path}, {table.index.name or 'line'} {line}"
        more = f" ({bad.sum()} lines are like this)" if bad.sum() > 1 else ""
        raise DataError(f"{where}: {column} is {row[column]!r}, not {expected}{more}" + f": {remedy}" * bool(remedy))


def match(
    rows: pd.DataFrame, images: pd.DataFrame, on: Sequence[str] = ("id",)
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Join rows (id, …) with images (id, path, bytes): the table, the ids without an image, the paths without a row.

    Raises DataError when two images have the id of one row. Images of one name that no row has are without a row.
    """
    repeated = images.duplicated([*on], keep=False)
    duplicates = images[repeated].merge(rows[[*on]], on=[*on]).sort_values("id")
    if len(duplicates):
        first = duplicates["id"].iloc[0]
        paths = duplicates["path"][duplicates["id"] == first]
        raise DataError(f"{first!r} is the name of several files: {some(paths, 2)}. Name images by their paths")
    joined = rows.merge(images[~repeated], on=[*on], how="outer", indicator="_merge", validate="one_to_one")
    missing = tuple(sorted(joined["id"][joined["_merge"] == "left_only"]))
    surplus = tuple(sorted([*joined["path"][joined["_merge"] == "right_only"], *images["path"][repeated]]))
    table = joined[joined["_merge"] == "both"].drop(columns="_merge").reset_index(drop=True)
    return table.astype({"bytes": "int64"}), missing, surplus
