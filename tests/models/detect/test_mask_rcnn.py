"""Mask R-CNN: its losses against slow ones, its boxes, and that all of it learns and is saved."""

import math

import numpy as np
import pytest

from kit.boxes import iou
from kit.errors import ConfigError

SMALL = {"backbone": "pcam_cnn", "channels": 8, "units": 16, "proposals": 12, "detections": 6}
BOXES = [[(8, 10, 20, 24), (40, 36, 18, 12)], [], [(20, 20, 30, 30)], [(1.5, 2.5, 5, 3)]]


@pytest.fixture(scope="module")
def mask_rcnn(keras):
    from kit.models.detect import mask_rcnn

    return mask_rcnn


@pytest.fixture
def build(keras):
    """A function: arguments -> a small untrained detector for images of 64 px."""
    from kit.models import registry

    keras.utils.set_random_seed(0)
    return lambda outputs=1, **changes: registry.build(
        "mask_rcnn", shape=(64, 64, 1), outputs=outputs, **{**SMALL, **changes}
    )


@pytest.fixture
def trainer(keras):
    """A function: a detector -> a model of whole batches whose output is the loss, as training uses it."""

    class Loss(keras.layers.Layer):
        def __init__(self, detector):
            super().__init__(dtype="float32", autocast=False)
            self.detector = detector

        def call(self, inputs):
            return self.detector.losses(inputs)

        def compute_output_spec(self, inputs):
            return keras.KerasTensor((None,), "float32")

    def compiled(detector, padding=3, **options):
        inputs = {
            "image": keras.Input(detector.input_shape[1:], dtype="uint8", name="image"),
            "boxes": keras.Input((padding, 4), name="boxes"),
            "box_labels": keras.Input((padding,), dtype="int32", name="box_labels"),
            "box_mask": keras.Input((padding,), dtype="bool", name="box_mask"),
        }
        model = keras.Model(inputs, Loss(detector)(inputs))
        model.compile(keras.optimizers.Adam(0.003), loss=lambda _, loss: loss, **options)
        return model

    return compiled


def batch(boxes, labels=None, padding=3):
    """Noise, and on it a bright square where each box (x, y, w, h) is."""
    images = np.random.default_rng(0).integers(0, 60, (len(boxes), 64, 64, 1), dtype=np.uint8)
    padded = np.zeros((len(boxes), padding, 4), "float32")
    numbers, mask = np.zeros((len(boxes), padding), "int32"), np.zeros((len(boxes), padding), bool)
    for n, own in enumerate(boxes):
        for m, (x, y, w, h) in enumerate(own):
            images[n, int(y) : int(y + h), int(x) : int(x + w)] += 150
            padded[n, m], mask[n, m] = (x, y, w, h), True
            numbers[n, m] = labels[n][m] if labels else 0
    return {"image": images, "boxes": padded, "box_labels": numbers, "box_mask": mask}


def entropy(target, logit):
    return math.log1p(math.exp(-abs(logit))) + max(logit, 0) - logit * target


def smooth_l1(box, region, offsets):
    """The loss of offsets from a region to a box, both corners."""
    (x, y, w, h), (rx, ry, rw, rh) = (
        ((c[0] + c[2]) / 2, (c[1] + c[3]) / 2, c[2] - c[0], c[3] - c[1]) for c in (box, region)
    )
    targets = [(x - rx) / rw / 0.1, (y - ry) / rh / 0.1, math.log(w / rw) / 0.2, math.log(h / rh) / 0.2]
    sizes = [abs(a - b) for a, b in zip(offsets, targets, strict=True)]
    return sum(size**2 / 2 if size < 1 else size - 0.5 for size in sizes) / 4


def mean(parts, images):
    """Of pairs (image, loss): what each image adds to the mean of all, times the number of images."""
    sums = np.zeros(images)
    np.add.at(sums, [image for image, _ in parts], [loss for _, loss in parts])
    return sums * images / max(1, len(parts))


def overlaps(regions, truth, image):
    """Intersection over union of regions (corners) and the boxes of an image; and the boxes, as corners."""
    boxes = truth["boxes"][image][truth["box_mask"][image]].astype(float)
    xywh = np.concatenate([regions[:, :2], regions[:, 2:] - regions[:, :2]], axis=1).astype(float)
    return iou(xywh, boxes), np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def anchor_loss(anchors, logits, offsets, truth):
    images, classes, places = len(logits), [], []
    for i in range(images):
        overlap, boxes = overlaps(anchors, truth, i)
        for a in range(len(anchors)):
            best = overlap[a].max(initial=0)
            positive = best >= 0.7 or any(0 < overlap[a, n] == overlap[:, n].max() for n in range(len(boxes)))
            if positive:
                places.append((i, smooth_l1(boxes[overlap[a].argmax()], anchors[a], offsets[i, a])))
            if positive or best < 0.3:
                classes.append((i, entropy(positive, logits[i, a])))
    assert len(places) >= 4
    return mean(classes, images) + mean(places, images)


