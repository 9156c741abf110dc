"""Example table -> TFRecord shards + manifest, which plain `tf.data.TFRecordDataset` reads.

A directory holds `manifest.json`, `examples.parquet` and shards: `train-cell07-00000.tfrecord`, `test-00000.tfrecord`.
Each tf.train.Example: `id` bytes, `image` bytes, `shape` int64[3], `label` float[L] (NaN = unknown), `group` bytes.

Finished shards survive a killed build: beside each stands a note of what is in it until the manifest takes the notes
over. The manifest is written last, so a directory with a manifest is complete.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from kit import files
from kit.config import DataSettings, ImageSettings
from kit.data.cells import assign_cells
from kit.data.examples import Examples, label_columns
from kit.data.images import UnreadableImage, encode, prepare, read_image
from kit.errors import DataError
from kit.runtime.devices import import_tensorflow

VERSION = 1  # of the format and of what `prepare` does to pixels; a change makes old records stale
_SHARD_BYTES = 256 * 2**20  # of pixels before encoding


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


def plan_fingerprint(competition: str, examples: Examples, image: ImageSettings) -> str:
    """SHA-256 over everything that decides the content of the records (files by name and size, not by content)."""
    table = examples.table.to_csv(index=False)  # as text: the same under every version of pandas
    return files.fingerprint([VERSION, competition, examples.task, examples.labels, image.model_dump(), table])


def build_records(
    competition: str, examples: Examples, root: Path, out: Path, image: ImageSettings, data: DataSettings
) -> Records:
    """Write the records of `examples` (validated; paths relative to `root`) into `out`, or finish a cut-off build.

    Images that cannot be read are left out and named in the manifest. Raises DataError when they are more than
    `data.max_rejected`, when `out` holds the records of something else, and when the disk is full.
    """
    wanted = plan_fingerprint(competition, examples, image)
    if (out / "manifest.json").exists():
        records = open_records(out)
        if records.fingerprint == wanted:
            _drop_notes(out, records.shards)  # a build killed just after it wrote its manifest left them
            return records
        raise DataError(f"{out} holds other records (competition, images or settings differ): give another folder")
    # A build killed at its first file leaves nothing but that file's part.
    foreign = out.exists() and any(not path.name.startswith(files.PART) for path in out.iterdir())
    if foreign and not (out / "building.json").exists():
        raise DataError(f"{out} is not empty and holds no records: give another folder")
    out.mkdir(parents=True, exist_ok=True)
    try:
        _forget_other_build(out, wanted)
        table = _with_cells(examples.table)
        notes = []
        with tqdm(total=len(table), desc="records", unit="image", disable=None) as progress:
            for name, cell, rows in _plan_shards(table, image):
                notes.append(_finished_shard(out / name) or _write_shard(out / name, cell, rows, root, image))
                progress.update(len(rows))
        return _finish(competition, examples, table, out, image, data, wanted, notes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"the disk is full: {out} could not be finished. Free some space and run again "
                "(finished shards are kept), or choose another folder"
            ) from error
        raise


def open_records(directory: Path) -> Records:
    """The records in a directory; raises DataError when there are none, or a shard is absent or of another size."""
    path = directory / "manifest.json"
    if not path.exists():
        hint = "its build was cut off, run it again" if (directory / "building.json").exists() else "build them first"
        raise DataError(f"{directory} holds no records ({hint}: `kit records build COMP --data DIR --out {directory}`)")
    manifest = files.read_json(path)
    if manifest["format_version"] != VERSION:
        raise DataError(
            f"{path} has format {manifest['format_version']}, this kit reads {VERSION}: build the records again"
        )
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


def verify_records(records: Records) -> int:
    """Read everything back: hashes, every example's id, label, group and shape. Returns the number of examples.

    Raises DataError naming the first shard and record that differ from the manifest.
    """
    tf = import_tensorflow()
    for shard in tqdm(records.shards, desc="verify", unit="shard", disable=None):
        path = records.directory / shard.file
        if files.sha256_of(path) != shard.sha256:
            raise DataError(
                f"{path}: the bytes are not those that were written (SHA-256 differs): build the records again"
            )
        rows = records.rows(None if shard.cell is None else [shard.cell])
        first = sum(s.examples for s in records.shards if s.cell == shard.cell and s.file < shard.file)
        expected = rows.iloc[first : first + shard.examples].to_dict("records")
        found = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        if len(found) != len(expected):
            raise DataError(
                f"{path} holds {len(found)} examples, examples.parquet {len(expected)}: build the records again"
            )
        for n, (raw, row) in enumerate(zip(found, expected, strict=True)):
            if not _same_example(tf.train.Example.FromString(raw), row, label_columns(rows), records.image):
                raise DataError(f"{path}, record {n}: not the example {row['id']} of examples.parquet")
    return sum(shard.examples for shard in records.shards)


def _same_example(example: Any, row: dict[Any, Any], labels: list[str], image: ImageSettings) -> bool:
    feature = example.features.feature
    return (
        feature["id"].bytes_list.value[0].decode() == row["id"]
        and feature["group"].bytes_list.value[0].decode() == row["group"]
        and np.array_equal(feature["label"].float_list.value, [row[name] for name in labels], equal_nan=True)
        and tuple(feature["shape"].int64_list.value) == image_shape(image)
    )


def image_shape(image: ImageSettings) -> tuple[int, int, int]:
    """(height, width, channels) of every image in records with these settings."""
    return image.size, image.size, 1 if image.color == "gray" else 3


def _with_cells(table: pd.DataFrame) -> pd.DataFrame:
    cell = assign_cells(table[table["split"] == "train"]).reindex(table.index, fill_value=-1)
    return table.assign(cell=cell).sort_values(
        ["split", "cell", "id"], ascending=[False, True, True], ignore_index=True
    )


def _plan_shards(table: pd.DataFrame, image: ImageSettings) -> Iterator[tuple[str, int | None, pd.DataFrame]]:
    """(file name, cell, rows) of every shard: a cell, or the test set, in pieces of at most 256 MB of pixels."""
    at_most = max(1, _SHARD_BYTES // int(np.prod(image_shape(image))))
    for cell in table["cell"].unique().tolist():
        rows = table[table["cell"] == cell]
        for n, start in enumerate(range(0, len(rows), at_most)):
            name = f"test-{n:05d}.tfrecord" if cell == -1 else f"train-cell{cell:02d}-{n:05d}.tfrecord"
            yield name, None if cell == -1 else cell, rows.iloc[start : start + at_most]


def _write_shard(path: Path, cell: int | None, rows: pd.DataFrame, root: Path, image: ImageSettings) -> dict[str, Any]:
    """Write one shard and then its note: {"shard": ..., "rejected": [...]}."""
    tf = import_tensorflow()
    rejected: list[dict[str, str]] = []
    labels = label_columns(rows)
    with files.replacing(path) as part:
        try:
            with tf.io.TFRecordWriter(str(part)) as writer:
                for row in rows.to_dict("records"):
                    try:
                        pixels = prepare(read_image(root / row["path"]), image)
                    except (UnreadableImage, FileNotFoundError) as error:
                        rejected.append({"id": row["id"], "path": row["path"], "reason": str(error)})
                        continue
                    writer.write(_example(row, labels, pixels, image.encoding))
        except tf.errors.ResourceExhaustedError as error:  # TensorFlow's name for a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        shard = Shard(path.name, cell, len(rows) - len(rejected), part.stat().st_size, files.sha256_of(part))
    note = {"shard": asdict(shard), "rejected": rejected}
    files.write_json(_note(path), note)
    return note


def _example(row: dict[Any, Any], labels: list[str], pixels: np.ndarray, encoding: str) -> bytes:
    tf = import_tensorflow()

    def of_bytes(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "id": of_bytes(row["id"].encode()),
        "image": of_bytes(encode(pixels, "png" if encoding == "auto" else encoding)),
        "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=pixels.shape)),
        "label": tf.train.Feature(float_list=tf.train.FloatList(value=[row[name] for name in labels])),
        "group": of_bytes(row["group"].encode()),
    }
    # deterministic: protobuf otherwise writes a map's entries in any order, and equal records would differ in bytes
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _note(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _finished_shard(path: Path) -> dict[str, Any] | None:
    """The note of a shard that an earlier build finished, or None; None too when an image of it was rejected.

    Such a shard is written anew: somebody may have repaired the image without changing its size.
    """
    if not (path.exists() and _note(path).exists()):
        return None
    note = files.read_json(_note(path))
    return note if path.stat().st_size == note["shard"]["bytes"] and not note["rejected"] else None


def _forget_other_build(out: Path, wanted: str) -> None:
    """Remove what a cut-off build of something else left, and mark the folder as being built."""
    building = out / "building.json"
    if building.exists() and files.read_json(building) != {"fingerprint": wanted}:
        for path in [*out.glob("*.tfrecord"), *out.glob("*.json")]:
            path.unlink()
    files.write_json(building, {"fingerprint": wanted})


def _finish(
    competition: str,
    examples: Examples,
    table: pd.DataFrame,
    out: Path,
    image: ImageSettings,
    data: DataSettings,
    wanted: str,
    notes: list[dict[str, Any]],
) -> Records:
    """Check the share of rejected images, write the table and the manifest, drop the notes."""
    rejected = [entry for note in notes for entry in note["rejected"]]
    if len(rejected) > data.max_rejected * len(table):
        reasons = Counter(entry["reason"] for entry in rejected).most_common(1)[0][0]
        raise DataError(
            f"{len(rejected)} of {len(table)} images cannot be read, such as {rejected[0]['path']} "
            f"({rejected[0]['reason']}; most often: {reasons}). Repair them, or allow a share "
            "of them with --set data.max_rejected=..."
        )
    bad = {entry["id"] for entry in rejected}
    files.write_parquet(out / "examples.parquet", table[~table["id"].isin(bad)].reset_index(drop=True))
    files.write_json(
        out / "manifest.json",
        {
            "format_version": VERSION,
            "competition": competition,
            "task": examples.task,
            "labels": list(examples.labels),
            "fingerprint": wanted,
            "image": image.model_dump(),
            "cells": int(table["cell"].max()) + 1,
            "shards": [note["shard"] for note in notes],
            "rejected": rejected,
        },
    )
    records = open_records(out)
    _drop_notes(out, records.shards)
    return records


def _drop_notes(out: Path, shards: tuple[Shard, ...]) -> None:
    for path in [out / "building.json", *(_note(out / shard.file) for shard in shards)]:
        path.unlink(missing_ok=True)
