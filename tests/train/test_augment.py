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

        return keras.ops.convert_to_numpy(Augment(settings, seed)({"image": images}, training=training)["image"])

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
    from kit.train.objectives import of_labels

    model = registry.build("pcam_cnn", shape=(32, 32, 3), outputs=1, units=8)
    training = training_model(model, of_labels(lambda y, p: p[:, 0]), EVERYTHING, seed=0)
    assert any(isinstance(layer, Augment) for layer in training.layers)
    assert not any(isinstance(layer, Augment) for layer in model.layers)
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    batch = {"image": x, "label": np.zeros((4, 1), np.float32)}
    assert np.allclose(model.predict_on_batch(x)[:, 0], training.predict_on_batch(batch))


def test_boxes_move_with_the_pixels_and_other_keys_stay(keras):
    from kit.train.augment import Augment

    x, boxes = np.zeros((16, 32, 32, 1), np.uint8), np.zeros((16, 2, 4), np.float32)
    corners = np.random.default_rng(0).integers(10, 16, (16, 2))
    for image, box, (left, top) in zip(x, boxes, corners, strict=True):
        image[top : top + 7, left : left + 9] = 255
        box[0] = left, top, 9, 7  # the second one is padding
    batch = {"image": x, "boxes": boxes, "label": np.ones((16, 1), np.float32), "row": np.arange(16)}
    placed = AugmentSettings(horizontal_flip=True, vertical_flip=True, shift=0.2, brightness=0.1, erasing=0.1)
    augmented = Augment(placed, 0)(batch, training=True)
    assert list(augmented) == list(batch)
    out, moved, labels, row = (keras.ops.convert_to_numpy(augmented[key]) for key in batch)
    assert (out.shape, out.dtype, moved.shape, moved.dtype) == (x.shape, np.uint8, boxes.shape, np.float32)
    assert np.array_equal(labels, batch["label"]) and np.array_equal(row, batch["row"])
    assert not moved[:, 1].any()
    assert not np.allclose(moved[:, 0], boxes[:, 0], atol=1)
    inside = []
    for image, (left, top, w, h) in zip(out[..., 0], moved[:, 0].round().astype(int), strict=True):
        inside.append(image[top : top + h, left : left + w].astype(float).sum() / image.sum())
    assert np.median(inside) > 0.85  # a shift by parts of a pixel blurs the edges, and some images are erased in part
    unchanged = Augment(placed, 0)(batch, training=False)
    assert all(np.array_equal(keras.ops.convert_to_numpy(unchanged[key]), batch[key]) for key in batch)


