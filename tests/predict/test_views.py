import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import Boxes
from kit.predict.views import VIEWS, Cropped, Scaled, Turned

pytestmark = pytest.mark.once

ALL = sorted({view for views in VIEWS.values() for view in views}, key=repr)


def painted(box, height, width):
    """One image with a bright box, uint8 [1, H, W, 1]."""
    x, y, w, h = box
    image = np.zeros((1, height, width, 1), np.uint8)
    image[0, y : y + h, x : x + w] = 200
    return image


def extent(image):
    """The box of what is bright in one image, to whole pixels."""
    rows, columns = np.nonzero(image[0, ..., 0] > 100)
    return np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1], float)


def moved(matrix, box):
    """Where `matrix` takes a box, by its four corners."""
    x, y, w, h = box
    corners = matrix @ np.array([[x, y, 1], [x + w, y, 1], [x, y + h, 1], [x + w, y + h, 1]]).T
    return np.concatenate([corners.min(1), np.ptp(corners, axis=1)])


def edges(box):
    return np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])


SIDES = st.integers(64, 120)
# in the middle half, which every view shows
STARTS = st.tuples(*(st.integers(16, 24) for _ in range(4)))


@pytest.mark.parametrize("view", ALL, ids=repr)
@settings(max_examples=15, deadline=None)
@given(height=SIDES, width=SIDES, box=STARTS)
def test_a_painted_box_is_found_in_the_view_and_brought_back(view, height, width, box):
    image = painted(box, height, width)
    seen = view(image)
    matrix = view.matrix(height, width)
    expected = moved(matrix, box)
    if isinstance(view, Turned):
        assert extent(seen) == pytest.approx(expected, abs=0)
    else:
        assert edges(extent(seen)) == pytest.approx(edges(expected), abs=0.6)
    assert view.boxes_back(expected[None], height, width)[0] == pytest.approx(box, abs=1e-9)
    assert edges(view.boxes_back(extent(seen)[None], height, width)[0]) == pytest.approx(edges(box), abs=0.7)
    # its middle is there too, but for what sampling makes of sharp edges
    total, (x, y, w, h) = seen.sum(dtype=float), expected
    for axes, start, length in (((0, 1, 3), x, w), ((0, 2, 3), y, h)):
        profile = seen.sum(axes, dtype=float)
        assert (profile * (np.arange(len(profile)) + 0.5)).sum() / total == pytest.approx(start + length / 2, abs=0.12)


@pytest.mark.parametrize("view", ALL, ids=repr)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 80)])
def test_every_pixel_of_a_view_is_from_where_the_matrix_says(view, height, width):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = np.stack([x, y, 0 * x], axis=-1).astype(np.float32)[None] + 0.5  # floats, as bytes would be rounded
    seen = view(image)[0]
    x, y = np.meshgrid(np.arange(seen.shape[1]) + 0.5, np.arange(seen.shape[0]) + 0.5)
    back = np.linalg.inv(np.vstack([view.matrix(height, width), [0, 0, 1]]))
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ back.T
    assert seen[5:-5, 6:-6, :2] == pytest.approx(places[5:-5, 6:-6, :2], abs=1e-3)  # edges are mirrored, or repeated


def test_turns_are_those_of_numpy_in_boxes_too():
    # 10 x 6 pixels: a quarter turn to the left takes column 9 to row 0
    assert Turned(1, False).boxes_back(np.array([[1.5, 0, 2, 3]]), 6, 10).tolist() == [[7, 1.5, 3, 2]]
    assert Turned(0, True).boxes_back(np.array([[1.5, 0, 2, 3]]), 6, 10).tolist() == [[6.5, 0, 2, 3]]
    assert Turned(2, False).boxes_back(np.array([[1.5, 0, 2, 3]]), 6, 10).tolist() == [[6.5, 3, 2, 3]]
    assert Turned(2, False).boxes_back(np.empty((0, 4)), 6, 10).shape == (0, 4)


def test_crops_and_scales_by_hand():
    # 64 pixels: 56 of them, enlarged by 8 / 7; the lower right crop begins at 8
    assert Cropped(1, 1).boxes_back(np.array([[8.0, 16, 32, 16]]), 64, 64)[0] == pytest.approx([15, 22, 28, 14])
    # as 58 pixels, which begin at 3
    assert Scaled(0.9).boxes_back(np.array([[3.0, 32, 29, 14.5]]), 64, 64)[0] == pytest.approx([0, 32, 32, 16])
    # as 70 pixels, of which 3 are cut off
    assert Scaled(1.1).boxes_back(np.array([[0.0, 32, 35, 35]]), 64, 64)[0] == pytest.approx([96 / 35, 32, 32, 32])


def test_boxes_around_what_is_mirrored_are_dropped_and_others_cut():
    xywh = np.array([[0, 10, 2, 8], [0, 10, 12, 8], [10, 10, 8, 8], [56, 10, 8, 8.0]])
    boxes = Boxes(2, np.array([0, 0, 1, 1]), xywh, np.arange(4), np.linspace(0.2, 0.8, 4))
    back = Scaled(0.9).back(boxes, 64, 64)  # the image is columns 3 to 60 of the view
    assert (back.images, back.image.tolist(), back.label.tolist()) == (2, [0, 1, 1], [1, 2, 3])
    k = 64 / 58
    assert back.xywh[:, [0, 2]] == pytest.approx(np.array([[0, 9 * k], [7 * k, 8 * k], [53 * k, 5 * k]]))
    assert back.score.tolist() == pytest.approx([0.4, 0.6, 0.8])
