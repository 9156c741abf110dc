"""A records directory: its manifest, opening and verifying it. Plain `tf.data.TFRecordDataset` reads its shards.

A directory holds `manifest.json`, `examples.parquet` and shards: `train-cell07-00000.tfrecord`, `test-00000.tfrecord`.
The manifest is written last, so a directory with a manifest is complete.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.config import DataSettings, ImageSettings
from kit.data.records.shards import Note, Rejected, Row, Shard, image_shape, verify_shard
from kit.data.records.targets import target_format
from kit.data.table.examples import Examples
from kit.errors import DataError, share_to_allow
from kit.parallel import count_workers, in_processes, progress_bar
from kit.runtime.session import KAGGLE_INPUT, mounted
from kit.schemas import Schema
from kit.tables import truth, truth_columns

MANIFEST, EXAMPLES, BUILDING = "manifest.json", "examples.parquet", "building.json"

VERSION = 3  # of the format and of what `prepare` does to pixels; older records are refused
_NOT_OPENED = ("format_version", "sha256")  # fields of a manifest that opened records do not have
_IDENTITY = (
    "id",
    "path",
    "bytes",
    "group",
    "fold_of",
    "crc32",
)  # with the truth, the columns that decide what is trained on


class Fingerprints(Schema):
    """SHA-256 of the training examples, of the test examples and of the image settings. Metadata are in none of them.

    A trained fold depends on the first and the last alone.
    """

    training: str
    test: str
    image: str


class Manifest(Schema):
    """`manifest.json`; `fingerprint` covers everything that decides the content of the directory."""

    format_version: int
    competition: str
    task: str
    labels: tuple[str, ...]
    fingerprint: str
    fingerprints: Fingerprints
    image: ImageSettings
    cells: int
    shards: tuple[Shard, ...]
    rejected: tuple[Rejected, ...]
    examples_sha256: str | None = None  # of `examples.parquet`; absent in records of older versions
    sha256: str | None = None  # of all else in the manifest

    def as_json(self) -> dict[str, Any]:
        """The manifest as values that JSON can hold: all image settings, so that a later default changes none."""
        values = self.model_dump(mode="json", exclude={"sha256"})
        return {**values, "sha256": files.fingerprint(values)}


@dataclass(frozen=True)
class Records:
    """An opened records directory: the values of its manifest, and its example table with `cell` (-1 for test)."""

    directory: Path
    competition: str
    task: str
    labels: tuple[str, ...]
    fingerprint: str
    fingerprints: Fingerprints
    image: ImageSettings
    cells: int
    shards: tuple[Shard, ...]
    rejected: tuple[Rejected, ...]
    examples_sha256: str | None
    table: pd.DataFrame = field(repr=False)

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.directory / MANIFEST

    def require_competition(self, name: str) -> None:
        """Raise DataError unless they are records of that competition."""
        if self.competition != name:
            raise DataError(f"{self.directory} holds records of {self.competition!r}, not of {name!r}")

    def shard_paths(self, cells: list[int] | None) -> list[Path]:
        """The shards of some training cells, or of the test set (None), in order."""
        chosen: set[int | None] = {None} if cells is None else set(cells)
        return [self.directory / shard.file for shard in self.shards if shard.cell in chosen]

    def rows(self, cells: list[int] | None) -> pd.DataFrame:
        """The example rows of some training cells, or of the test set (None), in the order of the shards."""
        return self.table[self.table["cell"].isin([-1] if cells is None else cells)]


def rows_of(table: pd.DataFrame, task: str, image: ImageSettings) -> list[Row]:
    """What shards take of the rows of an example table, in order."""
    return list(map(Row, table["id"], table["path"], table["group"], target_format(task).features(table, image)))


def fingerprint(competition: str, examples: Examples, image: ImageSettings, data: DataSettings) -> str:
    """SHA-256 over everything that decides the content of the records (files by name and size, not by content)."""
    settings = [image.model_dump(), data.shard_mib]
    return files.fingerprint([VERSION, competition, examples.task, examples.labels, settings, _digest(examples.table)])


def fingerprints(competition: str, examples: Examples, image: ImageSettings, data: DataSettings) -> Fingerprints:
    """The fingerprints of the parts: each depends on its own part alone."""
    identity = (*_IDENTITY, *target_format(examples.task).columns)
    columns = [column for column in identity if column in examples.table.columns]
    y = truth_columns(examples.labels)
    table = examples.table[[*columns, *y]].astype(dict.fromkeys(y, np.float32))
    common = [VERSION, competition, examples.task, examples.labels, data.shard_mib]
    parts = {split: _digest(table[examples.table["split"] == split]) for split in ("train", "test")}
    return Fingerprints(
        training=files.fingerprint([*common, parts["train"]]),
        test=files.fingerprint([*common, parts["test"]]),
        image=files.fingerprint([VERSION, image.model_dump()]),
    )


def mounted_records(fingerprint: str, root: Path = KAGGLE_INPUT) -> Path | None:
    """The records directory with this `fingerprint` among Kaggle's mounts, or None."""
    manifests = ((path, read_manifest(path)) for path in mounted(MANIFEST, root))
    return next((path.parent for path, manifest in manifests if manifest and manifest.fingerprint == fingerprint), None)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, or None where the file is something else, such as another program's `manifest.json`."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def require_readable(rejected: Sequence[Rejected], images: int, data: DataSettings) -> None:
    """Raise DataError when more than `data.max_rejected` of the images could not be read."""
    if not images or len(rejected) / images <= data.max_rejected:
        return
    reason, count = Counter(entry.reason for entry in rejected).most_common(1)[0]
    first = next(entry.path for entry in rejected if entry.reason == reason)
    more = f", as are {count - 1} more" if count > 1 else ""
    share = share_to_allow(len(rejected), images)
    remedy = f", or leave them out with --set data.max_rejected={share:g}" if share < 1 else ""
    raise DataError(
        f"{len(rejected)} of {images} images cannot be read, such as {first} ({reason}{more}): repair them{remedy}"
    )


