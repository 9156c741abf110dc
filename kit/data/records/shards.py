"""Rows of the example table -> one shard: the work of one process. To start fast, it imports no TensorFlow, no pandas.

Each tf.train.Example: `id` bytes, `image` bytes, `shape` int64[3], `group` bytes, and the target (targets.py): `label`
float[L], NaN = unknown. The image decodes to `shape` when the decoder is told the channels: grey is stored as one.
"""

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
from kit.data.pixels import jpeg
from kit.data.pixels.arrays import reader
from kit.data.pixels.images import encode, load
from kit.data.pixels.remarks import counted
from kit.data.pixels.steps import apply_steps
from kit.data.records import tfrecord
from kit.errors import DataError, UnreadableImage
from kit.schemas import Schema

_REMEDY = "delete the folder and build the records again"


class Row(NamedTuple):
    """What a shard takes of a row of the example table; `target` as kit.data.records.targets gives it."""

    id: str
    path: str
    group: str
    target: dict[str, list[float] | list[int]]


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
    """What a finished shard holds and lacks, and what was odd. It stands beside the shard until there is a manifest."""

    shard: Shard
    rejected: tuple[Rejected, ...]
    remarks: dict[str, int] = {}


class ShardRows(NamedTuple):
    """A shard to write: `cell` is None for the test set, `number` is its place in the array of progress."""

    file: str
    cell: int | None
    rows: list[Row]
    number: int


def image_shape(image: ImageSettings) -> tuple[int, int, int]:
    """(height, width, channels) of every image in records with these settings."""
    return image.size, image.size, 1 if image.color == "gray" else 3


def write_shard(
    file: BinaryIO,
    shard: ShardRows,
    read: Callable[[str], bytes],
    image: ImageSettings,
    tick: Callable[[], None] = lambda: None,
) -> Note:
    """Write the examples of the rows to `file`; returns the shard's note.

    `read` returns the bytes of a path; `tick` is called once per image. Memory holds one image at a time (with
    super-resolution: one batch). Images that cannot be read are left out, with the reason in the note.
    """
    rejected: list[Rejected] = []
    pending: deque[Row] = deque()  # rows whose images are between decoding and encoding

    def loaded() -> Iterator[np.ndarray | bytes]:
        for row in shard.rows:
            tick()
            try:
                content = load(read(row.path), image)
            except (UnreadableImage, FileNotFoundError) as error:
                rejected.append(Rejected(id=row.id, path=row.path, reason=str(error)))
                continue
            pending.append(row)
            yield content

    def examples() -> Iterator[bytes]:
        for content in _naming_image(apply_steps(loaded(), image), pending):
            row = pending.popleft()
            yield tfrecord.serialise(
                {
                    "id": [row.id.encode()],
                    "image": [content if isinstance(content, bytes) else encode(content, image.encoding)],
                    "shape": image_shape(image),
                    "group": [row.group.encode()],
                    **row.target,
                }
            )

    with counted() as remarks:
        count, size, sha256 = tfrecord.write_records(file, examples())
    description = Shard(file=shard.file, cell=shard.cell, examples=count, bytes=size, sha256=sha256)
    return Note(shard=description, rejected=tuple(rejected), remarks=dict(remarks))


def _naming_image(images: Iterator[np.ndarray | bytes], pending: deque[Row]) -> Iterator[np.ndarray | bytes]:
    """The images; an error over one of them names its file."""
    try:
        yield from images
    except DataError as error:
        raise DataError(f"{pending[-1].path}: {error}") from error


def build_shard(
    shard: ShardRows, root: Path, arrays: dict[str, Path], out: Path, image: ImageSettings, progress: Path, parent: int
) -> None:
    """Write one shard, then its note, into `out`: all that a worker does. `parent` is the process that waits for it.

    `arrays` is what `kit.data.pixels.arrays.unpacked` returned. The array that `progress` maps counts the images that
    are done. A worker whose parent was killed stops.
    """
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends the workers
        cv2.setNumThreads(1)  # the processes share the cores already
    done = np.memmap(progress, np.int64, "r+")

    def tick() -> None:
        done[shard.number] += 1
        if parent not in (os.getpid(), os.getppid()):  # at once: another process may already be building here
            os._exit(1)

    with files.replacing(out / shard.file) as part, part.open("wb") as file:
        note = write_shard(file, shard, reader(root, arrays), image, tick)
    files.write_json(note_path(out / shard.file), note.as_json())


def note_path(shard: Path) -> Path:
    """Where the note of a finished shard is until there is a manifest."""
    return shard.with_suffix(".json")


def verify_shard(path: Path, sha256: str, rows: list[Row], shape: tuple[int, int, int]) -> None:
    """Read a shard back; raises DataError unless it holds exactly these rows and its bytes have that SHA-256.

    JPEGs are decoded, at an eighth of their size: they may have been stored as they came.
    """
    count = 0
    try:
        for n, data in enumerate(tfrecord.read_records(path)):
            if n >= len(rows) or not _is_example_of(data, rows[n], shape):
                expected = f"the example {rows[n].id}" if n < len(rows) else "any example"
                raise DataError(f"{path}, record {n}: not {expected} of examples.parquet: {_REMEDY}")
            reason = _damage(data)
            if reason is not None:
                raise DataError(
                    f"{path}, record {n}: the image of {rows[n].id}, {rows[n].path}, cannot be decoded ({reason}): "
                    f"repair it or leave it out, then {_REMEDY}"
                )
            count = n + 1
    except tfrecord.CorruptRecord as error:
        raise DataError(f"{path}: {error}: {_REMEDY}") from error
    if count != len(rows):
        raise DataError(f"{path} holds {count} examples, examples.parquet {len(rows)}: {_REMEDY}")
    if files.sha256_of(path) != sha256:
        raise DataError(f"{path}: the bytes have changed since they were written (SHA-256 differs): {_REMEDY}")


def _damage(data: bytes) -> str | None:
    """Why the image of an example cannot be decoded, if it is a JPEG, perhaps as it came; None if it can."""
    (image,) = tfrecord.parse(data)["image"]
    return jpeg.damage(image) if jpeg.is_jpeg(image) else None


def _is_example_of(data: bytes, row: Row, shape: tuple[int, int, int]) -> bool:
    try:
        example = tfrecord.parse(data)
    except ValueError:
        return False
    return (
        example.get("id") == [row.id.encode()]
        and example.get("group") == [row.group.encode()]
        and example.get("shape") == list(shape)
        and all(np.array_equal(example.get(name, []), row.target[name], equal_nan=True) for name in row.target)
        and len(example.get("image", [])) == 1
    )
