"""Images of records as files, for other programs and for people to look at."""

import hashlib
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from kit.boxes import BOXES
from kit.data.pixels.images import encode
from kit.data.records.images import iter_images
from kit.data.records.manifest import Records, rows_of
from kit.data.records.targets import target_format
from kit.data.table.boxes import CORNER
from kit.errors import DataError, some
from kit.files import PART
from kit.parallel import progress_bar
from kit.tables import truth_columns

TABLE, BOX_TABLE = "images.csv", "boxes.csv"
ENDINGS = {"png": ".png", "jpeg": ".jpg"}  # by format
_COLUMNS = ("id", "file", "split", "cell", "group")
_IMAGE = re.compile(r"\.(png|jpe?g|tiff?|bmp|gif|webp|dcm|dicom|jp2|npy)$", re.IGNORECASE)
_LONGEST = 100  # letters of a name, which with a prefix and an ending every file system takes
# Names that Windows gives to devices, whatever their ending.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def export(records: Records, out: Path, format: str = "png", ids: Collection[str] | None = None) -> int:
    """Write images of records into the folder `out`, with their tables; returns how many: all, or those of `ids`.

    `out` gets `train/NAME.png` and `test/NAME.png` (or `.jpg`, of quality 95), `images.csv` with columns id, file,
    split, cell, group and `y_<label>`, and of records with boxes `boxes.csv`: image (the file), x, y, width, height (in
    pixels of the file) and label, an empty row for an image without a box. It is there whole, or not at all.
    Raises DataError for a folder that is not empty, ids that the records do not hold, and damaged shards.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: choose another folder, or delete it")
    rows = records.table.assign(split=np.where(records.table["cell"] < 0, "test", "train"))
    if ids is not None:
        if strangers := {*ids} - {*rows["id"]}:
            raise DataError(f"{records.directory} holds no image {some(strangers)}")
        rows = rows[rows["id"].isin([*ids])]
    names = file_names(records.table["id"])
    rows = rows.assign(file=rows["split"] + "/" + rows["id"].map(names) + ENDINGS[format])
    file_of = dict(zip(rows["id"], rows["file"], strict=True))
    part = out.with_name(f"{PART}{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for split in ("train", "test"):
            (part / split).mkdir(parents=True)
        with progress_bar("export", "image", len(rows)) as bar:
            for name, image in iter_images(records, rows["id"]):
                (part / file_of.pop(name)).write_bytes(encode(image, format))
                bar.update()
        if file_of:
            raise DataError(f"{records.directory}: its shards lack {some(file_of)}: build the records again")
        rows[[*_COLUMNS, *truth_columns(records.labels)]].to_csv(part / TABLE, index=False)
        if BOXES in target_format(records.task).columns:
            _boxes(records, rows).to_csv(part / BOX_TABLE, index=False)
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(rows)


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """A name for the file of each id, without ending: no two are the same on a disk that does not tell case apart.

    ASCII letters, digits and `._-` stay, the rest becomes `_`. Whatever is changed, or differs from another in case
    alone, gets a part of the hash of its id. None is a path, hidden, or the name of a device.
    """
    plain = {name: _IMAGE.sub("", name) for name in ids}
    count: dict[str, int] = {}
    for stem in plain.values():
        count[stem.lower()] = count.get(stem.lower(), 0) + 1
    return {
        name: stem if _is_safe(stem) and count[stem.lower()] == 1 else _hashed(name) for name, stem in plain.items()
    }


def _is_safe(stem: str) -> bool:
    """Whether a file can be called so everywhere."""
    return (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", stem) is not None
        and len(stem) <= _LONGEST
        and not stem.endswith(".")
        and not _DEVICE.fullmatch(stem)
        and not re.search(r"-[0-9a-f]{16}$", stem)  # as names with a hash end
    )


def _hashed(name: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", _IMAGE.sub("", name)).lstrip(".")[:_LONGEST]
    return f"{stem or 'image'}-{hashlib.blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def _boxes(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """A row for each box of the images, in pixels of their files; of an image without any, one without numbers."""
    size, lines = records.image.size, []
    for row, file in zip(rows_of(table, records.task, records.image), table["file"], strict=True):
        boxes = np.array(row.target[BOXES], np.float64).reshape(-1, 4) * size
        names = [records.labels[int(number)] for number in row.target["box_labels"]]
        each = [[file, *box, name] for box, name in zip(boxes.round(3).tolist(), names, strict=True)]
        lines += each or [[file, *[None] * 5]]
    return pd.DataFrame(lines, columns=["image", *CORNER, "label"])
