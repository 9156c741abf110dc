"""Records -> batches of uint8 images. Everything after happens on the accelerator.

Two modules read: `tensorflow_reader` with tf.data and `thread_reader` without; both in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kit.config import InputSettings
from kit.data.records.epochs import ONE_HOST, Epochs, Host
from kit.data.records.manifest import Records, verify_records
from kit.data.records.shards import image_shape
from kit.errors import ConfigError, DataError
from kit.runtime.devices import has_tensorflow
from kit.runtime.session import free_memory
from kit.tables import truth

_SHUFFLE_SHARE = 0.25  # of the free memory, for encoded images
_CACHE_SHARE = 0.75  # of the free memory, at most


class Batch(NamedTuple):
    """An evaluation batch of B rows, the last of which may be padding.

    `images` uint8 [B, H, W, C] · `mask` bool [B], False for padding · `ids` of the rows that are not padding.
    """

    images: np.ndarray
    mask: np.ndarray
    ids: list[str]


def steps_per_epoch(records: Records, cells: list[int], batch_size: int) -> int:
    """The number of whole batches in an epoch; the rest is dropped. Raises ConfigError when there is none."""
    examples = len(records.rows(cells))
    if examples < batch_size:
        raise ConfigError(f"train.batch_size = {batch_size}, but a fold trains on {examples} images: make it smaller")
    return examples // batch_size


def shuffle_buffer(records: Records, cells: list[int], free: int | None = None) -> int:
    """How many examples to shuffle among: all of those cells, if they fit into a quarter of the free memory (bytes).

    Then they stay in memory, encoded, and the shards are read once. The order of an epoch depends on this number, so a
    run keeps the one with which it began.
    """
    room = _SHUFFLE_SHARE * (free_memory() if free is None else free)
    examples = len(records.rows(cells))
    return max(1, min(examples, int(room / max(1.0, _encoded_bytes(records, cells) / examples))))


def cache_bytes(records: Records, cells: list[int], cache: str, free: int | None = None) -> int:
    """Bytes that `input.cache` (none, encoded, decoded) takes for those cells; ConfigError if they do not fit."""
    decoded = len(records.rows(cells)) * int(np.prod(image_shape(records.image)))
    sizes = {"none": 0, "encoded": _encoded_bytes(records, cells), "decoded": decoded}
    free = free_memory() if free is None else free
    if sizes[cache] > _CACHE_SHARE * free:
        fitting = " or ".join(name for name, size in sizes.items() if size <= _CACHE_SHARE * free)
        raise ConfigError(
            f"input.cache = {cache} takes {sizes[cache] / 2**30:.2f} GiB for a fold, but {free / 2**30:.2f} GiB of "
            f"memory are free: set it to {fitting}"
        )
    return sizes[cache]


def train_batches(
    records: Records,
    cells: list[int],
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    *,
    buffer: int | None = None,
    options: InputSettings | None = None,
    host: Host = ONE_HOST,
    parts: int = 1,
) -> Any:
    """({"image": uint8 [B, H, W, C], "label": float32 [B, L]},), endless, from `first_epoch` on.

    A tf.data.Dataset or, without TensorFlow, an iterator of arrays. (A tuple of one, as Keras's `fit` takes inputs
    without targets.) For detection also `boxes` float32 [B, N, 4] (x, y, width, height in pixels of these images),
    `box_labels` int32 [B, N] and `box_mask` bool [B, N], false for padding.

    Every epoch has `steps_per_epoch` batches, in an order that depends on (seed, epoch, `buffer`) alone: a run that
    resumes at epoch n sees what an uninterrupted one would have seen. `buffer` is that of `shuffle_buffer`: when it
    holds all examples they are shuffled as a whole, else first the shards, then the examples within the buffer.
    Examples are shuffled while they are encoded. Of several hosts, each gets every `host.count`-th example of the same
    order: B is batch_size / host.count, and together the batches are those of one host. Each batch comes in `parts`
    batches of B / parts, one after the other.

    Over a damaged shard or image, iterating raises what `naming_damage` turns into a DataError.
    """
    return _reader().training(_epochs(records, cells, batch_size, seed, first_epoch, buffer, options, host, parts))


def batch_ids(
    records: Records,
    cells: list[int],
    batch_size: int,
    seed: int,
    epoch: int,
    step: int,
    *,
    buffer: int | None = None,
    options: InputSettings | None = None,
    parts: int = 1,
) -> list[str]:
    """The ids in the batch of one step, as `train_batches` with the same arguments gives it."""
    epochs = _epochs(records, cells, batch_size, seed, epoch, buffer, options, ONE_HOST, parts)
    ids: list[str] = _reader().ids_of_step(epochs, step)
    return ids


def _reader() -> ModuleType:
    """The module that reads: tf.data where TensorFlow is installed, which stays the default, or Python's threads."""
    return import_module(f"kit.data.records.{'tensorflow' if has_tensorflow() else 'thread'}_reader")


