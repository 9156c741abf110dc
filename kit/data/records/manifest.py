"""What a records directory holds and says of itself: opened, verified. Plain `tf.data.TFRecordDataset` reads it.

A directory holds `manifest.json`, `examples.parquet` and shards: `train-cell07-00000.tfrecord`, `test-00000.tfrecord`.
The manifest is written last, so a directory with a manifest is complete.
"""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.config import DataSettings, ImageSettings
from kit.data.records.shards import Row, image_shape, verify_shard
from kit.data.table.examples import Examples, label_columns
from kit.errors import DataError
from kit.parallel import count_workers, in_processes, progress_bar
from kit.runtime.session import KAGGLE_INPUT, mounted

VERSION = 2  # of the format and of what `prepare` does to pixels; a change makes old records stale


@dataclass(frozen=True)
class Shard:
    """One shard file: its cell (None: test), how many examples and bytes, and the SHA-256 of the file."""

    file: str
    cell: int | None
    examples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Records:
    """An opened records directory: its manifest's values and its example table (with a column `cell`, -1 for test)."""

    directory: Path
    competition: str
    task: str
    labels: tuple[str, ...]
    fingerprint: str
    image: ImageSettings
    cells: int
    shards: tuple[Shard, ...]
    rejected: tuple[dict[str, str], ...]
    table: pd.DataFrame = field(repr=False)

    def shard_paths(self, cells: list[int] | None) -> list[Path]:
        """The shards of some training cells, or of the test set (None), in order."""
        wanted: set[int | None] = {None} if cells is None else set(cells)
        return [self.directory / shard.file for shard in self.shards if shard.cell in wanted]

    def rows(self, cells: list[int] | None) -> pd.DataFrame:
        """The example rows of some training cells, or of the test set (None), in the order of the shards."""
        return self.table[self.table["cell"].isin([-1] if cells is None else cells)]


def rows_of(table: pd.DataFrame) -> list[Row]:
    """What shards take of the rows of an example table, in order."""
    labels = table[label_columns(table)].to_numpy(np.float32).tolist()
    return list(map(Row, table["id"], table["path"], table["group"], labels))


def plan_fingerprint(competition: str, examples: Examples, image: ImageSettings, data: DataSettings) -> str:
    """SHA-256 over everything that decides the content of the records (files by name and size, not by content)."""
    text = _HashedText()
    examples.table.to_csv(text, index=False)  # as text: the same under every version of pandas
    settings = [image.model_dump(), data.shard_mib]
    return files.fingerprint([VERSION, competition, examples.task, examples.labels, settings, text.digest.hexdigest()])


def mounted_records(fingerprint: str, root: Path = KAGGLE_INPUT) -> Path | None:
    """The records directory with that `plan_fingerprint` among Kaggle's mounts; None where there is none."""
    for path in mounted("manifest.json", root):
        try:
            if files.read_json(path).get("fingerprint") == fingerprint:
                return path.parent
        except (DataError, AttributeError, OSError):  # somebody else's manifest.json
            continue
    return None


