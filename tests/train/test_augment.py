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


@pytest.fixture
def in_training(keras):
    """A function: settings and a batch -> the batch as a compiled step of training sees it."""
    from kit.train.augment import Augment

    class InTraining(keras.layers.Layer):  # so that predicting compiles what a step of training does
        def __init__(self, settings):
            super().__init__(dtype="float32")
            self.augment = Augment(settings, 1)

        def build(self, shapes):
            pass

        def call(self, inputs):
            return self.augment(inputs, training=True)

        def compute_output_spec(self, inputs):
            return self.augment.compute_output_spec(inputs)

    def run(settings, batch):
        inputs = {key: keras.Input(x.shape[1:], dtype=str(x.dtype), name=key) for key, x in batch.items()}
        return keras.Model(inputs, InTraining(settings)(inputs)).predict_on_batch(batch)

    return run


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


@pytest.mark.once  # the compiled step is tried on both backends
def test_boxes_move_with_the_pixels_and_other_keys_stay(keras):
    from kit.train.augment import Augment

    x, boxes = np.zeros((16, 32, 32, 1), np.uint8), np.zeros((16, 2, 4), np.float32)
    corners = np.random.default_rng(0).integers(10, 16, (16, 2))
    for image, box, (left, top) in zip(x, boxes, corners, strict=True):
        image[top : top + 7, left : left + 9] = 255
        box[0] = left, top, 9, 7  # the second one is padding
    batch = {"image": x, "boxes": boxes, "label": np.ones((16, 1), np.float32), "row": np.arange(16)}
    placed = AugmentSettings(horizontal_flip=True, vertical_flip=True, shift=0.2, brightness=0.1, fill_mode="constant")
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
    assert np.median(inside) > 0.85  # a shift by parts of a pixel blurs the edges
    unchanged = Augment(placed, 0)(batch, training=False)
    assert all(np.array_equal(keras.ops.convert_to_numpy(unchanged[key]), batch[key]) for key in batch)


def boxed_batch(count, size=48):
    """Dark images with a bright box each, and a second box that is padding."""
    rng = np.random.default_rng(2)
    boxes = np.zeros((count, 2, 4), np.float32)
    boxes[:, 0] = np.concatenate([rng.integers(8, 24, (count, 2)), rng.integers(8, 16, (count, 2))], 1)
    mask = np.zeros((count, size, size, 1), np.float32)
    for image, (x, y, w, h) in zip(mask, boxes[:, 0].astype(int), strict=True):
        image[y : y + h, x : x + w] = 1
    there = np.tile([True, False], (count, 1))
    labels = np.tile(np.array([3, 0], np.int32), (count, 1))
    return {
        "image": (mask * 200).astype(np.uint8),
        "mask": mask,
        "boxes": boxes,
        "box_labels": labels,
        "box_mask": there,
    }


def test_image_mask_and_boxes_move_together_in_a_compiled_step(in_training):
    batch, boxes = boxed_batch(32), AugmentSettings(preset="boxes", brightness=0, horizontal_flip=True)
    out = in_training(boxes, batch)
    assert {key: (x.shape, x.dtype) for key, x in out.items()} == {key: (x.shape, x.dtype) for key, x in batch.items()}
    assert np.abs(out["image"] / 200 - out["mask"]).max() < 0.01
    assert np.array_equal(out["box_mask"], batch["box_mask"])  # these moves are too small to push a box out
    assert np.array_equal(out["box_labels"], batch["box_labels"])
    assert not out["boxes"][:, 1].any()
    places = np.arange(48) + 0.5
    for mask, (x, y, w, h) in zip(out["mask"][..., 0], out["boxes"][:, 0], strict=True):
        assert (mask.sum(0) * places).sum() / mask.sum() == pytest.approx(x + w / 2, abs=0.2)
        assert (mask.sum(1) * places).sum() / mask.sum() == pytest.approx(y + h / 2, abs=0.2)
    assert np.abs(out["boxes"][:, 0] - batch["boxes"][:, 0]).max() > 3


