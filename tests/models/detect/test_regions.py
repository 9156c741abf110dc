"""Anchors, offsets, suppression, sampling and filled masks, against values computed by hand or one by one."""

import math

import numpy as np
import pytest

from kit.boxes import iou


@pytest.fixture(scope="module")
def regions(keras):
    from kit.models.detect import regions

    return regions


@pytest.fixture
def numbers(keras):
    """A function: a function of tensors and its arrays -> what it returns, as numpy."""

    def call(function, *arguments, **keywords):
        return keras.tree.map_structure(keras.ops.convert_to_numpy, function(*arguments, **keywords))

    return call


def floats(*values):
    return np.array(values, "float32")


def corners_at_random(rng, images, count, side=100):
    low = rng.uniform(0, 0.7 * side, (images, count, 2))
    return np.concatenate([low, low + rng.uniform(5, 0.5 * side, (images, count, 2))], axis=-1).astype("float32")


def xywh(corners):
    return np.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1).astype(float)


def test_anchors_stand_on_the_centres_of_places_map_by_map(regions):
    anchors = regions.anchors({"P2": (1, 2), "P3": (1, 1)}, (4, 8), 2.0, [1.0, 4.0])
    # sides of 2 strides, 8 and 16 px; with a ratio of 4, half the width and twice the height
    expected = [
        [2 - 4, 2 - 4, 2 + 4, 2 + 4],
        [2 - 2, 2 - 8, 2 + 2, 2 + 8],
        [6 - 4, 2 - 4, 6 + 4, 2 + 4],
        [6 - 2, 2 - 8, 6 + 2, 2 + 8],
        [4 - 8, 4 - 8, 4 + 8, 4 + 8],
        [4 - 4, 4 - 16, 4 + 4, 4 + 16],
    ]
    np.testing.assert_allclose(anchors, expected)
    assert anchors.dtype == np.float32


def test_offsets_by_hand(regions, numbers):
    # from the square 10..20 to one whose centre is 1 px right and 2 px up, twice as wide and half as high
    offsets = numbers(regions.offsets, floats(6, 10.5, 26, 15.5), floats(10, 10, 20, 20))
    np.testing.assert_allclose(offsets, [0.1 / 0.1, -0.2 / 0.1, math.log(2) / 0.2, -math.log(2) / 0.2], rtol=1e-5)


def test_offsets_lead_to_where_they_were_taken_from(regions, numbers):
    rng = np.random.default_rng(0)
    truth, anchors = corners_at_random(rng, 2, 50), corners_at_random(rng, 2, 50)
    there = numbers(lambda a, b: regions.moved(b, regions.offsets(a, b)), truth, anchors)
    np.testing.assert_allclose(there, truth, atol=1e-3)


def test_widened_regions_keep_their_centre(regions, numbers):
    assert numbers(regions.widened, floats(10, 20, 14, 28), 1.5).tolist() == [9, 18, 15, 30]


@pytest.mark.once
def test_no_offset_overflows(regions, numbers):
    far = numbers(regions.moved, floats(0, 0, 10, 10), floats(0, 0, 1e6, 1e6))
    np.testing.assert_allclose(far, [5 - 312.5, 5 - 312.5, 5 + 312.5, 5 + 312.5])
    assert np.isfinite(numbers(regions.offsets, floats(0, 0, 0, 0), floats(5, 5, 5, 5))).all()


def test_what_is_suppressed_suppresses_nothing(regions, numbers):
    # each of 10 x 10 px, 4 px further right: an overlap of 6/14 with its neighbours, of 2/18 with theirs
    chain = floats(*([x, 0, x + 10, 10] for x in (0, 4, 8, 12, 16)))[None]
    assert numbers(regions.suppression, chain, 0.4).tolist() == [[True, False, True, False, True]]
    assert numbers(regions.suppression, chain, 0.1).tolist() == [[True, False, False, True, False]]
    assert numbers(regions.suppression, chain, 0.43).all()  # 6/14 is not above it