def manifest_of(
    competition: str,
    examples: Examples,
    table: pd.DataFrame,
    image: ImageSettings,
    data: DataSettings,
    fingerprint: str,
    notes: list[dict[str, Any]],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The manifest over the notes of all shards, and the table (with cells) without the rejected rows.

    Raises DataError when more than `data.max_rejected` of the images could not be read.
    """
    rejected = [entry for note in notes for entry in note["rejected"]]
    if len(rejected) > data.max_rejected * len(table):
        reason = Counter(entry["reason"] for entry in rejected).most_common(1)[0][0]
        raise DataError(
            f"{len(rejected)} of {len(table)} images cannot be read, such as {rejected[0]['path']} "
            f"({rejected[0]['reason']}; most often: {reason}). Repair them, or allow a share "
            "of them with --set data.max_rejected=..."
        )
    manifest = {
        "format_version": VERSION,
        "competition": competition,
        "task": examples.task,
        "labels": list(examples.labels),
        "fingerprint": fingerprint,
        "image": image.model_dump(),
        "cells": int(table["cell"].max()) + 1,
        "shards": [note["shard"] for note in notes],
        "rejected": rejected,
    }
    bad = {entry["id"] for entry in rejected}
    return manifest, table[~table["id"].isin(bad)].reset_index(drop=True)


def open_records(directory: Path) -> Records:
    """The records in a directory; raises DataError when there are none, or a shard is absent or of another size."""
    path = directory / "manifest.json"
    if not path.exists():
        hint = "its build was cut off, run it again" if (directory / "building.json").exists() else "build them first"
        raise DataError(f"{directory} holds no records ({hint}: `kit records build COMP --data DIR --out {directory}`)")
    manifest = files.read_json(path)
    if (version := manifest["format_version"]) != VERSION:
        remedy = "install a newer kit" if version > VERSION else "build the records again in another folder"
        raise DataError(f"{path} has format {version}, this kit reads {VERSION}: {remedy}")
    shards = tuple(Shard(**shard) for shard in manifest["shards"])
    for shard in shards:
        file = directory / shard.file
        if not file.exists() or file.stat().st_size != shard.bytes:
            raise DataError(f"{file} is absent or not {shard.bytes} bytes long: delete {directory} and build again")
    return Records(
        directory=directory,
        competition=manifest["competition"],
        task=manifest["task"],
        labels=tuple(manifest["labels"]),
        fingerprint=manifest["fingerprint"],
        image=ImageSettings(**manifest["image"]),
        cells=manifest["cells"],
        shards=shards,
        rejected=tuple(manifest["rejected"]),
        table=pd.read_parquet(directory / "examples.parquet"),
    )


def verify_records(records: Records, workers: int | None = None) -> int:
    """Read everything back: hashes, every example's id, label, group and shape. Returns the number of examples.

    Raises DataError naming a shard, and in it the first record and its bytes, that are not as they were written.
    """
    calls, total = [], 0
    for shard in records.shards:
        rows = records.rows(None if shard.cell is None else [shard.cell])
        first = sum(s.examples for s in records.shards if s.cell == shard.cell and s.file < shard.file)
        expected = rows_of(rows.iloc[first : first + shard.examples])
        calls.append((records.directory / shard.file, shard.sha256, expected, image_shape(records.image)))
        total += shard.examples
    with progress_bar("verify", "shard", len(calls)) as bar:
        for _ in in_processes(verify_shard, calls, count_workers(total, workers)):
            bar.update()
    return total


def describe(records: Records) -> pd.DataFrame:
    """Examples, groups, MiB and each label's positives: a row for `train`, `test` and every cell ("cell 7")."""
    table, labels = records.table, label_columns(records.table)
    sizes = pd.Series({shard.file: shard.bytes for shard in records.shards}, dtype="int64")
    cells = pd.Series({shard.file: -1 if shard.cell is None else shard.cell for shard in records.shards})
    mib = sizes.groupby(cells).sum() / 2**20

    def counted(rows: pd.DataFrame, mib: float) -> dict[str, Any]:
        known = {f"{name[2:]} unknown": int(rows[name].isna().sum()) for name in labels if rows[name].isna().any()}
        positive = {name[2:]: int((rows[name] > 0.5).sum()) for name in labels}
        groups = rows["group"].nunique()
        return {"examples": len(rows), "groups": groups, "MiB": round(mib, 1), **positive, **known}

    parts = {
        "train": counted(table[table["cell"] >= 0], float(mib.drop(-1, errors="ignore").sum())),
        "test": counted(table[table["cell"] < 0], float(mib.get(-1, 0.0))),
        **{f"cell {c}": counted(rows, float(mib[c])) for c, rows in table[table["cell"] >= 0].groupby("cell")},
    }
    return pd.DataFrame.from_dict(parts, orient="index").fillna(0)


class _HashedText(io.StringIO):
    """A text file that is only hashed, so that a table of 220,000 rows is never one string."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()

    def write(self, text: str) -> int:
        self.digest.update(text.encode())
        return len(text)
