"""Records -> batches of uint8 images: the only reader of records. Everything else happens on the accelerator."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kit.data.records import Records
from kit.data.shards import image_shape
from kit.errors import ConfigError
from kit.runtime.devices import import_tensorflow

_SHUFFLE_BYTES = 512 * 2**20  # of encoded images at most; the buffer holds all training images when they fit


class Batch(NamedTuple):
    """An evaluation batch of B rows, of which the last may be padding.

    `images` uint8 [B, H, W, C] · `mask` bool [B], False for padding · `ids` the ids of the rows that are no padding ·
    `labels` float32 [rows that are no padding, L].
    """

    images: np.ndarray
    mask: np.ndarray
    ids: list[str]
    labels: np.ndarray


def steps_per_epoch(records: Records, cells: list[int], batch_size: int) -> int:
    """Whole batches in an epoch; the ragged rest of each epoch is dropped. Raises ConfigError when there is none."""
    examples = len(records.rows(cells))
    if examples < batch_size:
        raise ConfigError(f"train.batch_size = {batch_size}, but a fold trains on {examples} images: make it smaller")
    return examples // batch_size


def train_batches(records: Records, cells: list[int], batch_size: int, seed: int, first_epoch: int = 0) -> Any:
    """A tf.data.Dataset of (images uint8 [B, H, W, C], labels float32 [B, L]), from `first_epoch` on without end.

    Every epoch is `steps_per_epoch` batches in an order that depends on (seed, epoch) alone, so a run that goes on at
    epoch n sees what an uninterrupted one would have seen. Shards are shuffled first, then the encoded images.
    """
    tf = import_tensorflow()
    shards = [str(path) for path in records.shard_paths(cells)]
    examples = len(records.rows(cells))
    encoded = sum(shard.bytes for shard in records.shards if shard.cell in cells)
    buffer = max(1, min(examples, int(_SHUFFLE_BYTES / max(1.0, encoded / examples))))
    steps = steps_per_epoch(records, cells, batch_size)
    decode = _decoder(records)

    def one_epoch(epoch: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(shards, seed=tf.stack([tf.constant(seed, tf.int64), epoch]))
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=4, deterministic=True)
            .shuffle(buffer, seed=seed * 1_000_003 + epoch, reshuffle_each_iteration=False)
            .map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .map(lambda example: (example["image"], example["label"]))
            .batch(batch_size, drop_remainder=True)
            .take(steps)
        )

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(one_epoch)
    return epochs.prefetch(tf.data.AUTOTUNE).with_options(_own_threads())


def eval_batches(records: Records, cells: list[int] | None, batch_size: int) -> Iterator[Batch]:
    """Every example of some training cells, or of the test set (None), once, in the order of `records.rows(cells)`.

    Every batch has `batch_size` rows, so that one compiled program and any number of devices serve them all.
    """
    tf = import_tensorflow()
    dataset = (
        tf.data.TFRecordDataset([str(path) for path in records.shard_paths(cells)])
        .map(_decoder(records), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_own_threads())
    )
    for batch in dataset.as_numpy_iterator():
        rows = len(batch["id"])
        images = np.zeros((batch_size, *batch["image"].shape[1:]), np.uint8)
        images[:rows] = batch["image"]
        ids = [name.decode() for name in batch["id"]]
        yield Batch(images, np.arange(batch_size) < rows, ids, batch["label"])


def _own_threads() -> Any:
    """Options for a thread per core of its own: what TensorFlow computes with may be set to one (`devices.set_up`)."""
    options = import_tensorflow().data.Options()
    options.threading.private_threadpool_size = os.cpu_count() or 1
    return options


def _decoder(records: Records) -> Any:
    """A function for tf.data: a serialised example -> {"id", "image" uint8 [H, W, C], "label" float32 [L]}."""
    tf = import_tensorflow()
    shape = image_shape(records.image)
    raw = records.image.encoding == "raw"
    wanted = {
        "id": tf.io.FixedLenFeature([], tf.string),
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([len(records.labels)], tf.float32),
    }

    def decode(serialised: Any) -> dict[str, Any]:
        example = tf.io.parse_single_example(serialised, wanted)
        if raw:
            image = tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), shape)
        else:
            image = tf.ensure_shape(tf.io.decode_image(example["image"], shape[2], expand_animations=False), shape)
        return {**example, "image": image}

    return decode
