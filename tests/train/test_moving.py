import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config import AugmentSettings


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)


@pytest.fixture
def warp(keras):
    """A function: settings and one row of draws in [-1, 1] -> one image warped by it."""

    def changed(settings, draw, image, **fill):
        from kit.train.moving import affine

        draw = np.array([draw + [0.0] * (7 - len(draw))], np.float32)
        matrix = affine(keras.ops.convert_to_tensor(draw), settings, *image.shape[:2])
        image = keras.ops.convert_to_tensor(image[None].astype("float32"))
        moved = keras.ops.image.affine_transform(image, matrix, data_format="channels_last", **fill)
        return keras.ops.convert_to_numpy(moved)[0]

    return changed


def test_a_quarter_turn_is_numpys(warp, images):
    x = images[0]
    turned = warp(AugmentSettings(rotation=90), [0, 0, 1.0], x, fill_mode="nearest")
    assert np.abs(turned - np.rot90(x)).max() < 0.05 or np.abs(turned - np.rot90(x, -1)).max() < 0.05


def test_a_shift_moves_by_that_share_and_fills(warp, images):
    x = images[0].astype(float)
    moved = warp(AugmentSettings(shift=0.1), [0, 0, 0, 0, 1.0, 0.0], x, fill_mode="constant", fill_value=200)
    assert np.allclose(moved[:, 2:], x[:, :-2], atol=1e-2)  # 10 % of 20 pixels to the right
    assert np.allclose(moved[:, :2], 200)
    down = warp(AugmentSettings(shift=0.1), [0, 0, 0, 0, 0.0, 1.0], x, fill_mode="reflect")
    assert np.allclose(down[2:], x[:-2], atol=1e-2)
    assert np.allclose(down[:2], x[1::-1], atol=1e-2)


def test_a_zoom_in_shows_the_centre_larger(warp):
    x = np.zeros((21, 21, 1))
    x[10 - 4 : 10 + 5, 10 - 4 : 10 + 5] = 100  # a 9x9 square around the centre
    larger = warp(AugmentSettings(zoom=0.5), [0, 0, 0, 1.0], x)
    smaller = warp(AugmentSettings(zoom=0.5), [0, 0, 0, -1.0], x)
    # areas grow with the square of the factor: 1.5 and 0.5 (bilinear edges blur the border of 4 * 9 pixels)
    assert larger.sum() / x.sum() == pytest.approx(1.5**2, rel=0.1)
    assert smaller.sum() / x.sum() == pytest.approx(0.5**2, rel=0.25)


def test_a_shear_slants_along_x(warp):
    x = np.zeros((21, 21, 1))
    x[:, 10] = 100  # a line from top to bottom
    out = warp(AugmentSettings(shear=45), [0, 0, 0, 0, 0, 0, 1.0], x, fill_mode="constant")[..., 0]
    # by 45 degrees a row n above the centre moves by n pixels
    assert np.allclose(np.abs(np.argmax(out, axis=1) - 10), np.abs(np.arange(21) - 10))
    assert out.sum() == pytest.approx(2100, rel=1e-3)
    some = warp(AugmentSettings(shear=30), [0, 0, 0, 0, 0, 0, -1.0], x, fill_mode="constant")[..., 0]
    centres = (some * np.arange(21)).sum(axis=1) / some.sum(axis=1)
    assert np.abs(np.diff(centres)) == pytest.approx(np.full(20, math.tan(math.radians(30))), abs=1e-3)


@pytest.mark.parametrize(("mode", "numpys"), [("reflect", "symmetric"), ("nearest", "edge"), ("wrap", "wrap")])
def test_what_comes_in_from_outside_is_as_numpy_pads(warp, images, mode, numpys):
    x = images[0].astype(float)
    padded = np.pad(x, ((3, 3), (3, 3), (0, 0)), numpys)
    shift = AugmentSettings(shift=0.15)  # 3 of 20 pixels
    right = warp(shift, [0, 0, 0, 0, 1.0, 1.0], x, fill_mode=mode)
    assert np.allclose(right, padded[:20, :20], atol=1e-2)
    left = warp(shift, [0, 0, 0, 0, -1.0, -1.0], x, fill_mode=mode)
    assert np.allclose(left, padded[6:, 6:], atol=1e-2)


