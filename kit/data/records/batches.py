"""Records -> batches of uint8 images, the only reader of records. Everything after happens on the accelerator."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kit.config import InputSettings
from kit.data.pixels.jpeg import is_jpeg
from kit.data.records import tfrecord
from kit.data.records.manifest import Records, verify_records
from kit.data.records.shards import image_shape
from kit.data.records.targets import target_format
from kit.errors import ConfigError, DataError
from kit.runtime.devices import import_tensorflow
from kit.runtime.session import free_memory
from kit.tables import truth

_SHUFFLE_SHARE = 0.25  # of the free memory, for encoded images
_CACHE_SHARE = 0.75  # of the free memory, at most
_FILES_AT_ONCE = 4
_CHUNK = 256  # records that balanced sampling repeats at a time


class Batch(NamedTuple):
    """An evaluation batch of B rows, the last of which may be padding.

    `images` uint8 [B, H, W, C] · `mask` bool [B], False for padding · `ids` of the rows that are not padding.
    """

    images: np.ndarray
    mask: np.ndarray
    ids: list[str]


@dataclass(frozen=True)
class Host:
    """Which of several hosts this process is; each decodes its share of every global batch."""

    index: int = 0
    count: int = 1


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
    host: Host = Host(),
    parts: int = 1,
) -> Any:
    """A tf.data.Dataset of ({"image": uint8 [B, H, W, C], "label": float32 [B, L]},), endless, from `first_epoch` on.

    (A tuple of one, as Keras's `fit` takes inputs without targets.) For detection also `boxes` float32 [B, N, 4] (x, y,
    width, height in pixels of these images), `box_labels` int32 [B, N] and `box_mask` bool [B, N], false for padding.

    Every epoch has `steps_per_epoch` batches, in an order that depends on (seed, epoch, `buffer`) alone: a run that
    resumes at epoch n sees what an uninterrupted one would have seen. `buffer` is that of `shuffle_buffer`: when it
    holds all examples they are shuffled as a whole, else first the shards, then the examples within the buffer.
    Examples are shuffled while they are encoded. Of several hosts, each gets every `host.count`-th example of the same
    order: B is batch_size / host.count, and together the batches are those of one host. Each batch comes in `parts`
    batches of B / parts, one after the other.

    Over a damaged shard or image, iterating raises a TensorFlow error: see `naming_damage`.
    """
    batches = _ordered(records, cells, batch_size, seed, first_epoch, buffer, options, host, parts)
    batches = batches.map(lambda batch: ({key: batch[key] for key in batch if key != "id"},))
    deterministic = (options or InputSettings()).deterministic
    return batches.prefetch(import_tensorflow().data.AUTOTUNE).with_options(_own_threads(deterministic))


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
    batches = _ordered(records, cells, batch_size, seed, epoch, buffer, options, Host(), parts)
    batch = next(iter(batches.skip(step).with_options(_own_threads())))
    return [name.decode() for name in batch["id"].numpy()]


def _ordered(
    records: Records,
    cells: list[int],
    batch_size: int,
    seed: int,
    first_epoch: int,
    buffer: int | None,
    options: InputSettings | None,
    host: Host,
    parts: int,
) -> Any:
    """The batches of `train_batches`, each a dictionary with id, image and the target."""
    tf = import_tensorflow()
    options = options or InputSettings()
    if batch_size % (host.count * parts):
        raise ConfigError(
            f"train.batch_size = {batch_size} cannot be split over {host.count} hosts into {parts} parts each"
        )
    used = steps_per_epoch(records, cells, batch_size) * batch_size
    rows = records.rows(cells)
    examples = len(rows)
    buffer = examples if options.cache != "none" else buffer or shuffle_buffer(records, cells)
    weights = balanced_weights(rows) if options.balance == "classes" else None
    cache = None
    if buffer >= examples:  # the buffer would hold all at the start of each epoch: they can as well stay in memory
        decoded = options.cache == "decoded"
        dataset = _from_shards(
            records, cells, None, None, at_once=1 if options.balance == "classes" else _FILES_AT_ONCE
        )
        cache = (_decoded(dataset, records, None, False, options.most_boxes) if decoded else dataset).cache()

    def one_epoch(epoch: Any) -> Any:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        counts = None if weights is None else _copies(weights, key)
        dataset = _repeated(cache, counts, 0) if cache is not None else _from_shards(records, cells, key, counts)
        # A shard that ends too early must not shorten the epoch.
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(examples))
        # Set in this graph alone: the order must not depend on the global seed, and with a global seed of 0 TensorFlow
        # would take the tensor below for a bool.
        tf.random.set_seed(1)
        # One more than there are, so that the end of the data is reached and a cache is completed.
        dataset = dataset.shuffle(buffer + 1, seed=seed * 1_000_003 + epoch, reshuffle_each_iteration=False)
        dataset = dataset.take(used)
        return dataset.shard(host.count, host.index) if host.count > 1 else dataset

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(one_epoch)
    size = batch_size // host.count // parts
    return (
        epochs.batch(size, True)
        if options.cache == "decoded"
        else _decoded(epochs, records, size, True, options.most_boxes)
    )


def eval_batches(
    records: Records,
    cells: list[int] | None,
    batch_size: int,
    host: Host = Host(),
) -> Iterator[Batch]:
    """Each example of some training cells, or of the test set (None), once, in the order of `records.rows(cells)`.

    Every batch has `batch_size` rows, so that one compiled program and any number of devices serve them all. Of several
    hosts, each gets every `host.count`-th example, and all get equally many batches (the last may be empty). Raises
    DataError, naming the shard, when one is damaged.
    """
    tf = import_tensorflow()
    paths = [str(path) for path in records.shard_paths(cells)]
    examples = len(records.rows(cells))
    dataset = tf.data.TFRecordDataset(paths).apply(tf.data.experimental.assert_cardinality(examples))
    dataset = _decoded(dataset.shard(host.count, host.index), records, batch_size, False, None)
    batches = 0
    with naming_damage(records):
        for batch in dataset.prefetch(tf.data.AUTOTUNE).with_options(_own_threads()).as_numpy_iterator():
            rows = len(batch["id"])
            images = batch["image"]
            if rows < batch_size:
                images = np.concatenate([images, np.zeros((batch_size - rows, *images.shape[1:]), np.uint8)])
            batches += 1
            ids = [name.decode() for name in batch["id"]]
            yield Batch(images, np.arange(batch_size) < rows, ids)
    most = -(-examples // host.count)  # the most examples of a host, rounded up as its batches are
    for _ in range(batches, -(-most // batch_size)):
        empty = np.zeros((batch_size, *image_shape(records.image)), np.uint8)
        yield Batch(empty, np.zeros(batch_size, bool), [])


@contextmanager
def naming_damage(records: Records) -> Iterator[None]:
    """Turn TensorFlow's error over a damaged shard, or image, into a DataError that names it."""
    errors = import_tensorflow().errors
    try:
        yield
    except (errors.DataLossError, errors.InvalidArgumentError, errors.FailedPreconditionError, errors.NotFoundError):
        verify_records(records)  # raises if the records are damaged
        _decode_jpegs(records)
        raise


