"""Records of sets that outgrow one machine: the same shards, byte for byte, written by an Apache Beam runner.

Paths are any that the runner's file systems know: local folders, gs://, s3://, hdfs://. Shards are written under a
temporary name and renamed; those that are finished survive a pipeline that is cut off. Nothing is locked: run one
pipeline at a time.
"""

import hashlib
import io
import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from kit import files
from kit.config import DataSettings, ImageSettings
from kit.data.pixels.arrays import ReadBytes, lies_in_array, reader
from kit.data.records.build import (
    ShardPlan,
    is_whole,
    other_records,
    plan_shards,
    report_remarks,
    rows_of_shard,
    with_cells,
)
from kit.data.records.manifest import BUILDING, EXAMPLES, MANIFEST, Manifest, fingerprint, make_manifest
from kit.data.records.shards import Note, write_shard
from kit.data.table.examples import Examples
from kit.errors import ConfigError, DataError
from kit.schemas import Schema

_Schema = TypeVar("_Schema", bound=Schema)
_TABLE = "building.parquet"  # the table with cells, for the workers; removed once there is a manifest


def build_with_beam(
    competition: str,
    examples: Examples,
    root: str,
    out: str,
    image: ImageSettings,
    data: DataSettings,
    runner: str,
    options: Sequence[str] = (),
) -> Manifest:
    """Write the records of `examples` (paths relative to `root`) into `out`; returns their manifest.

    `runner` is the name of a Beam runner, `options` are its pipeline options, such as `--project=...`. Raises
    ConfigError without Apache Beam, for an unknown runner and for images inside a .npz; DataError when `out` holds
    other records or too many images cannot be read.
    """
    beam, options_of = _import_beam()
    if examples.table["path"].map(lies_in_array).any():
        raise ConfigError("Beam cannot read images inside a .npz: build without --runner")
    expected = fingerprint(competition, examples, image, data)
    if (present := _read_json(out, MANIFEST) or _read_json(out, BUILDING)) is not None:
        if not isinstance(present, dict) or present.get("fingerprint") != expected:
            raise DataError(other_records(out))
        if "shards" in present:
            return _validated(Manifest, present, out, MANIFEST)
    table = with_cells(examples.table)
    plans = plan_shards(table, image, data)
    _write(out, _TABLE, _parquet(table))
    _write(out, BUILDING, files.json_text({"fingerprint": expected}).encode())
    try:
        with beam.Pipeline(options=options_of([f"--runner={runner}", *options])) as pipeline:
            planned = pipeline | beam.Create([tuple(plan) for plan in plans]) | beam.Reshuffle()
            planned | beam.Map(_build_shard, root, out, image.model_dump_json(), examples.task, expected)
    except ValueError as error:
        if runner not in str(error):
            raise
        raise ConfigError(f"Apache Beam has no runner {runner!r}: {error}") from error
    notes = [note for plan in plans if (note := _read_note(out, plan.file))]
    report_remarks(notes)
    manifest, kept = make_manifest(competition, examples, table, image, data, notes)
    content = _parquet(kept)
    manifest = manifest.model_copy(update={"examples_sha256": hashlib.sha256(content).hexdigest()})
    _write(out, EXAMPLES, content)
    _write(out, MANIFEST, files.json_text(manifest.as_json()).encode())
    for name in (_TABLE, BUILDING, *(_note(plan.file) for plan in plans)):
        _file_systems().delete([_join(out, name)])
    return manifest


def _build_shard(planned: tuple[Any, ...], root: str, out: str, image: str, task: str, expected: str) -> None:
    """All that a Beam worker does for a plan: write the shard, then its note, unless an earlier run left them."""
    plan, settings = ShardPlan(*planned), ImageSettings.model_validate_json(image)
    note = _read_note(out, plan.file)
    whole = note is not None and is_whole(note, _size(out, plan.file))
    if note is not None and whole and hashlib.sha256(_read(out, plan.file)).hexdigest() == note.shard.sha256:
        return
    shard = rows_of_shard(plan, _table(_join(out, _TABLE), expected), task, settings, 0)
    part = f"{files.PART}{uuid.uuid4().hex}-{plan.file}"
    with _file_systems().create(_join(out, part)) as file:
        note = write_shard(file, shard, _reader(root), settings)
    _replace(out, part, plan.file)
    _write(out, _note(plan.file), files.json_text(note.as_json()).encode())


def _reader(root: str) -> ReadBytes:
    """From a path of the example table to the bytes of a file below `root`, which may be in an object store."""
    return (lambda path: _read(root, path)) if "://" in root else reader(Path(root), {})


def _import_beam() -> tuple[Any, Any]:
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ConfigError("--runner needs Apache Beam: pip install apache-beam") from error
    return apache_beam, PipelineOptions


def _file_systems() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _join(folder: str, name: str) -> str:
    return str(_file_systems().join(folder, *name.split("/")))


def _note(shard: str) -> str:
    return shard.removesuffix(".tfrecord") + ".json"


def _read_note(folder: str, shard: str) -> Note | None:
    content = _read_json(folder, _note(shard))
    return None if content is None else _validated(Note, content, folder, _note(shard))


def _validated(schema: type[_Schema], content: Any, folder: str, name: str) -> _Schema:
    try:
        return schema.model_validate(content)
    except ValueError as error:  # pydantic's
        raise DataError(f"{_join(folder, name)} is damaged: delete {folder} and build the records again") from error


@cache
def _table(path: str, expected: str) -> pd.DataFrame:
    """The table with cells of the build with that fingerprint: another one may follow in the same folder."""
    with _file_systems().open(path) as file:
        return pd.read_parquet(io.BytesIO(file.read()))


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _size(folder: str, name: str) -> int | None:
    matches = _file_systems().match([_join(folder, name)])[0].metadata_list
    return matches[0].size_in_bytes if matches else None


def _read(folder: str, name: str) -> bytes:
    """The bytes of a file; raises FileNotFoundError when there is none, on any file system."""
    if _size(folder, name) is None:
        raise FileNotFoundError(f"{_join(folder, name)} does not exist")
    with _file_systems().open(_join(folder, name), compression_type="uncompressed") as file:  # .nii.gz stays packed
        return bytes(file.read())


def _read_json(folder: str, name: str) -> Any:
    try:
        return json.loads(_read(folder, name))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{_join(folder, name)} is damaged: delete {folder} and build the records again") from error


def _write(folder: str, name: str, data: bytes) -> None:
    part = f"{files.PART}{uuid.uuid4().hex}-{name}"
    with suppress(OSError):  # it exists; object stores have no folders
        _file_systems().mkdirs(folder)
    with _file_systems().create(_join(folder, part)) as file:
        file.write(data)
    _replace(folder, part, name)


def _replace(folder: str, part: str, name: str) -> None:
    if _size(folder, name) is not None:  # not every file system renames onto a file
        _file_systems().delete([_join(folder, name)])
    _file_systems().rename([_join(folder, part)], [_join(folder, name)])
