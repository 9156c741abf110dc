"""The boxes around what a mask shows."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import ConfigError
from kit.models.detect.mask_boxes import Areas

pytestmark = pytest.mark.once
AREAS = Areas(threshold=0.1, min_area=0.0005)


def masks(*rectangles, size=(64, 96), labels=1):
    """Masks of one image each: of (x, y, width, height, probability, label)."""
    mask = np.zeros((len(rectangles), *size, labels), np.float32)
    for image, areas in enumerate(rectangles):
        for x, y, w, h, p, *label in areas:
            mask[image, y : y + h, x : x + w, label[0] if label else 0] = p
    return mask


def test_areas_become_boxes_with_the_mean_probability_as_their_score():
    mask = masks([(10, 20, 30, 15, 0.8), (60, 5, 8, 40, 0.3)], [], [(0, 0, 96, 64, 1.0)])
    boxes = AREAS.boxes(mask, 1, (64, 96), 10)
    assert boxes.images == 3
    assert boxes.image.tolist() == [0, 0, 2]
    assert boxes.xywh.tolist() == [[10, 20, 30, 15], [60, 5, 8, 40], [0, 0, 96, 64]]
    assert np.allclose(boxes.score, [0.8, 0.3, 1.0])
    assert boxes.label.tolist() == [0, 0, 0]
    assert boxes.xywh.dtype == boxes.score.dtype == np.float64


def test_labels_have_boxes_of_their_own():
    mask = masks([(10, 20, 30, 15, 0.8, 1), (12, 22, 10, 10, 0.4, 0)], [(0, 0, 8, 8, 0.9, 2)], labels=3)
    boxes = AREAS.boxes(mask, 1, (64, 96), 10)
    assert boxes.image.tolist() == [0, 0, 1]
    assert boxes.label.tolist() == [0, 1, 2]
    assert boxes.xywh.tolist() == [[12, 22, 10, 10], [10, 20, 30, 15], [0, 0, 8, 8]]


def test_what_is_faint_or_tiny_has_no_box():
    mask = masks([(10, 20, 30, 15, 0.09), (60, 5, 1, 3, 0.9), (70, 5, 2, 2, 0.9)])
    boxes = AREAS.boxes(mask, 1, (64, 96), 10)  # the smallest area is 3.07 pixels
    assert boxes.xywh.tolist() == [[70, 5, 2, 2]]
    assert len(AREAS.boxes(np.zeros((2, 8, 8, 1), np.float32), 4, (32, 32), 10)) == 0
    assert AREAS.boxes(np.zeros((0, 8, 8, 1), np.float32), 4, (32, 32), 10).images == 0


def test_an_area_ends_at_half_of_its_peak():
    mask = masks([(10, 10, 40, 30, 0.15), (15, 15, 20, 20, 0.2), (18, 18, 10, 10, 0.4)])
    boxes = AREAS.boxes(mask, 1, (64, 96), 10)
    assert boxes.xywh.tolist() == [[15, 15, 20, 20]]
    assert boxes.score == pytest.approx([(100 * 0.4 + 300 * 0.2) / 400])


def test_an_area_with_two_cores_is_two_boxes_as_well():
    mask = masks([(10, 10, 60, 20, 0.6), (14, 12, 20, 16, 1.0), (44, 12, 22, 16, 0.95)])
    boxes = AREAS.boxes(mask, 1, (64, 96), 10)
    # between the cores are columns 34 to 43: each core gets the half nearest to it, and all that is beyond it
    assert sorted(boxes.xywh.tolist()) == [[10, 10, 29, 20], [10, 10, 60, 20], [39, 10, 31, 20]]


def test_cores_that_touch_at_a_corner_are_one():
    mask = masks([(10, 10, 40, 40, 0.6), (12, 12, 16, 16, 1.0), (28, 28, 16, 16, 1.0)])
    assert AREAS.boxes(mask, 1, (64, 96), 10).xywh.tolist() == [[10, 10, 40, 40]]


def test_the_best_of_each_image_and_label_are_kept():
    mask = masks([(5 * n, 0, 4, 4, p) for n, p in enumerate((0.5, 0.9, 0.3, 0.7))], [(0, 0, 9, 9, 0.2)])
    boxes = AREAS.boxes(mask, 1, (64, 96), 2)
    assert boxes.image.tolist() == [0, 0, 1]
    assert boxes.score == pytest.approx([0.9, 0.7, 0.2])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from([1, 2, 4, 8, 16]))
def test_edges_between_cells_are_exact_to_a_fraction_of_a_cell(data, stride):
    """A filled box, as its share of each cell shows it, is found again, though the cells are coarse."""
    size, share = data.draw(st.sampled_from([((144, 192), 0.2), ((150, 200), 0.4)]))  # of 150, the last cell is cut
    side = 3 * stride + 4
    x, w = (data.draw(st.floats(low, high)) for low, high in ((0, size[1] - side), (side, 3 * side)))
    y, h = (data.draw(st.floats(low, high)) for low, high in ((0, size[0] - side), (side, 3 * side)))
    w, h = min(w, size[1] - x), min(h, size[0] - y)

    def covered(start, length, pixels):
        edges = np.array([*range(0, pixels, stride), pixels])
        inside = np.minimum(start + length, edges[1:]) - np.maximum(start, edges[:-1])
        return np.clip(inside, 0, None) / np.diff(edges)

    mask = (covered(y, h, size[0])[:, None] * covered(x, w, size[1])).astype(np.float32)[None, :, :, None]
    boxes = AREAS.boxes(mask, stride, size, 10)
    assert len(boxes) == 1
    corners = np.array([boxes.xywh[0, :2], boxes.xywh[0, :2] + boxes.xywh[0, 2:]])
    assert np.abs(corners - [[x, y], [x + w, y + h]]).max() <= max(1, share * stride)
    assert (corners >= 0).all()
    assert (corners <= [size[1], size[0]]).all()


def test_a_thousand_masks_take_two_seconds():
    random = np.random.default_rng(0)
    mask = np.zeros((100, 320, 320, 1), np.float32)
    for image in mask:
        for _ in range(3):
            x, y, w, h = random.integers([0, 0, 40, 40], [200, 200, 120, 120])
            image[y : y + h, x : x + w] = random.uniform(0.2, 1)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        assert len(AREAS.boxes(mask, 1, (320, 320), 10)) > 100
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.4  # for a tenth of them; .13 on a quiet core


@pytest.mark.parametrize("threshold", [0, 1, -0.1, float("nan")])
def test_a_threshold_that_is_no_probability(threshold):
    with pytest.raises(ConfigError, match=r"model.arguments.threshold = .*: a probability between 0 and 1 is needed"):
        Areas(threshold, 0)


def test_an_area_that_is_no_share():
    with pytest.raises(ConfigError, match=r"model.arguments.min_area = 1: a share of the image is 0 or more, below 1"):
        Areas(0.1, 1)
