"""Records -> batches without TensorFlow: the batches of `tensorflow_reader`, in the same order, by threads.

OpenCV releases Python's lock while it decodes. PNG and raw pixels are TensorFlow's; so are those of JPEGs, but for
rounding where the two were built with different versions of libjpeg-turbo.
"""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from kit.data.pixels import jpeg
from kit.data.pixels.messages import MESSAGES
from kit.data.records import order, tfrecord
from kit.data.records.epochs import Epochs, Host
from kit.data.records.manifest import Records
from kit.data.records.shards import Shard, image_shape
from kit.data.records.targets import target_format
from kit.errors import DataError
from kit.parallel import ahead

T = TypeVar("T")
DECODER = "OpenCV"
_TASK = 16  # images that a thread decodes at a time
_IN_FLIGHT = 2  # such tasks for each thread, at the least


class Unreadable(DataError):
    """A shard that is not as it was built, or an image that cannot be decoded."""


class Example(NamedTuple):
    """An example as it is stored, its target as arrays."""

    id: bytes
    image: bytes
    target: dict[str, np.ndarray]


Batch = dict[str, np.ndarray]


def training(epochs: Epochs) -> Iterator[tuple[Batch]]:
    """Batches of ({"image", "label", …},), as `train_batches` gives them."""
    if epochs.cache == "decoded":
        batches = _from_decoded(epochs)
    else:
        once = epochs.used // epochs.host.count  # what is read again is not checked again
        batches = _decoded(_chunks(_examples(epochs), epochs.rows), epochs.records, epochs.rows, once)
    with closing(batches):
        for batch in batches:
            yield ({name: values for name, values in batch.items() if name != "id"},)


def ids_of_step(epochs: Epochs, step: int) -> list[str]:
    """The ids in the batch of that step of the first epoch."""
    examples = islice(_examples(epochs), step * epochs.rows, (step + 1) * epochs.rows)
    return [example.id.decode() for example in examples]


def in_order(records: Records, cells: list[int] | None, rows: int, host: Host) -> Iterator[Batch]:
    """This host's examples in the order of the shards, `rows` at a time; the last batch may have fewer."""
    chosen: set[int | None] = {None} if cells is None else set(cells)
    read = _reader(records, None)
    examples = (example for shard in records.shards if shard.cell in chosen for example in read(shard))
    return _decoded(_chunks(islice(examples, host.index, None, host.count), rows), records, rows)


def pixels_of(name: bytes, image: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of the encoded image of that id; raises Unreadable when they are not of that shape."""
    flags = (cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
    except cv2.error as error:
        raise Unreadable(f"the image of {name.decode()} cannot be decoded: {error.err}") from error
    if pixels is None or pixels.shape[:2] != shape[:2]:
        raise Unreadable(f"the image of {name.decode()} cannot be decoded to {shape}")
    return pixels.reshape(shape)


def errors() -> tuple[type[Exception], ...]:
    """What is raised over a damaged shard or image."""
    return (Unreadable,)


def undecodable(records: Records) -> tuple[str, str] | None:
    """The shard and the id of the first image that cannot be decoded."""
    read, shape, raw = _reader(records, None), image_shape(records.image), records.image.encoding == "raw"
    for shard in records.shards:
        for example in read(shard):
            try:
                if raw:
                    _raw_pixels([example], shape)
                elif _is_damaged(example) or pixels_of(example.id, example.image, shape) is None:
                    return shard.file, example.id.decode()
            except Unreadable:
                return shard.file, example.id.decode()
    return None


def _examples(epochs: Epochs) -> Iterator[Example]:
    """The training examples of this host in their order, endless."""
    shards, read = _shards(epochs), _reader(epochs.records, epochs.most_boxes)
    kept = list(_in_turns(epochs)) if epochs.cache != "none" else None
    starts = np.cumsum([0, *epochs.sizes]).tolist()

    def from_shards(epoch: int, counts: list[int] | None) -> Iterator[Example]:
        def of_shard(n: int) -> Iterator[Example]:
            return _repeated(read(shards[n]), None if counts is None else counts[starts[n] : starts[n + 1]])

        turns = order.shuffled_range(len(shards), (epochs.seed, epoch))
        return order.interleaved(map(of_shard, turns), epochs.at_once)

    def of_epoch(epoch: int, counts: list[int] | None) -> Iterator[Example]:
        return from_shards(epoch, counts) if kept is None else _repeated(kept, counts)

    return _shuffled(epochs, of_epoch)


def _shards(epochs: Epochs) -> list[Shard]:
    return [shard for shard in epochs.records.shards if shard.cell in epochs.cells]


def _in_turns(epochs: Epochs) -> Iterator[Example]:
    """All training examples once, in the order in which a cache holds them."""
    read = _reader(epochs.records, epochs.most_boxes)
    return order.interleaved(map(read, _shards(epochs)), epochs.at_once)


def _shuffled(epochs: Epochs, of_epoch: Callable[[int, list[int] | None], Iterable[T]]) -> Iterator[T]:
    """Endless: of each epoch's elements, given its number and how often each is shown, those that this host uses."""
    epoch = epochs.first_epoch
    while True:
        counts = None if epochs.weights is None else order.copies(epochs.weights, (epochs.seed, epoch)).tolist()
        elements = order.shuffled(of_epoch(epoch, counts), epochs.buffer + 1, epochs.shuffle_seed(epoch))
        yield from islice(elements, epochs.host.index, epochs.used, epochs.host.count)
        epoch += 1


def _from_decoded(epochs: Epochs) -> Generator[Batch, None, None]:
    """Training batches from pixels that stay in memory."""
    images = np.empty((epochs.examples, *image_shape(epochs.records.image)), np.uint8)
    parts, start, rows = [], 0, _TASK * _IN_FLIGHT
    for batch in _decoded(_chunks(_in_turns(epochs), rows), epochs.records, rows):
        images[start : start + len(batch["id"])] = batch.pop("image")
        start += len(batch["id"])
        parts.append(batch)
    kept = {"image": images, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}}
    everything = range(epochs.examples)
    for chosen in _chunks(_shuffled(epochs, lambda epoch, counts: _repeated(everything, counts)), epochs.rows):
        yield {name: values[chosen] for name, values in kept.items()}


