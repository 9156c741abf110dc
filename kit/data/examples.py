"""The example table: one row per image, the contract between a competition's raw files and everything after.

Columns: `id` str, unique; `path` str, relative to the data root; `bytes` int64, the file's size; `split` train|test;
`group` str (patient, slide; the id when unknown); one float32 column `y_<label>` per label (NaN = unknown); any further
columns are metadata, never used silently.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from kit.errors import DataError, some

TASKS = ("binary", "multiclass", "multilabel")
_COLUMNS = ["id", "path", "bytes", "split", "group"]


@dataclass(frozen=True)
class Examples:
    """The example table, its label names and task; and what the raw folder lacks or has too much.

    `missing` names labelled or expected images that have no file, `surplus` files that nothing speaks of.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    task: str
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()


def label_columns(table: pd.DataFrame) -> list[str]:
    """The columns `y_<label>` of an example or prediction table, in order."""
    return [column for column in table.columns if column.startswith("y_")]


def validate(examples: Examples, max_missing: float) -> Examples:
    """The examples with rows sorted by (split, id) and columns in order, once they are seen to keep the contract.

    Raises DataError for duplicate ids, no image at all, unlabelled training rows, and more than `max_missing` (a share
    of all images) missing or surplus images.
    """
    table, wanted = examples.table, [f"y_{label}" for label in examples.labels]
    absent = set(_COLUMNS + wanted) - set(table.columns)
    if absent:
        raise DataError(f"the example table lacks the columns {some(absent)}")
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise DataError(f"duplicate ids in the example table: {some(set(twice))}")
    for names, what in (
        (examples.missing, "expected images have no file"),
        (examples.surplus, "images are unlabelled"),
    ):
        if len(names) > max_missing * max(len(table), 1):
            raise DataError(
                f"{len(names)} {what}: {some(names)}. Complete the data, or allow a share of them "
                f"with --set data.max_missing={_round_up(len(names) / max(len(table), 1))}"
            )
    train = table[table["split"] == "train"]
    if train.empty:
        raise DataError("the raw folder has no training image")
    if train[wanted].isna().all(axis=1).any():
        unlabelled = train["id"][train[wanted].isna().all(axis=1)]
        raise DataError(f"{len(unlabelled)} training images have no label: {some(unlabelled)}")
    others = [column for column in table.columns if column not in _COLUMNS + wanted]
    table = table.sort_values(["split", "id"], ignore_index=True)[_COLUMNS + wanted + others]
    return Examples(table, examples.labels, examples.task, examples.missing, examples.surplus)


def read_examples(path: Path, labels: tuple[str, ...], task: str) -> Examples:
    """The examples in a table that `kit examples` wrote, checked again; raises DataError when it is none."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as parquet ({error}): write it with `kit examples`") from error
    return validate(Examples(table, labels, task), max_missing=0)


def require_layout(root: Path, names: Sequence[str], layout: str) -> None:
    """Raise DataError, saying what was expected and what is there, unless `root` holds all `names`."""
    if not root.is_dir():
        raise DataError(f"no such data folder: {root}")
    absent = [name for name in names if not (root / name).exists()]
    if absent:
        found = some(path.name + "/" * path.is_dir() for path in root.iterdir()) or "nothing"
        raise DataError(f"{root} lacks {some(absent)}: expected {layout}; found {found}")


def read_table(path: Path, id_column: str, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV as strings, with at least `id_column` and `columns`; raises DataError for others and for duplicate ids.

    The index is the line number in the file, so that an error can name the row.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as CSV: {error}") from error
    absent = {id_column, *columns} - set(table.columns)
    if absent:
        raise DataError(f"{path} lacks the columns {some(absent)}; it has {some(table.columns, 6)}")
    table.index += 2  # the header is line 1
    twice = table[table[id_column].duplicated(keep=False)]
    if len(twice):
        first = twice[id_column].iloc[0]
        lines = some(map(str, twice.index[twice[id_column] == first]))
        count = twice[id_column].nunique()
        raise DataError(f"{path}: {count} duplicate ids, the first is {first!r} in lines {lines}: keep one of each")
    return table


def list_images(root: Path, folder: str, pattern: str) -> pd.DataFrame:
    """Columns id (the file name without its ending), path (relative to `root`) and bytes of the images in a folder.

    Raises DataError when there is none.
    """
    with os.scandir(root / folder) as entries:
        files = [
            (entry.name, entry.stat().st_size)
            for entry in entries
            if fnmatch(entry.name.lower(), pattern) and not entry.name.startswith(".")  # "._x.tif": macOS leaves them
        ]
    if not files:
        raise DataError(f"{root / folder} holds no {pattern} image")
    names, sizes = zip(*sorted(files), strict=True)
    return pd.DataFrame(
        {
            "id": [Path(name).stem for name in names],
            "path": [f"{folder}/{name}" for name in names],
            "bytes": pd.Series(sizes, dtype="int64"),
        }
    )


def match(rows: pd.DataFrame, images: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Join rows (id, split, …) with images (id, split, path, bytes): table, ids without image, paths without row."""
    joined = rows.merge(images, on=["id", "split"], how="outer", indicator="side", validate="one_to_one")
    missing = tuple(sorted(joined["id"][joined["side"] == "left_only"]))
    surplus = tuple(sorted(joined["path"][joined["side"] == "right_only"]))
    table = joined[joined["side"] == "both"].drop(columns="side").reset_index(drop=True)
    return table.astype({"bytes": "int64"}), missing, surplus


def _round_up(share: float) -> float:
    return min(1.0, int(share * 1000 + 1) / 1000)
