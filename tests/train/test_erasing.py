import numpy as np
import pytest


@pytest.fixture
def erase(keras):
    """A function: images, share and seed -> the images and the rectangles, as arrays."""

    def erased(images, share, seed=0):
        from kit.train.erasing import Erasing

        return tuple(map(keras.ops.convert_to_numpy, Erasing(share, seed)(images.astype(np.float32))))

    return erased


def test_the_rectangles_are_where_the_noise_is(erase):
    images = np.full((60, 20, 30, 3), 7.5)
    out, rectangles = erase(images, 0.5)
    for image, (left, top, right, bottom) in zip(out, rectangles.astype(int), strict=True):
        hidden = np.zeros((20, 30), bool)
        hidden[top:bottom, left:right] = True
        assert np.array_equal((image != 7.5).all(-1), hidden)
        assert np.array_equal((image != 7.5).any(-1), hidden)
    assert out.min() == 0 and out.max() == 255
    assert np.array_equal(rectangles, rectangles.round())
    assert (rectangles[:, 2:] <= [30, 20]).all() and (rectangles >= 0).all()


@pytest.mark.once
def test_the_seed_decides(erase):
    images = np.zeros((8, 16, 16, 1))
    first, again, other = erase(images, 1.0), erase(images, 1.0), erase(images, 1.0, seed=1)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("share", [pytest.param(0.25, marks=pytest.mark.once), 1.0])
def test_the_set_share_of_images_is_erased(erase, share):
    _, rectangles = erase(np.zeros((400, 16, 16, 1)), share)
    assert rectangles.any(1).mean() == pytest.approx(share, abs=0.08)


@pytest.mark.once
def test_rectangles_are_distributed_as_those_of_keras(keras, erase):
    images = np.full((1500, 24, 32, 1), 100, np.float32)
    theirs = keras.layers.RandomErasing((1, 1), scale=(0.02, 0.33), value_range=(0, 255), seed=0)(images, training=True)
    theirs, ours = keras.ops.convert_to_numpy(theirs)[..., 0], erase(images, 1.0)[0][..., 0]
    for axes in (1, 2, (1, 2)):  # how many columns, rows and pixels are hidden
        hidden = [(out != 100).any(axes) if axes != (1, 2) else (out != 100).mean(axes) for out in (ours, theirs)]
        counts = [x.reshape(1500, -1).mean(1) for x in hidden]
        assert np.quantile(counts[0], [0.1, 0.5, 0.9]) == pytest.approx(
            np.quantile(counts[1], [0.1, 0.5, 0.9]), abs=0.05
        )
    assert (ours != 100).mean(0) == pytest.approx((theirs != 100).mean(0), abs=0.06)  # where
    noise = [out[out != 100] for out in (ours, theirs)]
    assert np.mean(noise[0] == 0) == pytest.approx(np.mean(noise[1] == 0), abs=0.01)
    assert noise[0].mean() == pytest.approx(noise[1].mean(), abs=2)
