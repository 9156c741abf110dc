import numpy as np
import pytest

from kit.config import AugmentSettings


def test_frames_are_whole_pixels_within_the_share(keras):
    from kit.train.border import frames

    draw = np.random.default_rng(0).uniform(-1, 1, (500, 4)).astype(np.float32)
    out = keras.ops.convert_to_numpy(frames(draw, 0.1, 40, 80))
    assert np.array_equal(out, out.round())
    moved = out - [0, 0, 80, 40]
    assert np.array_equal(moved.min(axis=0), [-8, -4, -8, -4])
    assert np.array_equal(moved.max(axis=0), [8, 4, 8, 4])


@pytest.mark.once  # the compiled step of test_augment.py is tried on both backends
def test_an_image_is_shrunk_into_its_frame(keras):
    from kit.train.border import framed
    from kit.train.moving import affine, warp

    # halved in width and height, an image is the mean of blocks of 2 x 2 pixels
    x = np.random.default_rng(0).uniform(0, 255, (1, 16, 24, 1)).astype(np.float32)
    still = affine(np.zeros((1, 7), np.float32), AugmentSettings(), 16, 24)
    frame = np.array([[3, 5, 15, 13]], np.float32)
    out = keras.ops.convert_to_numpy(warp(x, framed(still, frame, 16, 24), "constant"))
    assert out[0, 5:13, 3:15, 0] == pytest.approx(x.reshape(8, 2, 12, 2).mean((1, 3)), abs=1e-2)


@pytest.mark.once  # the compiled step of test_augment.py is tried on both backends
def test_frames_come_after_the_other_moves(keras):
    from kit.train.border import framed
    from kit.train.moving import affine

    mirrored = affine(-np.ones((1, 7), np.float32), AugmentSettings(horizontal_flip=True), 10, 10)
    frame = np.array([[2, 0, 7, 10]], np.float32)
    a0, a1, a2, b0, b1, b2, *_ = keras.ops.convert_to_numpy(framed(mirrored, frame, 10, 10))[0]
    # from the result to the image, in pixels counted from their centres: the frame's left edge shows the right one
    left = np.array([1.5, 4])
    assert a0 * left[0] + a1 * left[1] + a2 == pytest.approx(9.5, abs=1e-4)
    assert b0 * left[0] + b1 * left[1] + b2 == pytest.approx(4, abs=1e-4)


@pytest.mark.once  # the compiled step of test_augment.py is tried on both backends
def test_outside_the_frame_all_is_black_and_nothing_is_masked_in(keras):
    from kit.train.augment import Augment

    batch = {"image": np.full((64, 40, 40, 3), 200, np.uint8), "mask": np.ones((64, 40, 40, 1), np.float32)}
    settings = AugmentSettings(border=0.2, zoom=0.3, fill_mode="constant", fill_value=200)
    out = Augment(settings, 0)(batch, training=True)
    image, mask = (keras.ops.convert_to_numpy(out[key]) for key in ("image", "mask"))
    assert set(np.unique(image)) == {0, 200}  # the zoom fills with 200, the border is black
    assert not mask[image[..., :1] == 0].any()
    rows, columns = (image[..., 0].max(axis=axis) > 0 for axis in (2, 1))
    for seen in (rows, columns):
        assert (np.abs(np.diff(seen.astype(int), axis=1)).sum(axis=1) <= 2).all()  # one stretch
        widths = 40 - seen.sum(axis=1)
        assert widths.min() == 0 and 8 < widths.max() <= 16


@pytest.mark.once  # the compiled step of test_augment.py is tried on both backends
def test_boxes_are_cut_to_the_frame(keras):
    from kit.train.augment import Augment

    rng = np.random.default_rng(0)
    boxes = np.zeros((64, 1, 4), np.float32)
    boxes[:, 0] = np.concatenate([rng.integers(0, 24, (64, 2)), rng.integers(8, 16, (64, 2))], axis=1)
    image = np.zeros((64, 40, 40, 1), np.uint8)
    for picture, (x, y, w, h) in zip(image, boxes[:, 0].astype(int), strict=True):
        picture[y : y + h, x : x + w] = 255
    settings = AugmentSettings(border=0.2, zoom=0.2, shift=0.1, fill_mode="constant", min_visible=0)
    out = Augment(settings, 3)({"image": image, "boxes": boxes}, training=True)
    image, moved = (keras.ops.convert_to_numpy(out[key]) for key in ("image", "boxes"))
    for picture, (x, y, w, h) in zip(image[..., 0], moved[:, 0], strict=True):
        if picture.max() < 128:
            continue
        rows, columns = (np.flatnonzero(picture.max(axis=axis) >= 128) for axis in (1, 0))
        assert (x, x + w) == pytest.approx((columns[0], columns[-1] + 1), abs=1.1)
        assert (y, y + h) == pytest.approx((rows[0], rows[-1] + 1), abs=1.1)