def _decode_jpegs(records: Records) -> None:
    """Raise DataError, with the id, at the first JPEG that TensorFlow cannot decode."""
    tf = import_tensorflow()
    paths = dict(zip(records.table["id"], records.table["path"], strict=True))
    for shard in records.shards:
        for data in tfrecord.read_records(records.directory / shard.file):
            example = tfrecord.parse(data)
            image, name = example["image"][0], example["id"][0].decode()
            try:
                if is_jpeg(image):
                    tf.io.decode_jpeg(image)
            except tf.errors.InvalidArgumentError as error:
                raise DataError(
                    f"{shard.file}: TensorFlow cannot decode the image of {name}, {paths[name]}: repair it or leave "
                    "it out, and build the records again in another folder"
                ) from error


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


def _from_shards(records: Records, cells: list[int], key: Any, counts: Any, at_once: int = _FILES_AT_ONCE) -> Any:
    """Serialised examples, from some shards at a time: shards shuffled by `key`, examples repeated by `counts`."""
    tf = import_tensorflow()
    paths = tf.constant([str(path) for path in records.shard_paths(cells)])
    sizes = [shard.examples for shard in records.shards if shard.cell in cells]
    starts = tf.constant(np.cumsum([0, *sizes[:-1]]), tf.int64)
    order = tf.range(len(sizes))
    if key is not None:
        order = tf.random.experimental.stateless_shuffle(order, seed=key)

    def of_shard(n: Any) -> Any:
        return _repeated(tf.data.TFRecordDataset(tf.gather(paths, n)), counts, tf.gather(starts, n))

    # always deterministic: it only keeps the order of the files, and costs nothing
    return tf.data.Dataset.from_tensor_slices(order).interleave(
        of_shard, cycle_length=at_once, block_length=16, num_parallel_calls=at_once, deterministic=True
    )