def region_loss(numpy, parts, maps, proposals, truth, class_weight):
    """Of all regions, the boxes themselves among them."""
    images, classes, places, masks = len(proposals), [], [], []
    for i in range(images):
        own = proposals[i]
        overlap, boxes = overlaps(own, truth, i)
        own = np.concatenate([own, boxes]).astype("float32")
        overlap, _ = overlaps(own, truth, i)
        level = [np.asarray(numpy(m))[i : i + 1] for m in maps]
        logits, offsets = (numpy(x) for x in parts.box_head(parts.align(own[None], level)))
        outlines = numpy(parts.mask_head(parts.align_masks(own[None], level)))
        for r in range(len(own)):
            positive = overlap[r].max(initial=0) >= 0.5
            nearest = overlap[r].argmax() if positive else 0
            label = truth["box_labels"][i, nearest] if positive else -1
            shifted = logits[r] - logits[r].max()
            classes.append((i, -(shifted[label + 1] - math.log(np.exp(shifted).sum()))))
            if not positive:
                continue
            places.append((i, smooth_l1(boxes[nearest], own[r], offsets[r, label])))
            left, top, right, bottom = own[r].astype(float)
            shares = []
            for low, high, start, end in ((top, bottom, 1, 3), (left, right, 0, 2)):
                cells = low + np.arange(29) * (high - low) / 28
                inside = np.clip(cells, boxes[nearest][start], boxes[nearest][end])
                shares.append(np.diff(inside) / ((high - low) / 28))
            pixels = [
                entropy(shares[0][y] * shares[1][x], outlines[r, y, x, label]) for y in range(28) for x in range(28)
            ]
            masks.append((i, np.mean(pixels)))
    assert len(places) > len(BOXES)  # others than the boxes themselves
    assert len(classes) > 3 * len(places)
    return class_weight * mean(classes, images) + mean(places, images) + mean(masks, images)


@pytest.mark.once
def test_losses_are_those_of_a_slow_computation(keras, build):
    numpy = keras.ops.convert_to_numpy
    # few anchors and many regions: nothing is left to chance
    detector = build(outputs=2, anchor_ratios=[1.0], anchor_scale=5.0, positives=1.0, class_weight=1.25)
    detector.parts.trunk.trainable = False  # batch normalisation and dropout as in inference
    weights = detector.get_weights()
    shake = np.random.default_rng(0)
    detector.set_weights([w + shake.normal(0, 0.02, w.shape).astype(w.dtype) for w in weights])
    truth = batch(BOXES, [[0, 1], [], [1], [0]])
    maps, logits, offsets = detector.parts.trunk(truth["image"])
    proposals = numpy(detector.parts.proposals(logits, offsets))
    expected = region_loss(numpy, detector.parts, maps, proposals, truth, 1.25)
    expected += anchor_loss(detector.parts.anchors, numpy(logits), numpy(offsets), truth)
    loss = numpy(detector.losses(truth))
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-3)


def learn(keras, detector, model):
    """Steps with and without boxes, and what must be true of them."""
    numbers = keras.ops.convert_to_numpy
    before = [numbers(w) for w in detector.trainable_weights]
    assert np.isfinite(model.train_on_batch(batch(BOXES, [[0, 1], [], [1], [0]]), np.zeros(4)))
    paths = [w.path for w, old in zip(detector.trainable_weights, before, strict=True) if (numbers(w) == old).all()]
    assert not paths  # every weight learns

    nothing = batch([[], [], [], []])
    score = detector.predict_on_batch(nothing["image"])["scores"].max()
    for _ in range(3):
        assert np.isfinite(model.train_on_batch(nothing, np.zeros(4)))
    assert all(np.isfinite(numbers(w)).all() for w in detector.trainable_weights)
    assert detector.predict_on_batch(nothing["image"])["scores"].max() < score


@pytest.mark.once
def test_all_of_it_learns_and_images_without_boxes_teach_that_there_is_none(keras, build, trainer):
    detector = build(outputs=2)
    learn(keras, detector, trainer(detector, run_eagerly=True))


