"""For readers of raw folders: their layout, and lists of the image files in them."""

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
