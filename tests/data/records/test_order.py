"""Golden values are TensorFlow's own: runs keep their order, whichever reader goes on with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.data.records import order
from kit.runtime.devices import import_tensorflow

SEEDS = [(0, 0), (5, 3), (2**31 - 1, 7), (123_456_789_012, 9)]


@pytest.fixture(scope="module")
def tf():
    return import_tensorflow()


def test_philox_is_that_of_its_authors():
    # kat_vectors of Random123: philox 4x32 10
    assert order.philox((0, 0), (0, 0, 0, 0), 4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    full = (0xFFFFFFFF,) * 4
    assert order.philox(full[:2], full, 4).tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("seed", SEEDS)
def test_stateless_numbers_are_those_of_tensorflow(tf, seed):
    tensor = tf.constant(seed, tf.int64)
    for count in (0, 1, 2, 7, 100):
        expected = tf.random.experimental.stateless_shuffle(tf.range(count), seed=tensor)
        assert order.shuffled_range(count, seed) == expected.numpy().tolist()
    assert order.uniform(seed) == float(tf.random.stateless_uniform([], seed=tensor, dtype=tf.float64))


@pytest.mark.parametrize("seed", [0, 3, 5_000_017, 2**31 - 1, (2**31 - 1) * 1_000_003 + 50])
@pytest.mark.parametrize(("count", "buffer"), [(1, 2), (60, 1), (60, 7), (60, 60), (60, 61), (6000, 6001)])
def test_a_shuffled_dataset_has_this_order(tf, seed, count, buffer):
    def shuffled(n):
        tf.random.set_seed(1)
        return tf.data.Dataset.range(count).shuffle(buffer, seed=seed + n, reshuffle_each_iteration=False)

    expected = tf.data.Dataset.range(1).flat_map(shuffled).as_numpy_iterator()
    assert list(order.shuffled(range(count), buffer, seed)) == list(expected)


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("sizes", [[3], [0, 40, 2], [16, 32, 48, 15, 17, 1], [100, 1, 1, 1, 33, 16, 0, 50, 31]])
def test_an_interleaved_dataset_has_this_order(tf, sizes, at_once):
    ends = np.cumsum(sizes)
    sources = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    dataset = tf.data.Dataset.from_tensor_slices((ends - sizes, ends)).interleave(
        tf.data.Dataset.range, cycle_length=at_once, block_length=16, num_parallel_calls=at_once, deterministic=True
    )
    assert list(order.interleaved(sources, at_once)) == list(dataset.as_numpy_iterator())


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=40), st.integers(0, 2**31), st.integers(0, 1000))
def test_copies_sum_to_an_epoch_and_keep_to_the_weights(weights, seed, epoch):
    weights = np.array(weights) * len(weights) / np.sum(weights)
    counts = order.copies(weights, (seed, epoch))
    assert counts.sum() == len(weights)
    assert (counts >= np.floor(weights - 1e-9)).all()
    assert (counts <= np.ceil(weights + 1e-9)).all()