@pytest.mark.parametrize("name", ["rand_augment", "mixup", "cutmix"])
def test_changes_that_boxes_cannot_follow_are_refused(keras, name):
    from kit.errors import ConfigError
    from kit.train.augment import Augment

    inputs = {"image": keras.Input((8, 8, 1), dtype="uint8"), "boxes": keras.Input((2, 4))}
    with pytest.raises(ConfigError, match=rf"augment\.{name} does not move boxes"):
        Augment(AugmentSettings(**{name: 0.5}))(inputs)


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param({"rand_augment": 0.5}, marks=pytest.mark.once),
        pytest.param({"erasing": 0.5}, marks=pytest.mark.once),
        pytest.param({"mixup": 0.2}, marks=pytest.mark.once),
        {"cutmix": 1.0},
        {"mixup": 0.4, "cutmix": 1.0},
    ],
    ids=lambda chosen: "+".join(chosen),
)
def test_kerass_layers_in_a_compiled_step(keras, chosen):
    from kit.train.augment import Augment

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 16)]

    class InTraining(keras.layers.Layer):  # so that predicting compiles what a step of training does
        def __init__(self):
            super().__init__(dtype="float32")
            self.augment = Augment(AugmentSettings(**chosen), 1)

        def build(self, shapes):
            pass

        def call(self, inputs):
            return self.augment(inputs, training=True)

        def compute_output_spec(self, inputs):
            return self.augment.compute_output_spec(inputs)

    def run():
        inputs = {
            "image": keras.Input((16, 16, 3), dtype="uint8", name="image"),
            "label": keras.Input((3,), name="label"),
        }
        outputs = keras.Model(inputs, InTraining()(inputs)).predict_on_batch({"image": x, "label": y})
        return outputs["image"], outputs["label"]

    out, mixed = run()
    assert (out.shape, out.dtype, mixed.shape, mixed.dtype) == (x.shape, np.uint8, y.shape, np.float32)
    assert not np.array_equal(out, x)
    if "mixup" in chosen:  # the seed decides
        again = run()
        assert np.array_equal(out, again[0])
        assert np.array_equal(mixed, again[1])
    assert mixed.sum(axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    assert (mixed >= 0).all()
    if set(chosen) & {"mixup", "cutmix"}:
        assert not np.array_equal(mixed, y)
    else:
        assert np.array_equal(mixed, y)


def test_mixing_weighs_images_and_labels_alike(keras):
    from kit.train.augment import Augment

    # image n is grey level n everywhere, and label n is n: whatever share is taken, both say the same
    levels = np.arange(0, 240, 15)
    x = np.broadcast_to(levels[:, None, None, None], (16, 8, 8, 1)).astype(np.uint8)
    y = (levels[:, None] / 255).astype(np.float32)
    for chosen, off in (({"mixup": 1.0}, 0.6), ({"cutmix": 1.0}, 60)):  # rounding; a cut has whole pixels
        batch = Augment(AugmentSettings(**chosen), 3)({"image": x, "label": y}, training=True)
        means = keras.ops.convert_to_numpy(batch["image"]).astype(float).mean(axis=(1, 2, 3))
        assert means == pytest.approx(255 * keras.ops.convert_to_numpy(batch["label"])[:, 0], abs=off)
        assert np.abs(means - levels).max() > 0


def test_unknown_labels_stay_unknown_when_mixed(keras):
    from kit.train.augment import Augment

    y = np.ones((64, 2), np.float32)
    y[::8, 1] = np.nan
    x = np.zeros((64, 4, 4, 1), np.uint8)
    for chosen in ({"mixup": 0.2}, {"cutmix": 0.3}):
        batch = Augment(AugmentSettings(**chosen), 0)({"image": x, "label": y}, training=True)
        mixed = keras.ops.convert_to_numpy(batch["label"])
        assert np.isnan(mixed[::8, 1]).all()  # no label is invented for them
        assert 8 <= np.isnan(mixed[:, 1]).sum() <= 16  # those mixed with one become unknown
        assert mixed[:, 0] == pytest.approx(np.ones(64))  # other labels are not touched


def test_the_set_share_of_images_is_erased(augment):
    x = np.full((400, 16, 16, 1), 100, np.uint8)
    for share in (0.25, 1.0):
        erased = (augment(AugmentSettings(erasing=share), x) != 100).any(axis=(1, 2, 3)).mean()
        assert erased == pytest.approx(share, abs=0.08)


def test_half_precision_rounds_no_label(keras):
    from kit.train.augment import Augment

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        y = np.array([[0.3], [0.7]], np.float32)  # of a dataset of mixed labels
        images = np.zeros((2, 4, 4, 1), np.uint8)
        batch = Augment(AugmentSettings(), 0)({"image": images, "label": y}, training=True)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.array_equal(keras.ops.convert_to_numpy(batch["label"]), y)


def test_a_missing_keras_cv_is_named(keras, monkeypatch):
    import sys

    from kit.errors import ConfigError
    from kit.train.augment import Augment

    monkeypatch.setitem(sys.modules, "keras_cv", None)  # as if it were not installed
    for setting in ("grid_mask", "fourier_mix"):
        with pytest.raises(ConfigError, match=rf"augment\.{setting} needs keras-cv"):
            Augment(AugmentSettings(**{setting: 0.5}))
