"""Networks that paint a mask of the boxes: filled boxes, their loss, mask_net and unet."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import ConfigError

SMALL = {"unet": {"backbone": "pcam_cnn", "width": 4}, "mask_net": {"width": 4, "depth": 3, "blocks": 1}}


@pytest.fixture(scope="module")
def masks(keras):
    from kit.models.detect import mask_detector

    return mask_detector


@pytest.fixture
def build(keras):
    from kit.models import registry

    keras.utils.set_random_seed(0)

    def built(name, shape=(48, 40, 1), outputs=1, **arguments):
        return registry.build(name, shape=shape, outputs=outputs, **{**SMALL[name], **arguments})

    return built


@pytest.fixture
def batch():
    """Three images of two labels: with two boxes, one, none."""
    return {
        "image": np.random.default_rng(0).integers(0, 256, (3, 48, 40, 1), dtype=np.uint8),
        "boxes": np.array([[[4, 8, 12, 20], [20, 10, 16, 16]], [[0, 0, 9, 9], [0] * 4], [[0] * 4] * 2], np.float32),
        "box_labels": np.array([[0, 1], [1, 0], [0, 0]], np.int32),
        "box_mask": np.array([[True, True], [True, False], [False, False]]),
    }


def numbers(keras, x):
    return keras.ops.convert_to_numpy(x)


def test_boxes_are_filled_by_what_they_cover_of_each_pixel(masks, keras):
    boxes = np.array([[[1.25, 0.5, 2.0, 1.0], [3.0, 0.0, 1.0, 2.0], [0, 0, 4, 2]]], np.float32)
    labels, valid = np.zeros((1, 3), np.int32), np.array([[True, True, False]])
    mask = numbers(keras, masks.filled(boxes, labels, valid, (2, 4), 1))
    assert mask.dtype == np.float32
    # columns .75 1 .25 of the first box, half of both rows; the second fills the last column, where shares are summed
    assert np.allclose(mask[0, :, :, 0], [[0, 0.375, 0.5, 1], [0, 0.375, 0.5, 1]])
    overlap = numbers(keras, masks.filled(boxes[:, [0, 0]], labels[:, :2], valid[:, :2], (2, 4), 1))
    assert np.allclose(overlap[0, 0, :, 0], [0, 0.75, 1, 0.25])


def test_a_box_beyond_the_image_covers_only_what_is_in_it(masks, keras):
    boxes = np.array([[[-3.0, -1.0, 4.5, 2.0], [3.5, 1.0, 9.0, 9.0]]], np.float32)
    mask = masks.filled(boxes, np.zeros((1, 2), np.int32), np.ones((1, 2), bool), (2, 4), 1)
    assert np.allclose(numbers(keras, mask)[0, :, :, 0], [[1, 0.5, 0, 0], [0, 0, 0, 0.5]])


def test_labels_have_masks_of_their_own(masks, batch, keras):
    mask = numbers(keras, masks.filled(batch["boxes"], batch["box_labels"], batch["box_mask"], (48, 40), 3))
    assert mask.shape == (3, 48, 40, 3)
    assert np.allclose(mask.sum(axis=(1, 2)), [[240, 256, 0], [0, 81, 0], [0, 0, 0]])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.floats(-5, 25), st.floats(-5, 25), st.floats(0, 30), st.floats(0, 30))
def test_the_area_of_a_filled_box_is_its_area_in_the_image(keras, x, y, w, h):
    from kit.models.detect.mask_detector import filled

    boxes = np.array([[[x, y, w, h]]], np.float32)
    mask = numbers(keras, filled(boxes, np.zeros((1, 1), np.int32), np.ones((1, 1), bool), (16, 20), 1))
    width, height = min(x + w, 20) - max(x, 0), min(y + h, 16) - max(y, 0)
    assert mask.sum() == pytest.approx(max(width, 0) * max(height, 0), abs=2e-3)
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_shares_of_cells(masks, keras):
    mask = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    cells = numbers(keras, masks.shares(mask, 2))[0, :, :, 0]
    assert np.allclose(cells, [[3, 5, 6.5], [10.5, 12.5, 14]])
    assert np.array_equal(numbers(keras, masks.shares(mask, 1)), mask)


def test_the_loss_by_hand(masks, keras):
    # four cells of probability .75 .75 .25 .25; the upper two are a box
    logit = math.log(3)
    logits = np.array([logit, logit, -logit, -logit], np.float32).reshape(1, 2, 2, 1)
    logits = np.concatenate([logits, logits, np.full((1, 2, 2, 1), -30, np.float32)])
    target = np.zeros((3, 2, 2, 1), np.float32)
    target[0, 0] = 1
    loss = numbers(keras, masks.mask_loss(target, logits))
    # means over the 12 cells: of tp 1.5 / 12, of t + p - tp (2 + 2 - 1.5 + 2) / 12; with .0001 added to both
    iou = 0.1251 / 0.3751
    assert loss.dtype == np.float32
    assert loss[0] == pytest.approx(0.25 * -math.log(0.75) + 0.75 * (1 - iou), abs=1e-6)
    assert loss[1] == pytest.approx(0.25 * (math.log(4 / 3) + math.log(4)) / 2 + 0.75 * (1 - iou), abs=1e-6)
    assert loss[2] == pytest.approx(0.75 * (1 - iou), abs=1e-6)
    nothing = numbers(keras, masks.mask_loss(target[2:], logits[2:]))
    assert nothing[0] == pytest.approx(0, abs=1e-6)  # no box, and none found


def test_a_mask_that_is_alike_everywhere_is_no_better_for_being_empty(masks, keras):
    target = np.zeros((4, 10, 10, 1), np.float32)
    target[0, :4, :5] = 1  # 5 % of four images
    losses = [numbers(keras, masks.mask_loss(target, np.full_like(target, logit))).mean() for logit in (-9, -6, -4, -3)]
    assert losses == sorted(losses, reverse=True)


def test_cells_that_are_covered_in_part_are_best_predicted_as_they_are(masks, keras):
    target = np.array([[0.2, 0.9], [0.5, 0.0]], np.float32).reshape(1, 2, 2, 1)
    share = np.clip(target, 1e-6, None)
    exact = numbers(keras, masks.mask_loss(target, np.log(share / (1 - share))))[0]
    entropy = -sum(t * math.log(t) + (1 - t) * math.log(1 - t) for t in (0.2, 0.9, 0.5))
    assert exact == pytest.approx(0.25 * entropy / 4, abs=1e-5)  # the IoU is 1
    for sign in (1, -1):
        assert numbers(keras, masks.mask_loss(target, np.log(share / (1 - share)) + sign * 0.1))[0] > exact


def test_the_loss_is_the_mean_over_labels(masks, keras):
    random = np.random.default_rng(0)
    target, logits = random.random((2, 4, 4, 3), np.float32), random.normal(0, 3, (2, 4, 4, 3)).astype(np.float32)
    each = [numbers(keras, masks.mask_loss(target[..., [n]], logits[..., [n]])) for n in range(3)]
    assert np.allclose(numbers(keras, masks.mask_loss(target, logits)), np.mean(each, axis=0), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("size", [0, 8, 1000])
def test_the_loss_is_finite_whatever_the_logits(masks, keras, dtype, size):
    logits = keras.ops.convert_to_tensor(np.full((1, 4, 4, 1), size), dtype)
    for sign in (1, -1):
        for share in (0.0, 1.0):
            loss = masks.mask_loss(np.full((1, 4, 4, 1), share, np.float32), sign * logits)
            assert keras.backend.standardize_dtype(loss.dtype) == "float32"
            assert np.isfinite(numbers(keras, loss)).all()


def learner(keras, detector, boxes):
    """What trains a detector on batches of so many boxes an image."""

    class Losses(keras.layers.Layer):
        def __init__(self):
            super().__init__(dtype="float32")
            self.detector = detector

        def build(self, _):
            pass

        def call(self, batch):
            return self.detector.losses(self.detector.with_targets(batch))

        def compute_output_spec(self, _):
            return keras.KerasTensor((None,), "float32")

    kinds = {"image": (detector.input_shape[1:], "uint8"), "boxes": ((boxes, 4), "float32")}
    kinds |= {"box_labels": ((boxes,), "int32"), "box_mask": ((boxes,), "bool")}
    inputs = {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in kinds.items()}
    model = keras.Model(inputs, Losses()(inputs))
    model.compile(keras.optimizers.Adam(0.01), loss=lambda _, loss: keras.ops.mean(loss))
    return model


@pytest.mark.parametrize("name", ["unet", pytest.param("mask_net", marks=pytest.mark.once)])
def test_training_lowers_the_loss_with_boxes_and_without(build, batch, keras, name):
    detector = build(name, outputs=2)

    def losses(batch):
        return numbers(keras, detector.losses(detector.with_targets(batch)))

    before, first = [numbers(keras, w).copy() for w in detector.trainable_weights], losses(batch)
    assert first.shape == (3,)
    assert first.dtype == np.float32
    model = learner(keras, detector, 2)
    for _ in range(10):
        assert np.isfinite(model.train_on_batch(batch, np.zeros(3, np.float32)))
    assert losses(batch).mean() < 0.9 * first.mean()
    after = [numbers(keras, w) for w in detector.trainable_weights]
    assert np.mean([np.array_equal(a, b) for a, b in zip(before, after, strict=True)]) < 0.1

    empty = {**batch, "boxes": batch["boxes"] * 0, "box_labels": batch["box_labels"] * 0}
    empty["box_mask"] = np.zeros((3, 2), bool)
    first = losses(empty)
    for _ in range(5):
        assert np.isfinite(model.train_on_batch(empty, np.zeros(3, np.float32)))
    assert losses(empty).mean() < first.mean()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [pytest.param((48, 40, 1), marks=pytest.mark.once), (50, 43, 3)])
def test_outputs_and_candidates(build, keras, name, shape):
    detector = build(name, shape, outputs=2)
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    outputs = detector.predict_on_batch(images)
    stride = detector.stride
    assert list(outputs) == ["mask"]
    assert outputs["mask"].shape == (3, math.ceil(shape[0] / stride), math.ceil(shape[1] / stride), 2)
    assert outputs["mask"].dtype == np.float32
    assert 0.03 < outputs["mask"].mean() < 0.3  # the prior is .1
    boxes = detector.candidates(outputs, 3)
    assert boxes.images == 3
    assert (np.bincount(boxes.image * 2 + boxes.label, minlength=6) <= 3).all()
    assert (boxes.xywh[:, :2] + boxes.xywh[:, 2:] <= [shape[1], shape[0]]).all()


@pytest.mark.parametrize("name", SMALL)
def test_boxes_of_a_perfect_mask_are_those_that_were_filled(build, masks, batch, keras, name):
    detector = build(name, outputs=2)
    mask = numbers(keras, masks.shares(detector.with_targets(batch)["mask"], detector.stride))
    boxes = detector.candidates({"mask": mask}, 10)
    assert boxes.image.tolist() == [0, 0, 1]
    assert boxes.label.tolist() == [0, 1, 1]
    assert np.abs(boxes.xywh - [[4, 8, 12, 20], [20, 10, 16, 16], [0, 0, 9, 9]]).max() <= 0.2 * detector.stride + 1


@pytest.mark.once
@pytest.mark.parametrize("name", SMALL)
def test_half_precision_and_save_and_load(build, batch, keras, name, tmp_path):
    from kit.models import saved

    keras.config.set_dtype_policy("mixed_float16")
    try:
        spec = {"name": name, "shape": (48, 40, 1), "outputs": 2, **SMALL[name], "threshold": 0.3}
        detector = build(name, outputs=2, threshold=0.3)
        assert numbers(keras, detector.losses(detector.with_targets(batch))).dtype == np.float32
        mask = detector.predict_on_batch(batch["image"])["mask"]
        assert mask.dtype == np.float32
        saved.save_model(detector, spec, tmp_path)
        loaded = saved.load_model(tmp_path)
        assert np.array_equal(loaded.predict_on_batch(batch["image"])["mask"], mask)
        assert (loaded.stride, loaded.areas) == (detector.stride, detector.areas)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "arguments", "stride"),
    [
        ("mobilenet", {"until": "conv_pw_12_relu"}, 4),
        ("squeezenet", {}, 4),  # pooled without padding
        ("pcam_cnn_tuned", {"blocks": 3}, 4),  # convolutions without padding
    ],
)
def test_a_unet_on_any_backbone(build, keras, name, arguments, stride):
    with keras.StatelessScope(initialize_variables=False):
        detector = build("unet", (100, 68, 3), backbone=name, backbone_arguments=arguments)
    keras.utils.clear_session()
    assert detector.get_layer("mask").output.shape == (None, math.ceil(100 / stride), math.ceil(68 / stride), 1)
    assert any(layer.name == "backbone" for layer in detector.layers)


@pytest.mark.once
@pytest.mark.parametrize("channels", [1, 3])
def test_mask_net_is_that_of_the_system_it_comes_from(keras, channels):
    from kit.models import registry

    with keras.StatelessScope(initialize_variables=False):
        model = registry.build("mask_net", shape=(224, 224, channels), outputs=1)
    keras.utils.clear_session()
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == (12_728_545, 12_718_881)
    assert model.get_layer("mask").output.shape == (None, 14, 14, 1)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mask_net", {"threshold": 10}, r"model.arguments.threshold = 10: a probability between 0 and 1 is needed"),
        ("unet", {"min_area": -1}, r"model.arguments.min_area = -1: a share of the image is 0 or more, below 1"),
        ("mask_net", {"depth": -1}, "model.arguments.depth = -1: the number of halvings cannot be negative"),
        ("mask_net", {"widht": 8}, "model mask_net: .*unexpected keyword argument 'widht'"),
        ("unet", {"backbone": "pneumonia_mlp"}, "model pneumonia_mlp has no feature maps of stride 4 to 32"),
        ("unet", {"backbone": "resnet5"}, "unknown model 'resnet5'; did you mean 'resnet50'"),
    ],
)
def test_what_cannot_be_built(build, name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **arguments)