def test_masks_stay_binary(keras):
    from kit.train.moving import affine
    from kit.train.moving import warp as warped

    mask = np.zeros((8, 24, 24, 1), np.float32)
    mask[:, 5:14, 8:20] = 1
    draw = np.random.default_rng(0).uniform(-1, 1, (8, 7)).astype(np.float32)
    matrices = affine(keras.ops.convert_to_tensor(draw), AugmentSettings(preset="strong"), 24, 24)
    out = keras.ops.convert_to_numpy(warped(keras.ops.convert_to_tensor(mask), matrices, "constant", 0.0, "nearest"))
    assert set(np.unique(out)) == {0, 1}
    assert not np.array_equal(out, mask)


@pytest.fixture(scope="session")
def matrices_of(keras):
    """A function: settings, draws [B, 7 or 8] and a size -> matrices [B, 8]."""

    def matrices(settings, draws, height, width):
        from kit.train.moving import affine

        draws = keras.ops.convert_to_tensor(np.array(draws, np.float32))
        return np.array(keras.ops.convert_to_numpy(affine(draws, settings, height, width)))

    return matrices


@pytest.fixture(scope="session")
def move(keras):
    """`move_boxes` from NumPy to NumPy."""

    def moved(boxes, matrices, height, width, *min_visible):
        from kit.train.moving import move_boxes

        boxes, matrices = (keras.ops.convert_to_tensor(np.array(x, np.float32)) for x in (boxes, matrices))
        return keras.ops.convert_to_numpy(move_boxes(boxes, matrices, height, width, *min_visible))

    return moved


@pytest.fixture(scope="session")
def warp_masks(keras):
    """A function: masks [B, H, W, 1] and matrices -> the masks, moved."""

    def moved(masks, matrices):
        from kit.train.moving import warp

        masks = keras.ops.convert_to_tensor(masks.astype(np.float32))
        return keras.ops.convert_to_numpy(warp(masks, keras.ops.convert_to_tensor(matrices), "constant"))

    return moved


def square(matrix):
    """The 3 x 3 matrix, float64, that takes a place in the image to its place in the moved one, counted from edges."""
    back = np.array([*matrix[:6].astype(float), 0, 0, 1]).reshape(3, 3)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return half @ np.linalg.inv(back) @ np.linalg.inv(half)


def inverse(matrices):
    """The matrices that undo `matrices`."""
    full = [np.linalg.inv(np.array([*m[:6].astype(float), 0, 0, 1]).reshape(3, 3)) for m in matrices]
    return np.array([m.ravel()[:8] for m in full], np.float32)


def ellipse(box, height, width):
    """How much of each pixel is in the ellipse that a box encloses, [1, H, W, 1], by 8 x 8 points in each."""
    x, y, w, h = box
    u = ((np.arange(8 * width) + 0.5) / 8 - x - w / 2) / (w / 2)
    v = ((np.arange(8 * height) + 0.5) / 8 - y - h / 2) / (h / 2)
    points = v[:, None] ** 2 + u[None] ** 2 <= 1
    return points.reshape(height, 8, width, 8).mean((1, 3))[None, ..., None]


DRAWS = st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8)
# of 96 x 100 pixels; parts of a pixel, and so that nothing leaves the image
BOXES = st.tuples(*(st.floats(*bounds, width=32) for bounds in ((30, 45), (30, 45), (8, 24), (8, 24))))
PLACED = AugmentSettings(
    horizontal_flip=True, vertical_flip=True, rotation=25, shift=(0.05, 0.1), zoom=(0.1, 0.2), shear=10
)
UPRIGHT = PLACED.model_copy(update={"rotation": 0.0, "shear": 0.0})


@settings(max_examples=25, deadline=None)
@given(draw=DRAWS, box=BOXES)
def test_a_box_goes_where_the_ellipse_in_it_goes(matrices_of, move, warp_masks, draw, box):
    matrices = matrices_of(PLACED, [draw], 96, 100)
    x, y, w, h = move([[box]], matrices, 96, 100)[0, 0]
    around = np.linspace(0, 2 * np.pi, 5000)
    points = [box[0] + box[2] / 2 * (1 + np.cos(around)), box[1] + box[3] / 2 * (1 + np.sin(around))]
    places = square(matrices[0]) @ [*points, np.ones(5000)]
    assert [x, y] == pytest.approx(places[:2].min(1), abs=1e-3)
    assert [x + w, y + h] == pytest.approx(places[:2].max(1), abs=1e-3)
    rows, columns = np.nonzero(warp_masks(ellipse(box, 96, 100), matrices)[0, ..., 0] > 0.3)
    assert [x, y] == pytest.approx([columns.min(), rows.min()], abs=1)
    assert [x + w, y + h] == pytest.approx([columns.max() + 1, rows.max() + 1], abs=1)


