"""The order of an epoch, as numbers: what TensorFlow shuffles, reproduced without it, so that readers agree.

TensorFlow draws from Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
AT_ONCE, BLOCK = 4, 16  # shards that are read in turns, and how many examples of one before the next
_MULTIPLIERS, _WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_SCRAMBLE = (0x3EC8F720, 0x02461E29)  # the key with which TensorFlow mixes the seed of a stateless operation
_LOW = 0xFFFFFFFF
_DRAWS = 4096  # random numbers that are computed at a time


def philox(key: Sequence[int], counter: Sequence[int], count: int) -> np.ndarray:
    """The first `count` numbers, uint32, of Philox 4x32-10 with a key of 2 words and a counter of 4, from that on."""
    blocks = -(-count // 4)
    first = np.uint64(counter[0] | counter[1] << 32) + np.arange(blocks, dtype=np.uint64)
    low, shift = np.uint64(_LOW), np.uint64(32)
    a, b = first & low, first >> shift
    c, d = (np.full(blocks, word, np.uint64) for word in counter[2:])
    keys = list(key)
    for _ in range(10):
        first, second = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
        a, b, c, d = (
            (second >> shift) ^ b ^ np.uint64(keys[0]),
            second & low,
            (first >> shift) ^ d ^ np.uint64(keys[1]),
            first & low,
        )
        keys = [(word + step) & _LOW for word, step in zip(keys, _WEYL, strict=True)]
    return np.stack([a, b, c, d], axis=1).ravel()[:count].astype(np.uint32)


def shuffled_range(count: int, seed: tuple[int, int]) -> list[int]:
    """`tf.random.experimental.stateless_shuffle(tf.range(count), seed)`."""
    order = list(range(count))
    for n, draw in enumerate(_stateless(seed, count)[: max(0, count - 1)].tolist()):
        other = n + draw % (count - n)
        order[n], order[other] = order[other], order[n]
    return order


def uniform(seed: tuple[int, int]) -> float:
    """`tf.random.stateless_uniform([], seed, dtype=tf.float64)`: a number in [0, 1)."""
    high, low = _stateless(seed, 2).tolist()
    return float(((high & 0xFFFFF) << 32 | low) * 2.0**-52)


def shuffled(elements: Iterable[T], buffer: int, seed: int) -> Iterator[T]:
    """The order of `Dataset.shuffle(buffer, seed, reshuffle_each_iteration=False)`, in a graph whose seed is 1."""
    draws, coming = _draws(seed % (2**31 - 1)), iter(elements)
    waiting: list[T | None] = []  # a ring; grows to `buffer` elements, if there are so many
    for element in coming:
        waiting.append(element)
        if len(waiting) == buffer:
            break
    size = len(waiting)
    start, stop = 0, size
    while start < stop:
        place, front = (start + next(draws) % (stop - start)) % size, start % size
        chosen = waiting[place]
        waiting[place], waiting[front] = waiting[front], None
        yield chosen  # type: ignore[misc]
        start += 1
        for element in coming:
            waiting[stop % size] = element
            stop += 1
            break


def interleaved(sources: Iterable[Iterable[T]], at_once: int) -> Iterator[T]:
    """The order of `Dataset.interleave`: BLOCK elements of one source in turn, `at_once` sources at a time."""
    coming = iter(sources)
    turns: list[Iterator[T] | None] = [None] * at_once
    at = 0
    while True:
        if turns[at] is None:
            source = next(coming, None)
            turns[at] = None if source is None else iter(source)
        current = turns[at]
        if current is None and not any(turns):
            return
        for _ in range(BLOCK if current is not None else 0):
            try:
                yield next(current)  # type: ignore[arg-type]
            except StopIteration:
                turns[at] = None
                break
        at = (at + 1) % at_once


def copies(weights: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """How often an epoch shows each example: int64 [n] with the sum n, over epochs in the mean its weight.

    By systematic sampling (Madow 1949) in a random order: always the floor or the ceiling of the weight.
    """
    order = shuffled_range(len(weights), seed)
    ends = np.cumsum(weights[order])
    ends = ends * len(weights) / ends[-1] + uniform(seed)
    ends = np.concatenate([[0.0], ends[:-1], [float(len(weights))]])  # the last end is n but for rounding
    counts = np.empty(len(weights), np.int64)
    counts[order] = np.floor(ends[1:]) - np.floor(ends[:-1])
    return counts


def _stateless(seed: tuple[int, int], count: int) -> np.ndarray:
    mixed = [int(word) for word in philox(_SCRAMBLE, (*_words(seed[0]), *_words(seed[1])), 4)]
    return philox(mixed[:2], (0, 0, *mixed[2:]), count)


def _draws(seed: int) -> Iterator[int]:
    """The random numbers of a shuffled dataset, endless."""
    start = 0
    while True:
        yield from philox((1, 0), (*_words(start), *_words(seed)), _DRAWS).tolist()
        start += _DRAWS // 4


def _words(number: int) -> tuple[int, int]:
    """The low and the high 32 bits of a 64-bit number."""
    return number & _LOW, (number >> 32) & _LOW