@pytest.mark.slow
def test_it_learns_compiled(keras, build, trainer):
    if keras.backend.backend() != "jax":
        pytest.skip("TensorFlow takes the other test")
    detector = build(outputs=2)
    learn(keras, detector, trainer(detector))


@pytest.mark.once
def test_candidates_are_the_best_of_each_label_inside_the_image(build):
    detector = build(outputs=2, proposals=20, detections=16)
    images = batch(BOXES)["image"]
    outputs = detector.predict_on_batch(images)
    assert {name: (x.shape, x.dtype.name) for name, x in outputs.items()} == {
        "corners": ((4, 16, 4), "float32"),
        "regions": ((4, 16, 4), "float32"),
        "scores": ((4, 16), "float32"),
        "labels": ((4, 16), "float32"),
        "masks": ((4, 1, 28, 28), "float32"),
    }
    assert (np.diff(outputs["scores"], axis=1) <= 0).all()
    boxes = detector.candidates(outputs, 5)
    counts = np.bincount(2 * boxes.image + boxes.label, minlength=8)
    expected = [min(5, (outputs["labels"][i] == label).sum()) for i in range(4) for label in (0, 1)]
    assert counts.tolist() == expected
    assert boxes.images == 4
    assert (boxes.xywh[:, :2] >= 0).all()
    assert (boxes.xywh[:, :2] + boxes.xywh[:, 2:] <= 64 + 1e-4).all()
    np.testing.assert_allclose(np.sort(boxes.where(boxes.image == 0).score)[-1], outputs["scores"][0, 0])


@pytest.mark.once
def test_boxes_end_where_their_masks_do(mask_rcnn):
    corners, areas = np.tile([3.0, 4, 25, 50], (1, 2, 1)), np.tile([0.0, 0, 28, 56], (1, 2, 1))
    masks = np.zeros((1, 2, 28, 28))
    masks[0, 0, 4:20, 6:27] = 0.5
    masks[0, 0, 2, 2] = 0.4
    tightened = mask_rcnn.tightened(corners, areas, masks)
    np.testing.assert_allclose(tightened, [[[6, 8, 27, 40], [3, 4, 25, 50]]])  # no mask at all: as it was


@pytest.mark.once
def test_it_is_saved_with_all_its_heads(build, tmp_path):
    from kit.models import saved

    detector = build(outputs=2, tighten=True)
    detector.set_weights([w + 1 if w.dtype == "float32" else w for w in detector.get_weights()])
    spec = {"name": "mask_rcnn", "shape": (64, 64, 1), "outputs": 2, **SMALL, "tighten": True}
    saved.save_model(detector, spec, tmp_path)
    again = saved.load_model(tmp_path)
    assert again.tighten
    assert again.predict_on_batch(batch([[]])["image"])["masks"].shape == (1, 6, 28, 28)
    for a, b in zip(detector.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for head in ("anchor_head", "box_head", "mask_head"):
        assert again.get_layer(head).count_params() > 0


@pytest.mark.once
def test_batches_without_room_for_boxes(keras, build):
    detector = build()
    losses = [keras.ops.convert_to_numpy(detector.losses(batch([[], []], padding=n))) for n in (0, 3)]
    assert losses[0].shape == (2,)
    assert losses[0] == pytest.approx(losses[1], abs=0.05)  # but for chance


@pytest.mark.once
def test_half_precision(keras, build):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        detector = build()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    loss = keras.ops.convert_to_numpy(detector.losses(batch(BOXES)))
    assert loss.dtype == np.float32
    assert np.isfinite(loss).all()
    outputs = detector.predict_on_batch(batch(BOXES)["image"])
    assert {x.dtype.name for x in outputs.values()} == {"float32"}
    assert all(np.isfinite(x).all() for x in outputs.values())


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"proposals": 0}, "model.arguments.proposals = 0: 1 or more"),
        ({"positives": 0.0}, "model.arguments.positives = 0.0: a number above 0, and at most 1,"),
        ({"proposal_iou": 1.5}, "model.arguments.proposal_iou = 1.5: a number above 0"),
        ({"anchor_ratios": [1, -1]}, r"model.arguments.anchor_ratios = \[1, -1\], anchor_scale = 8.0: one ratio"),
        ({"anchor_ratios": []}, r"anchor_ratios = \[\]"),
        ({"anchors": 3}, "anchors"),
    ],
)
def test_what_cannot_be_built(build, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(**arguments)
