"""Records -> batches with tf.data. `thread_reader` gives the same without TensorFlow."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from kit.data.pixels.jpeg import is_jpeg
from kit.data.records import order, tfrecord
from kit.data.records.epochs import Epochs, Host
from kit.data.records.manifest import Records
from kit.data.records.order import BLOCK
from kit.data.records.shards import image_shape
from kit.data.records.targets import target_format
from kit.runtime.devices import import_tensorflow

DECODER = "TensorFlow"
_CHUNK = 256  # records that balanced sampling repeats at a time
_AHEAD = 4  # batches that are parsed at a time, and that are ready before they are asked for


def training(epochs: Epochs) -> Any:
    """A tf.data.Dataset of ({"image", "label", …},), as `train_batches` gives it."""
    batches = _ordered(epochs).map(lambda batch: ({key: batch[key] for key in batch if key != "id"},))
    return batches.prefetch(_AHEAD).with_options(_options(epochs.deterministic))


def ids_of_step(epochs: Epochs, step: int) -> list[str]:
    """The ids in the batch of that step of the first epoch."""
    batch = next(iter(_ordered(epochs).skip(step).with_options(_options())))
    return [name.decode() for name in batch["id"].numpy()]


def in_order(records: Records, cells: list[int] | None, rows: int, host: Host) -> Iterator[dict[str, np.ndarray]]:
    """This host's examples in the order of the shards, `rows` at a time; the last batch may have fewer."""
    tf = import_tensorflow()
    paths = [str(path) for path in records.shard_paths(cells)]
    examples = len(records.rows(cells))
    dataset = tf.data.TFRecordDataset(paths).apply(tf.data.experimental.assert_cardinality(examples))
    dataset = _decoded(dataset.shard(host.count, host.index), records, rows, False, None)
    batches: Iterator[dict[str, np.ndarray]] = dataset.prefetch(_AHEAD).with_options(_options()).as_numpy_iterator()
    return batches


def errors() -> tuple[type[Exception], ...]:
    """What is raised over a damaged shard or image."""
    errors = import_tensorflow().errors
    return errors.DataLossError, errors.InvalidArgumentError, errors.FailedPreconditionError, errors.NotFoundError


def undecodable(records: Records) -> tuple[str, str] | None:
    """The shard and the id of the first JPEG that TensorFlow cannot decode."""
    tf = import_tensorflow()
    for shard in records.shards:
        for data in tfrecord.read_records(records.directory / shard.file):
            example = tfrecord.parse(data)
            image = example["image"][0]
            try:
                if is_jpeg(image):
                    tf.io.decode_jpeg(image)
            except tf.errors.InvalidArgumentError:
                return shard.file, example["id"][0].decode()
    return None


def _ordered(epochs: Epochs) -> Any:
    """The training batches, each a dictionary with id, image and the target."""
    tf = import_tensorflow()
    records, host, decoded = epochs.records, epochs.host, epochs.cache == "decoded"
    cache = None
    if epochs.cache != "none":
        dataset = _from_shards(epochs, None, None)
        cache = (_decoded(dataset, records, None, False, epochs.most_boxes) if decoded else dataset).cache()

    def one_epoch(epoch: Any) -> Any:
        counts = None if epochs.weights is None else _copies(epochs, epoch)
        if cache is not None:
            dataset = _repeated(cache, counts, 0)
        else:
            dataset = _from_shards(epochs, tf.stack([tf.constant(epochs.seed, tf.int64), epoch]), counts)
        # A shard that ends too early must not shorten the epoch.
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(epochs.examples))
        # Set in this graph alone: the order must not depend on the global seed, and with a global seed of 0 TensorFlow
        # would take the tensor below for a bool.
        tf.random.set_seed(1)
        # One more than there are, so that the end of the data is reached and a cache is completed.
        dataset = dataset.shuffle(epochs.buffer + 1, seed=epochs.shuffle_seed(epoch), reshuffle_each_iteration=False)
        dataset = dataset.take(epochs.used)
        return dataset.shard(host.count, host.index) if host.count > 1 else dataset

    dataset = tf.data.Dataset.range(epochs.first_epoch, np.iinfo(np.int64).max).flat_map(one_epoch)
    if decoded:
        return dataset.batch(epochs.rows, True)
    return _decoded(dataset, records, epochs.rows, True, epochs.most_boxes)


def _from_shards(epochs: Epochs, key: Any, counts: Any) -> Any:
    """Serialised examples, from some shards at a time: shards shuffled by `key`, examples repeated by `counts`."""
    tf = import_tensorflow()
    paths = tf.constant([str(path) for path in epochs.records.shard_paths(epochs.cells)])
    sizes = epochs.sizes
    starts = tf.constant(np.cumsum([0, *sizes[:-1]]), tf.int64)
    shards = tf.range(len(sizes))
    if key is not None:
        shards = tf.random.experimental.stateless_shuffle(shards, seed=key)

    def of_shard(n: Any) -> Any:
        return _repeated(tf.data.TFRecordDataset(tf.gather(paths, n)), counts, tf.gather(starts, n))

    at_once = epochs.at_once
    # always deterministic: it only keeps the order of the files, and costs nothing
    return tf.data.Dataset.from_tensor_slices(shards).interleave(
        of_shard, cycle_length=at_once, block_length=BLOCK, num_parallel_calls=at_once, deterministic=True
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


def _copies(epochs: Epochs, epoch: Any) -> Any:
    """`order.copies` as a tensor."""
    tf = import_tensorflow()

    def counts(epoch: np.ndarray) -> np.ndarray:
        assert epochs.weights is not None
        return order.copies(epochs.weights, (epochs.seed, int(epoch)))

    return tf.ensure_shape(tf.numpy_function(counts, [epoch], tf.int64), [epochs.examples])


def _options(deterministic: bool = True) -> Any:
    """Threads of its own, one per core, as TensorFlow's may be set to one (`devices.set_up`); and no autotuning.

    An iterator that ends often waits for the autotuner's thread until that wakes: the pauses of that double, so that
    reading took up to twice as long, or a minute more (TensorFlow 2.21; scripts/bench/features.py).
    """
    options = import_tensorflow().data.Options()
    options.threading.private_threadpool_size = os.cpu_count() or 1
    options.autotune.enabled = False
    options.deterministic = deterministic
    return options


def _decoded(dataset: Any, records: Records, size: int | None, drop_remainder: bool, most_boxes: int | None) -> Any:
    """Serialised examples -> batches (`size` None: single examples) of id, image uint8 [H, W, C] and the target."""
    tf = import_tensorflow()
    shape = image_shape(records.image)
    target = target_format(records.task)
    padding = target.padding(records.rows([*range(records.cells)]), most_boxes)
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
        return dataset.batch(size, drop_remainder).map(decode_raw, _AHEAD)
    dataset = dataset.map(decode_one, os.cpu_count() or 1)
    return dataset if size is None else dataset.batch(size, drop_remainder)
