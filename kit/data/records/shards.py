"""Rows of the example table -> one shard: the work of one process. To start fast, it imports no TensorFlow, no pandas.

Each tf.train.Example: `id` bytes, `image` bytes, `shape` int64[3], `label` float[L] (NaN = unknown), `group` bytes. The
image decodes to `shape` when the decoder is told its number of channels: grey is stored as one.
"""

import hashlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np

from kit import files
from kit.config import ImageSettings
from kit.data.pixels.arrays import reader
from kit.data.pixels.images import encode, load
from kit.data.pixels.steps import apply_steps
from kit.data.records import tfrecord
from kit.errors import DataError, UnreadableImage
from kit.schemas import Schema

_REMEDY = "delete the folder and build the records again"


class Row(NamedTuple):
    """What a shard takes of a row of the example table."""

    id: str
    path: str
    group: str
    labels: list[float]


class Shard(Schema):
    """One shard file: its cell (None: test), how many examples and bytes, and the SHA-256 of the file."""

    file: str
    cell: int | None
    examples: int
    bytes: int
    sha256: str


class Rejected(Schema):
    """An image that could not be read, and why."""

    id: str
    path: str
    reason: str


class Note(Schema):
    """What a finished shard holds and lacks, until the manifest takes it over."""

    shard: Shard
    rejected: tuple[Rejected, ...]


class ShardRows(NamedTuple):
    """A shard to be written: `cell` is None for the test set, `number` its place in the array of progress."""

    file: str
    cell: int | None
    rows: list[Row]
    number: int


def image_shape(image: ImageSettings) -> tuple[int, int, int]:
    """(height, width, channels) of every image in records with these settings."""
    return image.size, image.size, 1 if image.color == "gray" else 3


def write_shard(
    file: BinaryIO,
    job: ShardRows,
    read: Callable[[str], bytes],
    image: ImageSettings,
    tick: Callable[[], None] = lambda: None,
) -> Note:
    """Write the rows' examples to `file`; returns the shard's note.

    `read` gives the bytes of a path; `tick` is called once an image. Memory holds one image at a time (with
    super-resolution: one batch). Images that cannot be read are left out, with the reason in the note.
    """
    rejected: list[Rejected] = []
    pending: deque[Row] = deque()  # rows whose images are between decoding and encoding

    def loaded() -> Iterator[np.ndarray | bytes]:
        for row in job.rows:
            tick()
            try:
                content = load(read(row.path), image)
            except (UnreadableImage, FileNotFoundError) as error:
                rejected.append(Rejected(id=row.id, path=row.path, reason=str(error)))
                continue
            pending.append(row)
            yield content

    digest, size, shape = hashlib.sha256(), 0, image_shape(image)
    for content in apply_steps(loaded(), image):
        row = pending.popleft()
        record = tfrecord.framed(
            tfrecord.serialise(
                {
                    "id": [row.id.encode()],
                    "image": [content if isinstance(content, bytes) else encode(content, image.encoding)],
                    "shape": shape,
                    "label": row.labels,
                    "group": [row.group.encode()],
                }
            )
        )
        file.write(record)
        digest.update(record)
        size += len(record)
    shard = Shard(
        file=job.file,
        cell=job.cell,
        examples=len(job.rows) - len(rejected),
        bytes=size,
        sha256=digest.hexdigest(),
    )
    return Note(shard=shard, rejected=tuple(rejected))


def build_shard(
    job: ShardRows, root: Path, arrays: dict[str, Path], out: Path, image: ImageSettings, progress: Path, parent: int
) -> None:
    """Write one shard and then its note into `out`; a worker's whole task. `parent` is the process that waits for it.

    `arrays` says where `kit.data.pixels.arrays.unpacked` laid the arrays that paths lead into.
    The number of images done is kept in the array that `progress` maps. A worker whose parent was killed stops.
    """
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of us; the parent ends the workers
        cv2.setNumThreads(1)  # the processes share the cores already
    done = np.memmap(progress, np.int64, "r+")

    def tick() -> None:
        done[job.number] += 1
        if parent not in (os.getpid(), os.getppid()):  # at once: somebody else may be building here already
            os._exit(1)

    with files.replacing(out / job.file) as part, part.open("wb") as file:
        note = write_shard(file, job, reader(root, arrays), image, tick)
    files.write_json(note_path(out / job.file), note.as_json())


def note_path(shard: Path) -> Path:
    """Where the note of a finished shard lies until the manifest takes it over."""
    return shard.with_suffix(".json")


def verify_shard(path: Path, sha256: str, rows: list[Row], shape: tuple[int, int, int]) -> None:
    """Read a shard back; raises DataError unless it holds just these rows and its bytes have that SHA-256."""
    found = 0
    try:
        for found, data in enumerate(tfrecord.read_records(path), start=1):
            if found > len(rows) or not _is_example_of(data, rows[found - 1], shape):
                expected = f"the example {rows[found - 1].id}" if found <= len(rows) else "any example"
                raise DataError(f"{path}, record {found - 1}: not {expected} of examples.parquet: {_REMEDY}")
    except tfrecord.CorruptRecord as error:
        raise DataError(f"{path}: {error}: {_REMEDY}") from error
    if found != len(rows):
        raise DataError(f"{path} holds {found} examples, examples.parquet {len(rows)}: {_REMEDY}")
    if files.sha256_of(path) != sha256:
        raise DataError(f"{path}: the bytes are not those that were written (SHA-256 differs): {_REMEDY}")


def _is_example_of(data: bytes, row: Row, shape: tuple[int, int, int]) -> bool:
    try:
        example = tfrecord.parse(data)
    except ValueError:
        return False
    return (
        example.get("id") == [row.id.encode()]
        and example.get("group") == [row.group.encode()]
        and example.get("shape") == list(shape)
        and np.array_equal(example.get("label", []), row.labels, equal_nan=True)
        and len(example.get("image", [])) == 1
    )
