"""For readers of raw folders: tables as strings, and joining them with lists of images."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kit.errors import DataError, some


def read_table(path: Path, columns: Sequence[str], unique: str | None = None) -> pd.DataFrame:
    """A CSV file as strings; raises DataError when it lacks one of `columns` or has a value of `unique` twice.

    The index is the line in the file, so that an error can name it.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as CSV: {error}") from error
    absent = set(columns) - set(table.columns)
    if absent:
        raise DataError(f"{path} has no column {some(absent)}; it has {some(table.columns, 6)}")
    table.index += 2  # the header is line 1
    duplicates = table[table[unique].duplicated(keep=False)] if unique else table[:0]
    if len(duplicates):
        first, count = duplicates[unique].iloc[0], duplicates[unique].nunique()
        lines = ", ".join(map(str, duplicates.index[duplicates[unique] == first]))
        more = f" ({count - 1} more ids are repeated)" if count > 1 else ""
        raise DataError(f"{path}: {unique} {first!r} is in lines {lines}{more}: keep one line for each")
    return table


def refuse_rows(path: Path, table: pd.DataFrame, bad: pd.Series, column: str, expected: str) -> None:
    """Raise DataError when a row is `bad`, with the first such line, its value in `column` and what was `expected`."""
    if bad.any():
        line, row = next(table[bad].iterrows())
        more = f" ({bad.sum()} lines are like this)" if bad.sum() > 1 else ""
        raise DataError(f"{path}, line {line}: {column} is {row[column]!r}, not {expected}{more}")


def match(
    rows: pd.DataFrame, images: pd.DataFrame, on: Sequence[str] = ("id",)
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Join rows (id, …) with images (id, path, bytes): the table, the ids without an image, the paths without a row.

    Raises DataError when two images have the same id.
    """
    duplicates = images[images.duplicated([*on], keep=False)].sort_values("id")
    if len(duplicates):
        first = duplicates["id"].iloc[0]
        raise DataError(f"{first!r} is the name of several files: {some(duplicates['path'][:2])}")
    joined = rows.merge(images, on=[*on], how="outer", indicator="side", validate="one_to_one")
    missing = tuple(sorted(joined["id"][joined["side"] == "left_only"]))
    surplus = tuple(sorted(joined["path"][joined["side"] == "right_only"]))
    table = joined[joined["side"] == "both"].drop(columns="side").reset_index(drop=True)
    return table.astype({"bytes": "int64"}), missing, surplus
