"""Boxes in networks, against values computed by hand."""

import math

import numpy as np
import pytest

SQUARE = [0.0, 0.0, 4.0, 4.0]


@pytest.fixture(scope="module")
def box_ops(keras):
    from kit.models.detect import box_ops

    return box_ops


@pytest.fixture
def numbers(keras):
    """A function: a tensor of a function of float32 arrays -> numpy."""
    return lambda function, *arrays: keras.ops.convert_to_numpy(function(*(np.array(a, "float32") for a in arrays)))


def test_corners_and_back(box_ops, numbers):
    boxes = [[1, 2, 3, 4], [0, 0, 0, 0]]
    np.testing.assert_array_equal(numbers(box_ops.corners_of, boxes), [[1, 2, 4, 6], [0, 0, 0, 0]])
    np.testing.assert_array_equal(numbers(box_ops.boxes_of, [[1, 2, 4, 6]]), [[1, 2, 3, 4]])


def test_corners_are_clipped_to_the_image(box_ops, numbers):
    clipped = numbers(lambda corners: box_ops.clip_corners(corners, 10, 20), [[-1, -2, 30, 40], [3, 4, 5, 6]])
    np.testing.assert_array_equal(clipped, [[0, 0, 20, 10], [3, 4, 5, 6]])


# The other box, and of it and SQUARE: intersection over union, and that less the empty share of what encloses both.
PAIRS = [
    (SQUARE, 1.0, 1.0),
    ([2, 2, 6, 6], 4 / 28, 4 / 28 - 8 / 36),
    ([2, 0, 4, 4], 8 / 16, 8 / 16),  # inside
    ([4, 0, 8, 4], 0.0, 0.0),  # touching
    ([6, 0, 8, 4], 0.0, -8 / 32),  # apart
    ([1, 1, 1, 1], 0.0, 0.0),  # empty, inside
]


@pytest.mark.parametrize(("other", "iou", "giou"), PAIRS)
def test_overlap_of_two_boxes(box_ops, numbers, other, iou, giou):
    assert numbers(box_ops.iou, SQUARE, other) == pytest.approx(iou)
    assert numbers(box_ops.giou, SQUARE, other) == pytest.approx(giou)
    assert numbers(box_ops.giou, other, SQUARE) == pytest.approx(giou)


def test_overlap_of_nothing_with_nothing_is_zero(box_ops, numbers):
    assert numbers(box_ops.iou, [0, 0, 0, 0], [0, 0, 0, 0]) == 0
    assert numbers(box_ops.giou, [0, 0, 0, 0], [0, 0, 0, 0]) == 0


def test_overlap_of_all_pairs(box_ops, numbers):
    pairs = numbers(box_ops.pairwise_iou, [[SQUARE, [0, 0, 2, 2]]], [[other for other, *_ in PAIRS]])
    assert pairs.shape == (1, 2, 6)
    np.testing.assert_allclose(pairs[0, 0], [iou for _, iou, _ in PAIRS], rtol=1e-6)
    np.testing.assert_allclose(pairs[0, 1], [4 / 16, 0, 0, 0, 0, 0], rtol=1e-6)


def test_overlap_is_that_of_the_tables(box_ops, numbers):
    from kit.boxes import iou

    boxes = np.random.default_rng(0).uniform(0, 50, (2, 40, 4))
    corners = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in boxes]
    np.testing.assert_allclose(numbers(box_ops.pairwise_iou, *corners), iou(*boxes), atol=1e-5)


def test_focal_loss(box_ops, numbers):
    # p = 1/2: log 2, times (1/2)^2, times 1/4 for a positive and 3/4 for a negative
    even = numbers(box_ops.focal_loss, [1, 0], [0, 0])
    np.testing.assert_allclose(even, [math.log(2) / 16, 3 * math.log(2) / 16], rtol=1e-6)
    # p = .9 of a negative: 3/4 · .9^2 · -log .1
    sure = numbers(box_ops.focal_loss, [0], [math.log(9)])
    np.testing.assert_allclose(sure, [0.75 * 0.81 * -math.log(0.1)], rtol=1e-5)
    # the prior of .01: next to nothing for a negative, 1/4 · .99^2 · -log .01 for a positive
    prior = numbers(box_ops.focal_loss, [0, 1], [-math.log(99)] * 2)
    np.testing.assert_allclose(prior, [0.75 * 1e-4 * -math.log(0.99), 0.25 * 0.99**2 * -math.log(0.01)], rtol=1e-4)
    assert np.isfinite(numbers(box_ops.focal_loss, [0, 1, 0, 1], [1e4, 1e4, -1e4, -1e4])).all()
    plain = numbers(lambda t, x: box_ops.focal_loss(t, x, alpha=0.5, gamma=0.0), [1, 0], [0, math.log(9)])
    np.testing.assert_allclose(plain, [0.5 * math.log(2), -0.5 * math.log(0.1)], rtol=1e-5)


@pytest.mark.once
def test_best_boxes(box_ops):
    corners = np.array([[[0, 0, 4, 4], [-2, 1, 4, 9], [9, 9, 12, 12], [5, 5, 7, 7]], [[1, 1, 2, 2]] * 4], "float32")
    scores = np.array([[[0.1, 0.9], [0.8, 0.2], [0.99, 0], [0.3, 0.3]], [[0, 0], [0, 0], [0, 0], [0, 0.5]]], "float32")
    boxes = box_ops.best_boxes(corners, scores, 2, (8, 8))
    rows = sorted(zip(boxes.image, boxes.label, boxes.score.round(3), map(tuple, boxes.xywh), strict=True))
    assert [row for row in rows if row[2]] == [
        (0, 0, 0.8, (0, 1, 4, 7)),  # clipped; the best of this label lies outside and is left out
        (0, 1, 0.3, (5, 5, 2, 2)),
        (0, 1, 0.9, (0, 0, 4, 4)),
        (1, 1, 0.5, (1, 1, 1, 1)),
    ]
    assert len(boxes) == 7
    assert (np.diff(boxes.image) >= 0).all()
    assert box_ops.best_boxes(corners, scores, 100, (8, 8)).images == 2


@pytest.mark.once
def test_best_boxes_where_each_label_has_its_own(box_ops):
    corners = np.array([[[[0, 0, 1, 1], [0, 0, 2, 2]], [[0, 0, 3, 3], [0, 0, 4, 4]]]], "float32")
    boxes = box_ops.best_boxes(corners, np.array([[[0.1, 0.4], [0.3, 0.2]]]), 1, (8, 8))
    assert {int(n): list(xywh) for n, xywh in zip(boxes.label, boxes.xywh, strict=True)} == {
        0: [0, 0, 3, 3],
        1: [0, 0, 2, 2],
    }


def test_gradients_are_finite_where_boxes_are_empty(box_ops, keras):
    """Padding boxes are empty: what is masked out must not be NaN."""
    boxes = np.zeros((3, 4), "float32")

    def loss(x):
        return keras.ops.sum(box_ops.giou(x, boxes)) + keras.ops.sum(box_ops.iou(x, boxes))

    if keras.backend.backend() == "jax":
        import jax

        gradient = jax.grad(loss)(boxes)
    else:
        import tensorflow as tf

        x = tf.constant(boxes)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        gradient = tape.gradient(value, x)
    assert np.isfinite(np.array(gradient)).all()