def _epochs(
    records: Records,
    cells: list[int],
    batch_size: int,
    seed: int,
    first_epoch: int,
    buffer: int | None,
    options: InputSettings | None,
    host: Host,
    parts: int,
) -> Epochs:
    """What the reader is to give, from the arguments of `train_batches`."""
    options = options or InputSettings()
    if batch_size % (host.count * parts):
        raise ConfigError(
            f"train.batch_size = {batch_size} cannot be split over {host.count} hosts into {parts} parts each"
        )
    used = steps_per_epoch(records, cells, batch_size) * batch_size
    rows = records.rows(cells)
    buffer = len(rows) if options.cache != "none" else buffer or shuffle_buffer(records, cells)
    cache = options.cache
    if cache == "none" and buffer >= len(rows):
        cache = "encoded"  # the buffer would hold all at the start of each epoch: they can as well stay in memory
    return Epochs(
        records=records,
        cells=cells,
        rows=batch_size // host.count // parts,
        used=used,
        seed=seed,
        first_epoch=first_epoch,
        buffer=buffer,
        weights=balanced_weights(rows) if options.balance == "classes" else None,
        cache=cache,
        host=host,
        most_boxes=options.most_boxes,
        deterministic=options.deterministic,
    )


def eval_batches(
    records: Records,
    cells: list[int] | None,
    batch_size: int,
    host: Host = ONE_HOST,
) -> Iterator[Batch]:
    """Each example of some training cells, or of the test set (None), once, in the order of `records.rows(cells)`.

    Every batch has `batch_size` rows, so that one compiled program and any number of devices serve them all. Of several
    hosts, each gets every `host.count`-th example, and all get equally many batches (the last may be empty). Raises
    DataError, naming the shard, when one is damaged.
    """
    batches = 0
    with naming_damage(records):
        for batch in _reader().in_order(records, cells, batch_size, host):
            rows = len(batch["id"])
            images = batch["image"]
            if rows < batch_size:
                images = np.concatenate([images, np.zeros((batch_size - rows, *images.shape[1:]), np.uint8)])
            batches += 1
            ids = [name.decode() for name in batch["id"]]
            yield Batch(images, np.arange(batch_size) < rows, ids)
    examples = len(records.rows(cells))
    most = -(-examples // host.count)  # the most examples of a host, rounded up as its batches are
    for _ in range(batches, -(-most // batch_size)):
        empty = np.zeros((batch_size, *image_shape(records.image)), np.uint8)
        yield Batch(empty, np.zeros(batch_size, bool), [])


@contextmanager
def naming_damage(records: Records) -> Iterator[None]:
    """Turn the reader's error over a damaged shard, or image, into a DataError that names it."""
    reader = _reader()
    try:
        yield
    except reader.errors() as error:
        verify_records(records)  # raises if the records are damaged
        if damaged := reader.undecodable(records):
            shard, name = damaged
            path = records.table.set_index("id").loc[name, "path"]
            raise DataError(
                f"{shard}: {reader.DECODER} cannot decode the image of {name}, {path}: repair it or leave it out, and "
                "build the records again in another folder"
            ) from error
        raise


def balanced_weights(rows: pd.DataFrame) -> np.ndarray:
    """How often an epoch shows each example in the mean, so that classes are shown equally often: float64 [n], mean 1.

    A single label has the classes yes and no. Several labels have a class each, their positives, and one of the
    examples without any. An example in several classes counts in each. Unknown labels (NaN) are not positive.
    """
    positive = truth(rows) > 0.5
    classes = np.column_stack([positive, ~positive.any(axis=1)])
    classes = classes[:, classes.any(axis=0)]
    weights = (classes / classes.sum(axis=0)).sum(axis=1)
    return weights * len(rows) / weights.sum()


def _encoded_bytes(records: Records, cells: list[int]) -> int:
    return sum(shard.bytes for shard in records.shards if shard.cell in cells)
