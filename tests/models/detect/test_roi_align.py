"""ROIAlign, against values computed by hand and point by point."""

import math

import numpy as np
import pytest


@pytest.fixture(scope="module")
def roi_align(keras):
    from kit.models.detect import roi_align

    return roi_align


@pytest.fixture
def align(keras, roi_align):
    """A function: regions, maps and the arguments of the layer -> features, as numpy."""

    def call(regions, maps, *arguments):
        layer = roi_align.RegionAlign(*arguments)
        return keras.ops.convert_to_numpy(layer(np.array(regions, "float32"), [np.array(m, "float32") for m in maps]))

    return call


def ramp(height, width, stride):
    """A map [1, h, w, 2] whose features are the x and the y of its places' centres in pixels."""
    y, x = np.mgrid[:height, :width]
    return (np.stack([x, y], axis=-1)[None] + 0.5) * stride


def test_a_ramp_is_sampled_at_the_centres_of_cells(align):
    features = align([[[8, 12, 24, 20], [10, 10, 14, 18]]], [ramp(8, 8, 4)], [2], (32, 32), 2, 1e9)
    assert features.shape == (2, 2, 2, 2)  # 2 regions of 2 x 2 cells, x and y
    np.testing.assert_allclose(features[0, ..., 0], [[12, 20], [12, 20]], rtol=1e-6)
    np.testing.assert_allclose(features[0, ..., 1], [[14, 14], [18, 18]], rtol=1e-6)
    np.testing.assert_allclose(features[1, ..., 0], [[11, 13], [11, 13]], rtol=1e-6)


def test_a_cell_is_the_mean_of_four_bilinear_points(align):
    values = np.array([[1.0, 2, 0], [5, 3, 0], [0, 0, 0]])
    # One cell of 2 x 2 places, from (.5, .5) to (2.5, 2.5) in places: points at 1 and 2, which is between the centres
    # (.5, 1.5 and 2.5) of the places. Each is the mean of four: rows and columns 0 and 1, or 1 and 2.
    expected = ((1 + 2 + 5 + 3) / 4 + (2 + 0 + 3 + 0) / 4 + (5 + 3 + 0 + 0) / 4 + 3 / 4) / 4
    features = align([[[2, 2, 10, 10]]], [values[None, ..., None]], [2], (12, 12), 1, 1e9)
    assert features.ravel() == pytest.approx([expected])


@pytest.mark.once
def test_beyond_the_outermost_centres_the_map_continues(align):
    features = align([[[0, 0, 1, 1]]], [ramp(4, 4, 4)], [2], (16, 16), 1, 1e9)
    np.testing.assert_allclose(features.ravel(), [2, 2])


@pytest.mark.once
def test_a_map_that_lost_its_border_lies_in_the_middle(align):
    # 6 places of 4 px in 32 px: 4 px are lost on either side
    features = align([[[8, 12, 24, 20]]], [ramp(6, 6, 4) + 4], [2], (32, 32), 2, 1e9)
    np.testing.assert_allclose(features[0, ..., 0], [[12, 20], [12, 20]], rtol=1e-6)


@pytest.mark.once
def test_points_one_by_one(align):
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 8, 12, 3)), rng.normal(size=(2, 4, 6, 3))]
    low = rng.uniform(0, 20, (2, 5, 2))
    regions = np.concatenate([low, low + rng.uniform(1, 12, (2, 5, 2))], axis=-1)
    features = align(regions, maps, [2, 3], (32, 48), 3, 12).reshape(2, 5, 3, 3, 3)
    levels = set()
    for image, number in np.ndindex(2, 5):
        left, top, right, bottom = regions[image, number]
        level = 4 + math.floor(math.log2(math.sqrt((right - left) * (bottom - top)) / 12))
        level = min(3, max(2, level))
        levels.add(level)
        source = maps[level - 2][image]

        def at(x, y, level=level, source=source):
            x, y = x / 2**level - 0.5, y / 2**level - 0.5
            x, y = min(max(x, 0), source.shape[1] - 1), min(max(y, 0), source.shape[0] - 1)
            c, r = min(int(x), source.shape[1] - 2), min(int(y), source.shape[0] - 2)
            dx, dy = x - c, y - r
            above = source[r, c] * (1 - dx) + source[r, c + 1] * dx
            return above * (1 - dy) + (source[r + 1, c] * (1 - dx) + source[r + 1, c + 1] * dx) * dy

        for row, column in np.ndindex(3, 3):
            points = [
                at(left + (column + i) * (right - left) / 3, top + (row + j) * (bottom - top) / 3)
                for i in (0.25, 0.75)
                for j in (0.25, 0.75)
            ]
            np.testing.assert_allclose(features[image, number, row, column], np.mean(points, axis=0), atol=1e-4)
    assert levels == {2, 3}


@pytest.mark.once
def test_levels_double_with_the_side(keras, roi_align):
    sides = [(56, 56), (111, 111), (112, 112), (223, 223), (224, 224), (448, 112), (448, 448), (5000, 5000), (0, 7)]
    regions = np.array([[[3, 4, 3 + w, 4 + h] for w, h in sides]], "float32")
    levels = keras.ops.convert_to_numpy(roi_align.level_of(regions, [2, 3, 4, 5], 224))
    assert levels.tolist() == [[2, 2, 3, 3, 4, 4, 5, 5, 2]]
    assert keras.ops.convert_to_numpy(roi_align.level_of(regions, [3], 224)).tolist() == [[3] * 9]


def test_half_precision_maps_keep_their_type_and_corners_theirs(keras, roi_align):
    layer = roi_align.RegionAlign([2], (4096, 4096), 2, 1e9, dtype="mixed_float16")
    x = np.tile(np.arange(1024.0) - 1000, (1, 4, 1))[..., None]  # exact in half precision
    features = layer(np.array([[[4001.0, 0, 4005, 4]]], "float32"), [keras.ops.cast(x, "float16")])
    assert keras.backend.standardize_dtype(features.dtype) == "float16"
    # cells centred on 4002 and 4004 px, places 1000 and 1000.5; in half precision corners would be multiples of 4
    np.testing.assert_allclose(keras.ops.convert_to_numpy(features)[0, 0, :, 0], [0, 0.5], atol=1e-3)
