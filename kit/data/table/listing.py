"""For readers of raw folders: their layout, and lists of the image files in them.

Content decides what an image is: files with other endings than those of images are opened, unless the ending is one of
text, archives and tables. What systems leave behind (thumbnails, recycle bins, hidden files) is passed over.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kit import files
from kit.data.pixels.dicom import is_dicom
from kit.errors import DataError, some

# Endings of images, lower case: such files are not opened to be listed.
IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".j2k"),
    *(".dcm", ".dicom", ".ima", ".pgm", ".ppm"),
)
_OTHERS = (
    *files.ARCHIVES,
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".log", ".pdf"),
    *(".doc", ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".mat", ".npy", ".npz", ".h5", ".pkl", ".parquet"),
)
_MAGIC = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),  # JPEG 2000, and its codestream alone
)
_MAGIC_AT = re.compile(rb"RIFF....WEBP|BM....\0\0\0\0|P[56]\s+(#|\d)", re.DOTALL)  # WebP, BMP, PGM and PPM
_HEAD = 132  # bytes: a DICOM says so at 128
_JUNK = {"__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "recycler"}
_JUNK |= {"system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_ENDING = re.compile(r"\.[a-z][a-z0-9_~]{0,9}$", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """The images in a folder and below (columns path and bytes, sorted by path), and what else is there.

    `others` are the paths of files that are no images, `closed` those of folders that were not entered, with the
    reason, `escaped` those with names that are not UTF-8 or not printable.
    """

    images: pd.DataFrame
    others: tuple[str, ...]
    closed: dict[str, str]
    escaped: tuple[str, ...]

    def remarks(self) -> dict[str, int]:
        """What was left out, or is odd, and how often."""
        remarks: dict[str, int] = {}
        if self.others:
            what = "files that are no images" if len(self.others) > 1 else "file that is no image"
            remarks[f"{what}, left out ({by_ending(self.others)})"] = len(self.others)
        if self.closed:
            reasons = some((f"{path}/: {reason}" for path, reason in self.closed.items()), 2)
            what = "folders" if len(self.closed) > 1 else "folder"
            remarks[f"{what} that cannot be read, left out ({reasons})"] = len(self.closed)
        if self.escaped:
            names = some(self.escaped, 1)
            remarks[f"names that are not UTF-8, or not printable, written as \\x.. ({names})"] = len(self.escaped)
        return remarks


def require_layout(root: Path, names: Sequence[str], layout: str) -> None:
    """Raise DataError, with the expected layout and what is there, unless `root` holds all `names`."""
    require_folder(root)
    absent = [name for name in names if not (root / name).exists()]
    if absent:
        raise DataError(f"{root} lacks {some(absent)}: expected {layout}; found {found_in(root)}")


def require_folder(root: Path) -> None:
    """Raise DataError unless `root` is a folder."""
    if root.name.lower().endswith(files.ARCHIVES) and root.is_file():
        raise DataError(f"{root} is an archive: unpack it, and give the folder that it becomes")
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file: give the folder that holds the data")
    if not root.is_dir():
        raise DataError(f"no such data folder: {root}")


def found_in(root: Path) -> str:
    """Some of the names in a folder, for a message."""
    return some(files.escaped(path.name) + "/" * path.is_dir() for path in root.iterdir()) or "nothing"


def folder_with(root: Path, names: Sequence[str]) -> Path | None:
    """The folder that holds all `names`, in any case: `root`, or the first up to three levels below it; or None."""
    level, expected = [root], {name.lower() for name in names}
    for _ in range(4):
        for folder in level:
            with suppress(PermissionError):  # the listing says so
                if expected <= {path.name.lower() for path in folder.iterdir()}:
                    return folder
        level = [child for folder in level for child in subfolders(folder)]
    return None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones and those that systems leave behind."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if not is_junk(entry.name) and _is_folder(entry))
    except PermissionError:  # the listing says so
        return []


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that a system leaves behind."""
    return name.startswith((".", "__MACOSX")) or name.lower() in _JUNK


def list_images(root: Path, folder: str = "", endings: Sequence[str] | None = None) -> pd.DataFrame:
    """Columns path (relative to `root`) and bytes of the images in a folder and below, sorted by path.

    Those are the files with one of some `endings`; without, all that `list_folder` takes for images.
    """
    return list_folder(root, folder, endings).images


def list_folder(root: Path, folder: str = "", endings: Sequence[str] | None = None) -> Listing:
    """The images in a folder and below, and what else is there; `endings` as in `list_images`."""
    prefix = "" if folder in ("", ".") else f"{folder}/"
    walk = _Walk(IMAGES if endings is None else tuple(endings), sniffs=endings is None)
    walk.enter(str(root / folder), prefix, ())
    images = sorted(walk.images)
    table = pd.DataFrame(
        {"path": [path for path, _ in images], "bytes": pd.Series([size for _, size in images], dtype="int64")}
    )
    return Listing(table, tuple(sorted(walk.others)), walk.closed, tuple(sorted(walk.escaped)))


def require_images(root: Path, folder: str, endings: Sequence[str]) -> pd.DataFrame:
    """`list_images`; raises DataError when there is none."""
    if (images := list_images(root, folder, endings)).empty:
        raise DataError(f"{root / folder} holds no {' or '.join(endings)} image")
    return images


def stems(images: pd.DataFrame) -> pd.Series:
    """The file names, without folder and ending."""
    return images["path"].str.extract(r"([^/]+?)(?:\.[^./]*)?$")[0].astype(str)


def by_ending(paths: Sequence[str]) -> str:
    """The endings of some files with their numbers, the most frequent first: `12 .xml, 2 .pdf, 1 without ending`."""
    endings = Counter((_ENDING.search(path) or ["without ending"])[0].lower() for path in paths)
    most = [f"{count} {ending}" for ending, count in endings.most_common(6)]
    return ", ".join(most) + (f" and {len(endings) - 6} other endings" if len(endings) > 6 else "")


@dataclass
class _Walk:
    """What is met on the way through a folder; as strings, because there may be hundreds of thousands."""

    endings: tuple[str, ...]
    sniffs: bool  # whether files of other endings are opened
    images: list[tuple[str, int]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    escaped: list[str] = field(default_factory=list)

    def enter(self, folder: str, prefix: str, above: tuple[str, ...]) -> None:
        """List a folder; `prefix` goes before its names, `above` are the folders that it is in."""
        try:
            entries = os.scandir(folder)
        except OSError as error:
            if not above:
                raise
            self.closed[prefix.rstrip("/")] = error.strerror or str(error)
            return
        above = (*above, folder)
        with entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                name = files.escaped(entry.name)
                path = prefix + name
                if name != entry.name and "\\x" in name:
                    self.escaped.append(path)
                if _is_folder(entry):
                    if entry.is_symlink() and any(Path(entry.path).samefile(other) for other in above):
                        self.closed[path] = "a link to a folder that it is in"
                    else:
                        self.enter(entry.path, f"{path}/", above)
                elif entry.name.lower().endswith(self.endings) or (self.sniffs and _is_image(entry)):
                    self.images.append((path, _size(entry)))
                else:
                    self.others.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _size(entry: os.DirEntry[str]) -> int:
    """Bytes of a file; 0 of a broken link, which reading will reject with its reason."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file of an unusual ending, or none, starts as an image does."""
    if entry.name.lower().endswith(_OTHERS):
        return False
    try:
        if not entry.is_file():  # a pipe would never answer
            return False
        with Path(entry.path).open("rb", buffering=0) as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head.startswith(_MAGIC) or _MAGIC_AT.match(head) is not None or is_dicom(head)