def _repeated(dataset: Any, counts: Any, start: Any) -> Any:
    """Each element repeated as `counts` (int64 [n]) says, from index `start` on; None: all once."""
    tf = import_tensorflow()
    if counts is None:
        return dataset

    def repeat(n: Any, chunk: Any) -> Any:
        first = start + n * _CHUNK
        times = counts[first : first + tf.shape(tf.nest.flatten(chunk)[0], tf.int64)[0]]
        return tf.nest.map_structure(lambda values: tf.repeat(values, times, axis=0), chunk)

    return dataset.batch(_CHUNK).enumerate().map(repeat).unbatch()


def _copies(weights: np.ndarray, key: Any) -> Any:
    """How often an epoch shows each example: int64 [n] with the sum n, over epochs in the mean its weight.

    By systematic sampling (Madow 1949) in a random order: always the floor or the ceiling of the weight.
    """
    tf = import_tensorflow()
    order = tf.random.experimental.stateless_shuffle(tf.range(len(weights)), seed=key)
    ends = tf.cumsum(tf.gather(tf.constant(weights), order))
    ends = ends * len(weights) / ends[-1] + tf.random.stateless_uniform([], seed=key, dtype=tf.float64)
    ends = tf.concat([[0.0], ends[:-1], [float(len(weights))]], axis=0)  # the last end is n but for rounding
    counts = tf.cast(tf.floor(ends[1:]) - tf.floor(ends[:-1]), tf.int64)
    return tf.scatter_nd(order[:, None], counts, [len(weights)])


def _own_threads(deterministic: bool = True) -> Any:
    """Options for threads of its own, one per core: TensorFlow's may be set to one (`devices.set_up`)."""
    options = import_tensorflow().data.Options()
    options.threading.private_threadpool_size = os.cpu_count() or 1
    options.deterministic = deterministic
    return options


def _decoded(dataset: Any, records: Records, size: int | None, drop_remainder: bool, most_boxes: int | None) -> Any:
    """Serialised examples -> batches (`size` None: single examples) of id, image uint8 [H, W, C] and the target."""
    tf = import_tensorflow()
    shape = image_shape(records.image)
    padding = target_format(records.task).padding(records.rows([*range(records.cells)]), most_boxes)
    target = target_format(records.task)
    features = {
        "id": tf.io.FixedLenFeature([], tf.string),
        "image": tf.io.FixedLenFeature([], tf.string),
        **target.spec(len(records.labels)),
    }

    def decode_one(serialised: Any) -> dict[str, Any]:
        example = tf.io.parse_single_example(serialised, features)
        if records.image.encoding == "raw":
            image = tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), shape)
        else:  # decodes PNG too; this method gives the same pixels as Pillow
            image = tf.io.decode_jpeg(example["image"], shape[2], dct_method="INTEGER_ACCURATE")
        return {**target.keys(example, shape, padding), "image": tf.ensure_shape(image, shape)}

    def decode_raw(serialised: Any) -> dict[str, Any]:
        examples = tf.io.parse_example(serialised, features)
        image = tf.reshape(tf.io.decode_raw(examples["image"], tf.uint8), (-1, *shape))
        return {**examples, "image": image}

    if (
        records.image.encoding == "raw" and size is not None and not target.ragged
    ):  # nothing to decode: parsed a batch at a time
        return dataset.batch(size, drop_remainder).map(decode_raw, tf.data.AUTOTUNE)
    dataset = dataset.map(decode_one, tf.data.AUTOTUNE)
    return dataset if size is None else dataset.batch(size, drop_remainder)