@pytest.mark.once
def test_suppression_is_greedy(regions, numbers):
    corners = corners_at_random(np.random.default_rng(1), 4, 60)
    keep = numbers(regions.suppression, corners, 0.3)
    for boxes, kept in zip(xywh(corners), keep, strict=True):
        expected = []
        for n in range(len(boxes)):
            if not expected or iou(boxes[n : n + 1], boxes[expected]).max() <= 0.3:
                expected.append(n)
        assert np.flatnonzero(kept).tolist() == expected
        assert 5 < len(expected) < 55


def test_proposals_are_the_best_that_do_not_overlap_then_the_best_that_do(regions, numbers):
    anchors = floats([0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40], [35, -5, 45, 5], [-20, 0, -10, 10])
    logits, still = floats([2, 3, 1, 0, 9]), np.zeros((1, 5, 4), "float32")

    def proposals(count):
        return numbers(regions.proposals, logits, still, anchors, (40, 40), count, 0.7).tolist()[0]

    # the last is outside, the first overlaps the second by 9/10; the fourth is clipped
    assert proposals(3) == [[0, 0, 10, 9], [30, 30, 40, 40], [35, 0, 40, 5]]
    assert proposals(4) == [*proposals(3), [0, 0, 0, 10]]  # empty, but nothing else is left that is better
    assert len(proposals(9)) == 5


def test_boxes_are_matched_with_regions_and_padding_with_none(regions, numbers):
    truth = floats([0, 0, 10, 10], [0, 0, 20, 10], [5, 5, 6, 6])[None]
    overlap, nearest = numbers(
        regions.matched, floats([0, 0, 18, 10], [0, 0, 9, 10])[None], truth, np.array([[1, 1, 0]], bool)
    )
    np.testing.assert_allclose(overlap, [[[10 / 18, 0.9, 0], [0.9, 9 / 20, 0]]], rtol=1e-6)
    assert nearest.tolist() == [[1, 0]]


def test_samples_hold_few_positives_and_then_negatives(regions, numbers):
    rng = np.random.default_rng(0)
    positive = np.array([[1] * 6 + [0] * 14, [0] * 20, [1] + [0] * 19, [1] * 20], bool)
    negative = ~positive & (np.arange(20) < 16)  # the last four are neither
    for _ in range(5):
        noise = rng.random((4, 20), "float32")
        index, hit, valid = numbers(regions.sample, positive, negative, noise, 12, 4)
        assert hit.sum(axis=1).tolist() == [4, 0, 1, 4]
        assert valid.sum(axis=1).tolist() == [12, 12, 12, 4]
        for row in range(4):
            assert len({*index[row]}) == 12
            assert positive[row, index[row][hit[row]]].all()
            assert negative[row, index[row][valid[row] & ~hit[row]]].all()
        assert (np.diff(hit.astype(int), axis=1) <= 0).all()  # positives first
    assert sorted(index[0][:4]) == sorted(np.argsort(-noise[0, :6])[:4])
    index, _, valid = numbers(regions.sample, positive, negative, noise, 100, 50)
    assert index.shape == (4, 20)
    assert valid.sum(axis=1).tolist() == [16, 16, 16, 20]


def test_masks_say_which_share_of_a_cell_the_box_covers(regions, numbers):
    region = floats([10, 10, 14, 18])  # cells of 1 x 2 px
    covered = numbers(regions.filled, floats([10.5, 9, 13, 15]), region, 4)[0]
    np.testing.assert_allclose(covered, np.outer([1, 1, 0.5, 0], [0.5, 1, 1, 0]), atol=1e-6)
    assert numbers(regions.filled, floats([20, 20, 30, 30]), region, 4).max() == 0  # beside it
    assert np.isfinite(numbers(regions.filled, floats([0, 0, 0, 0]), floats([3, 3, 3, 3]), 4)).all()