def test_no_box_is_off_by_part_of_a_pixel(matrices_of, move, warp_masks):
    rng = np.random.default_rng(0)
    matrices = matrices_of(PLACED, rng.uniform(-1, 1, (32, 8)), 96, 100)
    boxes = np.concatenate([rng.uniform(30, 45, (32, 2)), rng.uniform(8, 24, (32, 2))], 1)
    moved = move(boxes[:, None], matrices, 96, 100)[:, 0]
    masks = warp_masks(np.concatenate([ellipse(box, 96, 100) for box in boxes]), matrices)[..., 0]
    total = masks.sum((1, 2))
    centre_x = (masks.sum(1) * (np.arange(100) + 0.5)).sum(1) / total
    centre_y = (masks.sum(2) * (np.arange(96) + 0.5)).sum(1) / total
    off = moved[:, :2] + moved[:, 2:] / 2 - np.stack([centre_x, centre_y], 1)
    assert np.abs(off).max() < 0.1
    assert np.abs(off.mean(0)) == pytest.approx([0, 0], abs=0.01)


@pytest.mark.once
@settings(max_examples=40, deadline=None)
@given(draw=DRAWS, box=BOXES)
def test_without_rotation_the_inverse_brings_a_box_back(matrices_of, move, draw, box):
    matrices = matrices_of(UPRIGHT, [draw], 96, 100)
    moved = move([[box]], matrices, 96, 100)
    corners = square(matrices[0]) @ [[box[0], box[0] + box[2]], [box[1], box[1] + box[3]], [1, 1]]
    assert [*moved[0, 0, :2], *(moved[0, 0, :2] + moved[0, 0, 2:])] == pytest.approx(
        [*corners[:2].min(1), *corners[:2].max(1)], abs=1e-3
    )
    assert move(moved, inverse(matrices), 96, 100)[0, 0] == pytest.approx(box, abs=1e-3)


@pytest.mark.once
@settings(max_examples=40, deadline=None)
@given(draw=DRAWS, box=BOXES)
def test_after_a_rotation_centre_and_sides_can_be_told_from_the_moved_box(matrices_of, move, draw, box):
    matrices = matrices_of(PLACED, [draw], 96, 100)
    moved = move([[box]], matrices, 96, 100)
    x, y, w, h = moved[0, 0].astype(float)
    back = np.linalg.inv(square(matrices[0])) @ [x + w / 2, y + h / 2, 1]
    assert back[:2] == pytest.approx([box[0] + box[2] / 2, box[1] + box[3] / 2], abs=1e-3)
    squares = np.linalg.solve(square(matrices[0])[:2, :2] ** 2, [w**2, h**2])  # of the sides of the box
    assert np.sqrt(squares) == pytest.approx(box[2:], abs=1e-3)


@pytest.mark.once
def test_a_circle_keeps_its_box_and_a_quarter_turn_swaps_sides(matrices_of, move):
    boxes = [[[30, 40, 10, 10], [20, 30, 8, 20]]]
    turned = move(boxes, matrices_of(AugmentSettings(rotation=10), [[0, 0, 1, 0, 0, 0, 0]], 96, 96), 96, 96)[0]
    assert turned[0, 2:] == pytest.approx([10, 10], abs=1e-4)
    cos, sin = math.cos(math.radians(10)), math.sin(math.radians(10))
    assert turned[1, 2:] == pytest.approx([math.hypot(8 * cos, 20 * sin), math.hypot(8 * sin, 20 * cos)], abs=1e-4)
    quarter = move(boxes, matrices_of(AugmentSettings(rotation=90), [[0, 0, 1, 0, 0, 0, 0]], 96, 96), 96, 96)[0, 1]
    # (x, y) -> (y, 96 - x), or the other way round
    either = pytest.approx([30, 68, 20, 8], abs=1e-3), pytest.approx([46, 20, 20, 8], abs=1e-3)
    assert quarter in either