def make_manifest(
    competition: str,
    examples: Examples,
    table: pd.DataFrame,
    image: ImageSettings,
    data: DataSettings,
    notes: Sequence[Note],
) -> tuple[Manifest, pd.DataFrame]:
    """The manifest from the notes of all shards, and the table (with cells) without the rejected rows.

    Raises DataError when more than `data.max_rejected` of the images could not be read.
    """
    rejected = tuple(entry for note in notes for entry in note.rejected)
    require_readable(rejected, len(table), data)
    manifest = Manifest(
        format_version=VERSION,
        competition=competition,
        task=examples.task,
        labels=examples.labels,
        fingerprint=fingerprint(competition, examples, image, data),
        fingerprints=fingerprints(competition, examples, image, data),
        image=image,
        cells=int(table["cell"].max()) + 1,
        shards=tuple(note.shard for note in notes),
        rejected=rejected,
    )
    bad = {entry.id for entry in rejected}
    return manifest, table[~table["id"].isin(bad)].reset_index(drop=True)


def open_records(directory: Path | str) -> Records:
    """The records in a directory; raises DataError, naming the file, when there are none, or one is missing or damaged.

    Of shards it looks at the sizes alone: `verify_records` reads them.
    """
    directory = files.expanded(directory)
    path = directory / MANIFEST
    if not path.exists():
        hint = "their build was cut off, run it again" if (directory / BUILDING).exists() else "build them first"
        raise DataError(f"{directory} holds no records ({hint}: `kit records build COMP --data DIR --out {directory}`)")
    content = files.read_json(path, _remedy(directory))
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise DataError(f"{path} is not the manifest of records, or damaged: {_remedy(directory)}")
    if version != VERSION:
        remedy = "install a newer kit" if version > VERSION else "build the records again in another folder"
        raise DataError(f"{path} has format {version}, this kit reads {VERSION}: {remedy}")
    manifest = files.read_model(path, Manifest, _remedy(directory))
    rest = {name: value for name, value in content.items() if name != "sha256"}
    if manifest.sha256 and files.fingerprint(rest) != manifest.sha256:
        raise files.damaged(path, "it is not as it was written", _remedy(directory))
    for shard in manifest.shards:
        file = files.inside(directory, shard.file)
        if not file.is_file() or file.stat().st_size != shard.bytes:
            raise DataError(f"{file} is missing or not {shard.bytes} bytes long: {_remedy(directory)}")
    values = {name: getattr(manifest, name) for name in Manifest.model_fields if name not in _NOT_OPENED}
    return Records(directory=directory, table=_read_table(directory / EXAMPLES, manifest), **values)


