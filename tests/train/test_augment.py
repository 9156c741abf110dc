import numpy as np
import pytest

from kit.config import AugmentSettings

EVERYTHING = AugmentSettings(
    horizontal_flip=True, vertical_flip=True, rotation=180, shift=0.1, zoom=0.2, brightness=0.1, channel_shift=20
)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)


@pytest.fixture
def augment(keras):
    """A function: settings and images -> the images as training sees them."""

    def changed(settings, images, seed=0, training=True):
        from kit.train.augment import Augment

        labels = np.zeros((len(images), 1), np.float32)
        return keras.ops.convert_to_numpy(Augment(settings, seed)([images, labels], training=training)[0])

    return changed


@pytest.fixture
def warp(keras):
    """A function: settings and one row of draws in [-1, 1] -> one image warped by it."""

    def changed(settings, draw, image, **fill):
        from kit.train.augment import affine

        draw = np.array([draw + [0.0] * (7 - len(draw))], np.float32)
        matrix = affine(keras.ops.convert_to_tensor(draw), settings, *image.shape[:2])
        image = keras.ops.convert_to_tensor(image[None].astype("float32"))
        moved = keras.ops.image.affine_transform(image, matrix, data_format="channels_last", **fill)
        return keras.ops.convert_to_numpy(moved)[0]

    return changed


def test_outside_training_images_are_untouched(augment, images):
    assert np.array_equal(augment(EVERYTHING, images, training=False), images)


def test_in_training_they_change_but_keep_shape_and_dtype(augment, images):
    out = augment(EVERYTHING, images)
    assert (out.shape, out.dtype) == (images.shape, np.uint8)
    assert not np.array_equal(out, images)
    assert np.array_equal(out, augment(EVERYTHING, images))
    assert not np.array_equal(out, augment(EVERYTHING, images, seed=1))


def test_no_setting_changes_nothing(augment, images):
    assert np.array_equal(augment(AugmentSettings(), images), images)


def test_flips_give_exactly_the_mirrored_images(augment, images):
    out = augment(AugmentSettings(horizontal_flip=True), np.repeat(images[:1], 40, 0))
    kinds = {image.tobytes() for image in out}
    assert kinds == {images[0].tobytes(), images[0][:, ::-1].tobytes()}
    both = augment(AugmentSettings(horizontal_flip=True, vertical_flip=True), np.repeat(images[:1], 60, 0))
    x = images[0]
    assert {i.tobytes() for i in both} == {i.tobytes() for i in (x, x[:, ::-1], x[::-1], x[::-1, ::-1])}


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


def test_brightness_and_channel_shift_stay_in_their_bounds(augment):
    grey = np.full((200, 4, 4, 3), 100, np.uint8)
    bright = augment(AugmentSettings(brightness=0.1), grey)
    assert 90 <= bright.min() < 93
    assert 107 < bright.max() <= 110
    assert (np.ptp(bright.reshape(200, -1), axis=1) == 0).all()  # one factor for the whole image
    shifted = augment(AugmentSettings(channel_shift=20), grey)
    assert 80 <= shifted.min() < 84
    assert 116 < shifted.max() <= 120
    assert (np.ptp(shifted.reshape(200, 16, 3), axis=1) == 0).all()  # one shift for each channel of an image


def test_colours_are_clipped_not_wrapped(augment):
    out = augment(AugmentSettings(brightness=0.9, channel_shift=200), np.full((50, 2, 2, 3), 250, np.uint8))
    assert out.min() == 0
    assert out.max() == 255


def test_the_saved_model_holds_no_augmentation(keras):
    from kit.models import registry
    from kit.train.augment import Augment
    from kit.train.fit import training_model

    model = registry.build("pcam_cnn", shape=(32, 32, 3), outputs=1, units=8)
    training = training_model(model, lambda y, p: p[:, 0], EVERYTHING, seed=0)
    assert any(isinstance(layer, Augment) for layer in training.layers)
    assert not any(isinstance(layer, Augment) for layer in model.layers)
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    given = {"image": x, "label": np.zeros((4, 1), np.float32)}
    assert np.allclose(model.predict_on_batch(x)[:, 0], training.predict_on_batch(given))