def test_a_filled_box_moves_as_its_box_does(matrices_of, move, warp_masks):
    rng = np.random.default_rng(1)
    matrices = matrices_of(UPRIGHT, rng.uniform(-1, 1, (32, 8)), 96, 100)
    boxes = np.concatenate([rng.integers(25, 50, (32, 2)), rng.integers(12, 30, (32, 2))], 1)
    masks = np.zeros((32, 96, 100, 1))
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = 1
    moved = move(boxes[:, None], matrices, 96, 100)[:, 0]
    for mask, (x, y, w, h) in zip(warp_masks(masks, matrices)[..., 0], moved, strict=True):
        # at half height, an edge that is blurred over a pixel is where it was
        across, down = mask.max(0), mask.max(1)
        for profile, start, length in ((across, x, w), (down, y, h)):
            positions = np.arange(len(profile)) + 0.5
            middle = int(start + length / 2)
            rise = np.interp(0.5, profile[: middle + 1], positions[: middle + 1])
            fall = np.interp(-0.5, -profile[middle:], positions[middle:])
            assert [rise, fall] == pytest.approx([start, start + length], abs=0.15)


def test_two_numbers_move_and_zoom_each_side_by_its_own(matrices_of, move):
    box = [[[8, 8, 4, 4]]]
    shifted = matrices_of(AugmentSettings(shift=(0.1, 0.2)), [[0, 0, 0, 0, 1, 1, 0]], 20, 20)
    assert move(box, shifted, 20, 20)[0, 0] == pytest.approx([10, 12, 4, 4], abs=1e-4)
    zoomed = matrices_of(AugmentSettings(zoom=(0.25, 0.5)), [[0, 0, 0, 1, 0, 0, 0, -1]], 20, 20)
    assert move(box, zoomed, 20, 20)[0, 0] == pytest.approx([7.5, 9, 5, 2], abs=1e-4)
    both = matrices_of(AugmentSettings(zoom=0.5), [[0, 0, 0, 1, 0, 0, 0]], 20, 20)
    assert move(box, both, 20, 20)[0, 0] == pytest.approx([7, 7, 6, 6], abs=1e-4)


@pytest.mark.once
def test_boxes_of_which_too_little_is_left_are_dropped(matrices_of, move):
    matrices = matrices_of(AugmentSettings(shift=0.5), [[0, 0, 0, 0, 1, 0, 0]], 20, 20)  # 10 pixels to the right
    boxes = [[[6, 2, 10, 5], [7, 2, 10, 5], [8, 2, 10, 5], [0, 0, 0, 0]]]  # 4, 3 and 2 of 10 columns are left
    kept = [[16, 2, 4, 5], [17, 2, 3, 5], [18, 2, 2, 5]]
    assert move(boxes, matrices, 20, 20, 0.3)[0] == pytest.approx(np.array([*kept[:2], *[[0] * 4] * 2]), abs=1e-4)
    assert move(boxes, matrices, 20, 20, 0.0)[0] == pytest.approx(np.array([*kept, [0] * 4]), abs=1e-4)
    assert not move(boxes, matrices, 20, 20, 1.0).any()
    unmoved = matrices_of(AugmentSettings(), [[0] * 7], 20, 20)
    assert move(boxes, unmoved, 20, 20, 1.0)[0, :3] == pytest.approx(
        np.array(boxes[0][:3]), abs=1e-4
    )  # whole ones stay


def test_boxes_that_leave_the_image_and_padding_come_back_as_zeros(keras):
    from kit.train.moving import affine, move_boxes

    far = AugmentSettings(shift=0.5)
    draw = np.array([[0, 0, 0, 0, 1, 0, 0]], np.float32)  # 10 of 20 pixels to the right
    matrices = affine(keras.ops.convert_to_tensor(draw), far, 20, 20)
    boxes = np.array([[[1, 2, 4, 5], [8, 2, 4, 5], [12, 2, 4, 5], [0, 0, 0, 0], [3, 3, 0, 4]]], np.float32)
    moved = keras.ops.convert_to_numpy(move_boxes(boxes, matrices, 20, 20))[0]
    assert moved[0] == pytest.approx([11, 2, 4, 5], abs=1e-4)
    assert moved[1] == pytest.approx([18, 2, 2, 5], abs=1e-4)  # cut to the image
    assert moved[2:].tolist() == [[0] * 4] * 3
    flip = affine(
        keras.ops.convert_to_tensor(-np.ones((1, 7), np.float32)), AugmentSettings(horizontal_flip=True), 20, 20
    )
    flipped = keras.ops.convert_to_numpy(move_boxes(boxes[:, :1], flip, 20, 20))[0, 0]
    assert flipped == pytest.approx([15, 2, 4, 5], abs=1e-4)  # what was 1 from the left is 1 from the right
