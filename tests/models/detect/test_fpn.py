"""The feature pyramid on backbones of all kinds."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def fpn(keras):
    from kit.models.detect import fpn

    return fpn


def sides(maps):
    return {name: (x.shape[1], x.shape[2], x.shape[3]) for name, x in maps.items()}


@pytest.mark.once
@pytest.mark.parametrize(
    ("backbone", "finest", "coarsest", "expected"),
    [
        ("mobilenet", 3, 6, {"P3": 12, "P4": 6, "P5": 3, "P6": 2}),
        ("mobilenet", 2, 4, {"P2": 24, "P3": 12, "P4": 6}),
        ("efficientnet_lite0", 3, 6, {"P3": 12, "P4": 6, "P5": 3, "P6": 2}),
        ("mobilenet", 6, 7, {"P6": 2, "P7": 1}),  # from the coarsest that there is
        ("pcam_cnn", 2, 4, {"P2": 20, "P3": 10, "P4": 5}),  # one level, its borders lost
        ("pcam_cnn", 3, 5, {"P3": 10, "P4": 5, "P5": 3}),
        ("pcam_cnn_tuned", 2, 3, {"P2": 16, "P3": 4}),  # more is lost in between than is doubled
    ],
)
def test_maps_of_all_levels(keras, fpn, backbone, finest, coarsest, expected):
    from kit.models.detect.neck import levels_of

    inputs, levels = levels_of(backbone, (96, 96, 3), {})
    maps = fpn.pyramid(levels, finest, coarsest, channels=8)
    assert sides(maps) == {name: (side, side, 8) for name, side in expected.items()}
    assert list(maps) == list(expected)
    keras.Model(inputs, maps)


def test_a_map_knows_the_coarser_ones_and_no_finer_one(keras, fpn):
    inputs = {f"P{n}": keras.Input((2 ** (5 - n), 2 ** (5 - n), 3), name=f"P{n}") for n in (3, 4, 5)}
    model = keras.Model(inputs, fpn.pyramid(inputs, 3, 6, channels=4))
    zeros = {name: np.zeros((1, *x.shape[1:]), "float32") for name, x in inputs.items()}

    def changed(name):
        before = model.predict_on_batch(zeros)
        after = model.predict_on_batch({**zeros, name: zeros[name] + 1})
        return {level for level in before if (before[level] != after[level]).any()}

    assert changed("P3") == {"P3"}
    assert changed("P4") == {"P3", "P4"}
    assert changed("P5") == {"P3", "P4", "P5", "P6"}


@pytest.mark.once
def test_centres(fpn):
    np.testing.assert_array_equal(
        fpn.centres((2, 3), 8, (16, 24)), [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    )
    np.testing.assert_array_equal(fpn.centres((1, 2), 4, (10, 10)), [[3, 5], [7, 5]])  # borders lost on either side
    np.testing.assert_array_equal(fpn.centres((1, 2), 8, (5, 12)), [[4, 4], [12, 4]])  # rounded up


@pytest.mark.once
def test_centres_are_where_an_unpadded_network_looks(keras, fpn):
    """The squares of the image that change one place of the map lie around its centre."""
    from kit.models.detect.neck import levels_of

    inputs, levels = levels_of("pcam_cnn", (96, 96, 3), {})
    side = levels["P2"].shape[1]
    network = keras.Model(inputs, levels["P2"])
    row, column, squares = 3, 15, list(np.ndindex(24, 24))
    images = np.zeros((len(squares), 96, 96, 3), "uint8")
    for image, (y, x) in zip(images, squares, strict=True):
        image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 255
    features = network.predict(images, batch_size=64, verbose=0)[:, row, column]
    touched = np.array([(4 * x + 2, 4 * y + 2) for y, x in squares])[(features != features[0]).any(axis=1)]
    centre = fpn.centres((side, side), 4, (96, 96))[row * side + column]
    assert np.abs((touched.min(axis=0) + touched.max(axis=0)) / 2 - centre).max() <= 2