def _read_table(path: Path, manifest: Manifest) -> pd.DataFrame:
    """The example table of records; raises DataError when it is not that of the manifest."""
    remedy, expected = _remedy(path.parent), manifest.examples_sha256
    if expected and path.is_file() and files.sha256_of(path) != expected:
        raise files.damaged(path, "it is not as it was written", remedy)
    table = files.read_parquet(path, remedy)
    columns = ("id", "path", "group", "split", "cell", *truth_columns(manifest.labels))
    if absent := [name for name in columns if name not in table.columns]:
        raise files.damaged(path, f"it has no column {absent[0]}", remedy)
    counts = Counter({-1 if shard.cell is None else shard.cell: 0 for shard in manifest.shards})
    for shard in manifest.shards:
        counts[-1 if shard.cell is None else shard.cell] += shard.examples
    rows = table["cell"].value_counts().to_dict()
    if {cell: count for cell, count in counts.items() if count} != rows or table["id"].duplicated().any():
        raise files.damaged(path, "its rows are not those of the shards", remedy)
    return table


def _remedy(directory: Path) -> str:
    return f"delete {directory} and build the records again"


def verify_records(records: Records, workers: int | None = None) -> int:
    """Read everything back: hashes; id, target, group and shape of every example. Returns the number of examples.

    Raises DataError that names the shard, the record and its bytes where the first difference is.
    """
    calls, total = [], 0
    for shard in records.shards:
        rows = records.rows(None if shard.cell is None else [shard.cell])
        first = sum(s.examples for s in records.shards if s.cell == shard.cell and s.file < shard.file)
        expected = rows_of(rows.iloc[first : first + shard.examples], records.task, records.image)
        calls.append((records.directory / shard.file, shard.sha256, expected, image_shape(records.image)))
        total += shard.examples
    with progress_bar("verify", "shard", len(calls)) as bar:
        for _ in in_processes(verify_shard, calls, count_workers(total, workers)):
            bar.update()
    return total


def describe(records: Records) -> pd.DataFrame:
    """Examples, groups, MiB and positives of each label: a row for `train`, `test` and every cell ("cell 7")."""
    table, labels = records.table, records.labels
    sizes = pd.Series({shard.file: shard.bytes for shard in records.shards}, dtype="int64")
    cells = pd.Series({shard.file: -1 if shard.cell is None else shard.cell for shard in records.shards})
    mib = sizes.groupby(cells).sum() / 2**20

    def counted(rows: pd.DataFrame, mib: float) -> dict[str, Any]:
        y = truth(rows, labels)
        positive = dict(zip(labels, (y > 0.5).sum(axis=0).tolist(), strict=True))
        unknown = {f"{label} unknown": int(np.isnan(y[:, n]).sum()) for n, label in enumerate(labels)}
        counts = {name: count for name, count in unknown.items() if count}
        return {"examples": len(rows), "groups": rows["group"].nunique(), "MiB": round(mib, 1), **positive, **counts}

    parts = {
        "train": counted(table[table["cell"] >= 0], float(mib.drop(-1, errors="ignore").sum())),
        "test": counted(table[table["cell"] < 0], float(mib.get(-1, 0.0))),
        **{f"cell {c}": counted(rows, float(mib[c])) for c, rows in table[table["cell"] >= 0].groupby("cell")},
    }
    return pd.DataFrame.from_dict(parts, orient="index").fillna(0)


def _digest(table: pd.DataFrame) -> str:
    """SHA-256 of a table as CSV."""
    text = _HashedText()
    table.to_csv(text, index=False)
    return text.digest.hexdigest()


class _HashedText(io.StringIO):
    """A text file that is hashed as it is written, so that a table of 220,000 rows is never one string."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()

    def write(self, text: str) -> int:
        self.digest.update(text.encode())
        return len(text)
