"""Single images of records, by id: what the networks see, for people to look at."""

from collections.abc import Collection, Iterator

import numpy as np

from kit.data.records import tfrecord
from kit.data.records.manifest import Records
from kit.data.records.shards import image_shape
from kit.data.records.thread_reader import Unreadable, pixels_of
from kit.errors import DataError, some


def images_of(records: Records, ids: Collection[str]) -> dict[str, np.ndarray]:
    """The images of these ids by id, uint8 [size, size, 1 or 3] each; all of them are in memory at once.

    Raises DataError for ids that the records do not hold, and for damaged shards.
    """
    found = dict(iter_images(records, ids))
    if missing := [name for name in ids if name not in found]:
        raise DataError(f"{records.directory} holds no image {some(missing, 3)}")
    return found


def iter_images(records: Records, ids: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Id and image of those ids that the records hold, in the order of the shards; others are left out."""
    wanted, shape = set(ids), image_shape(records.image)
    first: dict[int | None, int] = {}
    for shard in records.shards:
        rows = records.rows(None if shard.cell is None else [shard.cell])["id"]
        start = first.get(shard.cell, 0)
        first[shard.cell] = start + shard.examples
        numbers = {n for n, name in enumerate(rows.iloc[start : first[shard.cell]]) if name in wanted}
        if not numbers:
            continue
        try:
            for data in tfrecord.read_records(records.directory / shard.file, numbers):
                features = tfrecord.parse(data, ("id", "image"))
                (name,), (image,) = features["id"], features["image"]
                yield name.decode(), _pixels(name, image, shape, records.image.encoding == "raw")
        except (tfrecord.CorruptRecord, OSError, ValueError) as error:
            raise Unreadable(f"{records.directory / shard.file} cannot be read: {error}") from error


def _pixels(name: bytes, image: bytes, shape: tuple[int, int, int], raw: bool) -> np.ndarray:
    return np.frombuffer(image, np.uint8).reshape(shape) if raw else pixels_of(name, image, shape)
