"""For readers of raw folders: checking the layout, tables as strings, lists of image files, joining the two."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from kit.errors import DataError, some

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")  # endings, lower case


def require_layout(root: Path, names: Sequence[str], layout: str) -> None:
    """Raise DataError, with the expected layout and what is there, unless `root` holds all `names`."""
    require_folder(root)
    absent = [name for name in names if not (root / name).exists()]
    if absent:
        raise DataError(f"{root} lacks {some(absent)}: expected {layout}; found {found_in(root)}")


def require_folder(root: Path) -> None:
    """Raise DataError unless `root` is a folder."""
    if not root.is_dir():
        raise DataError(f"no such data folder: {root}")


def found_in(root: Path) -> str:
    """Some of the names in a folder, for a message."""
    return some(path.name + "/" * path.is_dir() for path in root.iterdir()) or "nothing"


def folder_with(root: Path, names: Sequence[str]) -> Path | None:
    """The folder that holds all `names`, in any case: `root`, or the first up to three levels below it; or None."""
    level, expected = [root], {name.lower() for name in names}
    for _ in range(4):
        for folder in level:
            if expected <= {path.name.lower() for path in folder.iterdir()}:
                return folder
        level = [child for folder in level for child in subfolders(folder)]
    return None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones and those that macOS adds to zip files."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


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


def list_images(root: Path, folder: str = "", endings: Sequence[str] = IMAGES) -> pd.DataFrame:
    """Columns path (relative to `root`) and bytes of all image files in a folder and below, sorted by path."""
    prefix = "" if folder in ("", ".") else f"{folder}/"
    images = sorted(_walk(str(root / folder), prefix, tuple(endings)))
    return pd.DataFrame(
        {"path": [path for path, _ in images], "bytes": pd.Series([size for _, size in images], dtype="int64")}
    )


def require_images(root: Path, folder: str, endings: Sequence[str]) -> pd.DataFrame:
    """`list_images`; raises DataError when there is none."""
    if (images := list_images(root, folder, endings)).empty:
        raise DataError(f"{root / folder} holds no {' or '.join(endings)} image")
    return images


def stems(images: pd.DataFrame) -> pd.Series:
    """The file names, without folder and ending."""
    return images["path"].str.extract(r"([^/]+?)(?:\.[^./]*)?$")[0].astype(str)


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


def _walk(folder: str, prefix: str, endings: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Paths (behind `prefix`) and sizes; as strings, because there may be hundreds of thousands."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):  # macOS adds "._x.tif"
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", endings)
            elif entry.name.lower().endswith(endings):
                yield prefix + entry.name, entry.stat().st_size