def _repeated(elements: Iterable[T], counts: Sequence[int] | None) -> Iterator[T]:
    """Each element as often as `counts` says; None: once."""
    if counts is None:
        return iter(elements)
    return (element for element, count in zip(elements, counts, strict=True) for _ in range(count))


def _chunks(elements: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` elements; the last may have fewer."""
    elements = iter(elements)
    while chunk := list(islice(elements, size)):
        yield chunk


def _reader(records: Records, most_boxes: int | None) -> Callable[[Shard], Iterator[Example]]:
    """A function that yields the examples of a shard, and raises Unreadable where it is not as it was built."""
    target, shape, labels = target_format(records.task), image_shape(records.image), len(records.labels)
    padding = target.padding(records.rows([*range(records.cells)]), most_boxes)
    names = ("id", "image", *target.stored)

    def read(shard: Shard) -> Iterator[Example]:
        path, count = records.directory / shard.file, 0
        try:
            for data in tfrecord.read_records(path):
                features = tfrecord.parse(data, names)
                (name,), (image,) = features["id"], features["image"]
                example = Example(name, image, target.arrays(features, labels, shape, padding))
                count += 1
                yield example
        except (tfrecord.CorruptRecord, OSError, ValueError) as error:
            raise Unreadable(f"{path} cannot be read: {error}") from error
        if count != shard.examples:
            raise Unreadable(f"{path} holds {count} examples, not {shard.examples}")

    return read


def _decoded(
    chunks: Iterable[list[Example]], records: Records, rows: int, checked: int | None = None
) -> Generator[Batch, None, None]:
    """Batches of id, image uint8 [B, H, W, C] and the target, from lists of at most `rows` examples.

    A thread reads and others decode, ahead of who takes the batches. The first `checked` examples, None: all, are those
    of whose JPEGs damage is looked for: OpenCV does not fail over it.
    """
    shape, raw = image_shape(records.image), records.image.encoding == "raw"
    threads = os.cpu_count() or 1

    def fill(images: np.ndarray, examples: list[Example]) -> None:
        for image, example in zip(images, examples, strict=True):
            image[:] = pixels_of(example.id, example.image, shape)

    def check_and_fill(images: np.ndarray, examples: list[Example]) -> None:
        _, messages = MESSAGES.during(lambda: fill(images, examples))
        if messages and (damaged := next(filter(_is_damaged, examples), None)):
            raise Unreadable(f"the image of {damaged.id.decode()} is damaged")

    def begun(pool: ThreadPoolExecutor) -> Iterator[tuple[list[Example], np.ndarray, list[Future[None]]]]:
        count = 0
        for examples in chunks:
            if raw:
                yield examples, _raw_pixels(examples, shape), []
                continue
            images = np.empty((len(examples), *shape), np.uint8)
            work = fill if checked is not None and count >= checked else check_and_fill
            starts = range(0, len(examples), _TASK)
            yield examples, images, [pool.submit(work, images[n : n + _TASK], examples[n : n + _TASK]) for n in starts]
            count += len(examples)

    depth = max(2, -(-threads * _TASK * _IN_FLIGHT // rows))
    with ThreadPoolExecutor(threads, "decode") as pool, closing(ahead(begun(pool), depth)) as pending:
        for examples, images, tasks in pending:
            for task in tasks:
                task.result()
            ids = np.array([example.id for example in examples], object)
            target = {name: np.stack([example.target[name] for example in examples]) for name in examples[0].target}
            yield {"id": ids, "image": images, **target}


def _is_damaged(example: Example) -> bool:
    return jpeg.is_jpeg(example.image) and jpeg.damage(example.image) is not None


def _raw_pixels(examples: list[Example], shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of images that are stored raw, [B, H, W, C]; raises Unreadable when they are not of that shape."""
    size = math.prod(shape)
    if wrong := next((example for example in examples if len(example.image) != size), None):
        raise Unreadable(f"the image of {wrong.id.decode()} is not of {shape}")
    joined = bytearray().join([example.image for example in examples])  # faster than one copy after the other
    return np.frombuffer(joined, np.uint8).reshape(-1, *shape)