@pytest.mark.once  # the compiled step is tried on both backends
def test_what_is_pushed_out_becomes_padding(keras):
    from kit.train.augment import Augment

    batch = boxed_batch(64)
    out = Augment(AugmentSettings(shift=0.7, fill_mode="constant"), 0)(batch, training=True)
    out = {key: keras.ops.convert_to_numpy(x) for key, x in out.items()}
    there = out["box_mask"][:, 0]
    assert 10 < there.sum() < 54
    assert np.array_equal(there, out["boxes"][:, 0, 2:].all(1))
    assert not out["boxes"][~there].any() and not out["box_labels"][~there].any()
    assert (out["box_labels"][there, 0] == 3).all()
    left = out["mask"].sum((1, 2, 3)) / batch["mask"].sum((1, 2, 3))  # the share that is still in the image
    assert (left[there] > 0.28).all() and (left[~there] < 0.32).all()
    x, y, w, h = out["boxes"][there, 0].T
    assert (x >= 0).all() and (y >= 0).all() and (x + w <= 48).all() and (y + h <= 48).all()


@pytest.mark.once  # the compiled step is tried on both backends
def test_erased_boxes_are_dropped_and_their_pixels_are_in_no_mask(keras):
    from kit.train.augment import Augment

    batch = {**boxed_batch(200), "image": np.full((200, 48, 48, 1), 7, np.uint8)}
    out = Augment(AugmentSettings(erasing=1.0, min_visible=0.6), 0)(batch, training=True)
    out = {key: keras.ops.convert_to_numpy(x) for key, x in out.items()}
    kept = out["box_mask"][:, 0]
    seen = out["mask"].sum((1, 2, 3)) / batch["mask"].sum((1, 2, 3))
    assert np.array_equal(kept, seen >= 0.6 - 1e-4)
    assert 0 < (~kept).sum() < 150
    assert np.array_equal(out["boxes"][kept], batch["boxes"][kept])
    assert not out["boxes"][~kept].any() and not out["box_labels"][~kept].any()
    noisy = out["image"] != 7
    assert not (out["mask"].astype(bool) & noisy).any()


@pytest.mark.once
def test_boxes_with_repeated_parts_of_an_image_are_refused():
    from kit.config import check_augment
    from kit.errors import ConfigError

    for change in ({"rotation": 5}, {"shift": 0.1}, {"zoom": (0, 0.1)}, {"shear": 1}):
        with pytest.raises(ConfigError, match=r"augment\.fill_mode = reflect would repeat .* set it to constant"):
            check_augment(AugmentSettings(**change), "boxes")
        check_augment(AugmentSettings(**change), "probabilities")
        check_augment(AugmentSettings(**change, fill_mode="constant"), "boxes")
    check_augment(AugmentSettings(horizontal_flip=True, vertical_flip=True, erasing=0.5, brightness=0.1), "boxes")
    with pytest.raises(ConfigError, match=r"augment\.mixup does not move boxes along with the pixels: set it to 0"):
        check_augment(AugmentSettings(preset="strong"), "boxes")


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
        pytest.param({"cutmix": 1.0}, marks=pytest.mark.once),
        {"mixup": 0.4, "cutmix": 1.0},
    ],
    ids=lambda chosen: "+".join(chosen),
)
def test_kerass_layers_in_a_compiled_step(in_training, chosen):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 16)]

    def run():
        outputs = in_training(AugmentSettings(**chosen), {"image": x, "label": y})
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


def test_colours_and_borders_in_a_compiled_step(in_training, images):
    changes = {"stain": 0.1, "contrast": 0.2, "gamma": 0.2, "histogram": 0.4, "border": 0.1}
    outs = [
        in_training(AugmentSettings(**{name: value}), {"image": images})["image"] for name, value in changes.items()
    ]
    outs.append(in_training(AugmentSettings(**changes, rotation=20), {"image": images})["image"])
    for out in outs:
        assert (out.shape, out.dtype) == (images.shape, np.uint8)
        # a draw may be so small that rounding undoes it
        assert sum(not np.array_equal(one, other) for one, other in zip(out, images, strict=True)) >= len(images) - 1
    assert len({out.tobytes() for out in outs}) == 6


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


@pytest.mark.once  # the compiled step mixes on both backends
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
