"""FCOS: what each place is to see, its loss against a slow one, its boxes, and that it learns."""

import itertools
import math

import numpy as np
import pytest

from kit.boxes import iou
from kit.errors import ConfigError

SMALL = {"backbone": "pcam_cnn", "finest": 3, "coarsest": 5, "channels": 16, "depth": 1}


@pytest.fixture(scope="module")
def fcos(keras):
    from kit.models.detect import fcos

    return fcos


@pytest.fixture
def build(keras):
    """A function: arguments -> a small untrained detector for images of 64 px."""
    from kit.models import registry

    keras.utils.set_random_seed(0)
    return lambda shape=(64, 64, 1), outputs=1, **changes: registry.build(
        "fcos", shape=shape, outputs=outputs, **{**SMALL, **changes}
    )


def batch(boxes, labels=None, side=64, channels=1, padding=4, seed=0):
    """Noise, and on it a bright square where each box (x, y, w, h) is."""
    images = np.random.default_rng(seed).integers(0, 60, (len(boxes), side, side, channels), dtype=np.uint8)
    padded = np.zeros((len(boxes), padding, 4), "float32")
    numbers, mask = np.zeros((len(boxes), padding), "int32"), np.zeros((len(boxes), padding), bool)
    for n, own in enumerate(boxes):
        for m, (x, y, w, h) in enumerate(own):
            images[n, int(y) : int(y + h), int(x) : int(x + w)] += 150
            padded[n, m], mask[n, m] = (x, y, w, h), True
            numbers[n, m] = labels[n][m] if labels else 0
    return {"image": images, "boxes": padded, "box_labels": numbers, "box_mask": mask}


BOXES = [[(8, 10, 20, 24), (40, 36, 18, 12)], [], [(20, 20, 30, 30)], [(1.5, 2.5, 3, 3)]]


def trainer(keras, detector, padding=4, with_outputs=False):
    """A model of whole batches whose output is the loss, as training uses it; or that and the detector's outputs."""

    class Loss(keras.layers.Layer):
        def __init__(self):
            super().__init__(dtype="float32")
            self.detector = detector

        def build(self, shape):
            pass

        def call(self, inputs):
            loss = detector.losses(inputs)
            return {"loss": loss, **detector(inputs["image"], training=True)} if with_outputs else loss

        def compute_output_spec(self, inputs):
            loss = keras.KerasTensor((None,), "float32")
            return {"loss": loss, **detector.output} if with_outputs else loss

    inputs = {
        "image": keras.Input(detector.input_shape[1:], dtype="uint8", name="image"),
        "boxes": keras.Input((padding, 4), name="boxes"),
        "box_labels": keras.Input((padding,), dtype="int32", name="box_labels"),
        "box_mask": keras.Input((padding,), dtype="bool", name="box_mask"),
    }
    return keras.Model(inputs, Loss()(inputs))


def assigned(keras, fcos, centres, strides, boxes, mask=None):
    """Pairs (place, box) of one image; boxes are corners."""
    places = fcos.Places(np.array(centres, "float32"), np.array(strides, "float32"))
    truth = np.array([boxes], "float32")
    mask = np.array([[True] * len(boxes) if mask is None else mask], bool)
    seen = keras.ops.convert_to_numpy(fcos.assignment(places, truth, mask))[0]
    assert seen.shape == (len(centres), len(boxes))
    return [tuple(map(int, pair)) for pair in np.argwhere(seen)]


GRID = [(4 + 8 * x, 4 + 8 * y) for y in range(8) for x in range(8)]  # a map of stride 8 of 64 px
COARSE = [(8 + 16 * x, 8 + 16 * y) for y in range(4) for x in range(4)]  # and one of stride 16
STRIDES = [8] * 64 + [16] * 16


def test_places_near_the_middle_of_a_box_see_it(keras, fcos):
    # centres 4 px from the middle are inside; the next ones, 12 px off, are not
    assert assigned(keras, fcos, GRID + COARSE, STRIDES, [[24, 24, 40, 40]]) == [(n, 0) for n in (27, 28, 35, 36)]
    # on a place: those beside it are 8 px off, inside and within 12 px; two to the right, 16 px, inside and too far
    wide = assigned(keras, fcos, GRID + COARSE, STRIDES, [[8, 24, 48, 32]])
    assert wide == [(n, 0) for n in (26, 27, 28)]


def test_the_map_is_that_of_the_range_of_the_farthest_side(keras, fcos):
    # The finer one sees as far as 64 px. The middle is (30, 30): the farthest side is 60 + 2 px from (28, 28), and from
    # all others, of either map, 60 + 6 or more.
    coarse = [64 + x + 4 * y for y in range(3) for x in range(3)]
    pairs = assigned(keras, fcos, GRID + COARSE, STRIDES, [[-30, -30, 90, 90]])
    assert pairs == [(n, 0) for n in (27, *coarse)]


def test_a_place_sees_the_smallest_box_and_padding_is_seen_by_none(keras, fcos):
    boxes = [[16, 16, 48, 48], [24, 24, 40, 40], [0, 0, 0, 0]]
    pairs = assigned(keras, fcos, GRID, [8] * 64, boxes, [True, True, False])
    inner = {27, 28, 35, 36}
    assert {place for place, box in pairs if box == 1} == inner
    around = {(x + 8 * y) for x in (2, 3, 4, 5) for y in (2, 3, 4, 5)}
    assert {place for place, box in pairs if box == 0} == around - inner
    assert len(pairs) == 16
    assert assigned(keras, fcos, GRID, [8] * 64, boxes, [False] * 3) == []
    twice = assigned(keras, fcos, GRID, [8] * 64, [[24, 24, 40, 40]] * 2)
    assert twice == [(n, 0) for n in sorted(inner)]


@pytest.mark.parametrize("corner", [(0, 0), (13, 30), (61.5, 61.5), (30.9, 7.1)])
def test_some_place_sees_even_the_smallest_box(keras, fcos, corner):
    x, y = corner
    pairs = assigned(keras, fcos, GRID + COARSE, STRIDES, [[x, y, x + 2, y + 2]])
    assert pairs
    assert all(
        place < 64 and abs(GRID[place][0] - x - 1) <= 4 and abs(GRID[place][1] - y - 1) <= 4 for place, _ in pairs
    )


def test_centrality(keras, fcos):
    places = fcos.Places(np.array([[8, 8], [2, 8], [4, 4], [20, 8], [5, 4]], "float32"), np.full(5, 8, "float32"))
    corners = np.array([[[0, 0, 16, 16]] * 4 + [[1, 3, 3, 5]]], "float32")  # the last counts as 8 px wide and high
    values = keras.ops.convert_to_numpy(fcos.centrality(places, corners))
    np.testing.assert_allclose(values, [[1, math.sqrt(2 / 14), 4 / 12, 0, math.sqrt(1 / 7)]], rtol=1e-6)


def slow_loss(keras, fcos, detector, outputs, truth):
    """What `losses` returns, place by place in plain Python."""
    images, places, labels = outputs["logits"].shape
    corners = np.concatenate([truth["boxes"][..., :2], truth["boxes"][..., :2] + truth["boxes"][..., 2:]], axis=-1)
    seen = keras.ops.convert_to_numpy(fcos.assignment(detector.places, corners, truth["box_mask"]))
    classes, regression, entropy = np.zeros(images), np.zeros(images), np.zeros(images)
    positives, central_sum = 0, 0.0
    for i, m in itertools.product(range(images), range(places)):
        boxes = np.flatnonzero(seen[i, m])
        for label in range(labels):
            p = 1 / (1 + math.exp(-outputs["logits"][i, m, label]))
            if any(truth["box_labels"][i, n] == label for n in boxes):
                classes[i] += -0.25 * (1 - p) ** 2 * math.log(p)
            else:
                classes[i] += -0.75 * p**2 * math.log(1 - p)
        for n in boxes:
            x, y = map(float, detector.places.centre[m])
            a = [x - outputs["distances"][i, m, 0], y - outputs["distances"][i, m, 1]]
            a += [x + outputs["distances"][i, m, 2], y + outputs["distances"][i, m, 3]]
            b = corners[i, n]
            shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
            ratio = 1.0
            for at, first, last in ((x, b[0], b[2]), (y, b[1], b[3])):
                grow = max(0.0, float(detector.places.stride[m]) - (last - first)) / 2
                before, after = at - (first - grow), (last + grow) - at
                ratio *= max(0.0, min(before, after)) / max(before, after)
            central = math.sqrt(ratio)
            regression[i] += central * (1 - shared / union + (around - union) / around)
            q = 1 / (1 + math.exp(-outputs["centrality"][i, m, 0]))
            entropy[i] += -central * math.log(q) - (1 - central) * math.log(1 - q)
            positives, central_sum = positives + 1, central_sum + central
    assert positives > 4
    return images * ((classes + entropy) / positives + regression / max(central_sum, 1))


def test_losses_are_those_of_a_slow_computation(keras, fcos, build):
    detector = build(outputs=2, backbone_arguments={"dropout": 0.0})
    weights = detector.get_weights()
    detector.set_weights([w + np.random.default_rng(0).normal(0, 0.03, w.shape) for w in weights])  # further apart
    truth = batch(BOXES, [[0, 1], [], [1], [0]])
    outputs = trainer(keras, detector, with_outputs=True).predict_on_batch(truth)
    loss = outputs.pop("loss")
    assert loss.shape == (4,)
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, slow_loss(keras, fcos, detector, outputs, truth), rtol=2e-4)


def test_images_without_any_box_teach_that_there_is_none(keras, build):
    detector = build()
    last = detector.get_layer("logits")
    last.set_weights([last.get_weights()[0], np.zeros(1)])  # an even chance everywhere
    model = trainer(keras, detector)
    model.compile(keras.optimizers.SGD(1e-3), loss=lambda _, loss: loss)
    losses = [model.train_on_batch(batch([[], []]), np.zeros(2)) for _ in range(3)]
    places = len(detector.places.stride)
    assert losses[0] == pytest.approx(2 * places * 0.75 * 0.25 * math.log(2), rel=0.05)  # sum over both, by 1 box
    assert losses[2] < losses[1] < losses[0]
    assert last.get_weights()[1] < -0.01
    assert np.isfinite(np.concatenate([w.ravel() for w in detector.get_weights()])).all()


def test_places_start_with_a_probability_of_a_hundredth(build):
    logits = build(outputs=3).predict_on_batch(batch([[]])["image"])["logits"]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), 0.01, atol=0.003)


@pytest.mark.once
def test_boxes_are_read_from_distances(build):
    detector = build(outputs=2)
    centre = detector.places.centre
    places = len(centre)
    logits = np.full((2, places, 2), -20.0, "float32")
    distances, central = np.full((2, places, 4), 2.0, "float32"), np.zeros((2, places, 1), "float32")
    place = int(np.argmin(np.abs(centre - [30, 26]).sum(axis=1)))
    x, y = centre[place]
    logits[1, place, 1], central[1, place], distances[1, place] = 2.0, 1.0, [x - 5, y - 6, 50 - x, 70 - y]
    boxes = detector.candidates({"logits": logits, "distances": distances, "centrality": central}, 3)
    assert boxes.images == 2
    assert len(boxes) == 2 * 2 * 3
    best = boxes.where(np.array([np.argmax(boxes.score)]))
    np.testing.assert_allclose(best.xywh, [[5, 6, 45, 58]], atol=1e-4)  # clipped to 64 px
    assert (best.image[0], best.label[0]) == (1, 1)
    assert best.score[0] == pytest.approx(math.sqrt(1 / (1 + math.exp(-2)) / (1 + math.exp(-1))), rel=1e-5)


BACKBONES = {
    "one level": ({"backbone": "pcam_cnn", "finest": 2, "coarsest": 2}, {4}),
    "coarser than wanted": ({"backbone": "mobilenet", "backbone_arguments": {"until": "conv_pw_12_relu"}}, {8, 16, 32}),
    "to P6": ({"backbone": "pcam_cnn", "coarsest": 6}, {8, 16, 32, 64}),
}


@pytest.mark.once
@pytest.mark.parametrize("arguments", BACKBONES)
def test_any_backbone_does_and_loads(keras, build, tmp_path, arguments):
    from kit.models.saved import load_model, save_model

    changes, strides = BACKBONES[arguments]
    spec = {"name": "fcos", "shape": (96, 64, 3), "outputs": 2, **SMALL, **changes}
    detector = build(**{key: value for key, value in spec.items() if key != "name"})
    assert set(detector.places.stride) == strides
    truth = batch(BOXES, [[0, 1], [], [1], [0]], side=64, channels=3)
    truth["image"] = np.pad(truth["image"], [(0, 0), (0, 32), (0, 0), (0, 0)])
    assert np.isfinite(keras.ops.convert_to_numpy(detector.losses(truth))).all()
    outputs = detector.predict_on_batch(truth["image"])
    assert outputs["logits"].shape == (4, len(detector.places.stride), 2)
    save_model(detector, spec, tmp_path)
    again = load_model(tmp_path)
    for key, values in again.predict_on_batch(truth["image"]).items():
        np.testing.assert_allclose(values, outputs[key], rtol=1e-5, atol=1e-5)
    assert len(again.candidates(outputs, 5)) == len(detector.candidates(outputs, 5)) > 0


@pytest.mark.once
def test_a_vision_transformer_has_one_level(keras, build):
    pytest.importorskip("keras_hub")
    config = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16}
    detector = build(shape=(64, 64, 3), backbone="hub/ViTBackbone", backbone_arguments={"config": config})
    assert set(detector.places.stride) == {16, 32}
    assert np.isfinite(keras.ops.convert_to_numpy(detector.losses(batch(BOXES, channels=3)))).all()


@pytest.mark.once
def test_pretrained_weights_go_into_its_backbone(build):
    from kit.models import registry
    from kit.models.cards import BACKBONE

    assert registry.weights_card("fcos", {}).name == "resnet50"
    assert registry.weights_card("fcos", {"backbone": "mobilenet"}).weights == "imagenet"
    for backbone in ("pcam_cnn", "mobilenet"):  # a whole network, and one with a head that is left out
        detector = build(shape=(64, 64, 3), backbone=backbone)
        assert detector.get_layer(BACKBONE).weights


@pytest.mark.once
def test_half_precision(keras, build):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        detector = build()
        outputs = trainer(keras, detector, with_outputs=True).predict_on_batch(batch(BOXES))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {str(each.dtype) for each in outputs.values()} == {"float32"}
    assert np.isfinite(outputs["loss"]).all()


@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 12}, "channels = 12: a multiple of 8"),
        ({"finest": 5, "coarsest": 3}, "finest = 5, coarsest = 3: 2 <= finest <= coarsest"),
        ({"backbone": "pneumonia_mlp"}, "has no feature maps"),
        ({"width": 3}, "model fcos: .*width"),
    ],
)
def test_what_cannot_be_built(build, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


@pytest.mark.slow
@pytest.mark.once
def test_it_learns_a_few_images_by_heart(keras, build):
    detector = build(outputs=2, channels=32)
    model = trainer(keras, detector)
    model.compile(keras.optimizers.Adam(3e-3, clipnorm=10.0), loss=lambda _, loss: loss)
    truth = batch(BOXES[:3], [[0, 1], [], [1]])
    for _ in range(60):
        model.train_on_batch(truth, np.zeros(3))
    boxes = detector.candidates(detector.predict_on_batch(truth["image"]), 20)
    best = boxes.best(2)
    assert best[1].max() < min(best[0, 0], best[0, 1], best[2, 1])
    for image, label, box in ((0, 0, BOXES[0][0]), (0, 1, BOXES[0][1]), (2, 1, BOXES[2][0])):
        own = boxes.where((boxes.image == image) & (boxes.label == label))
        assert iou(own.xywh[[np.argmax(own.score)]], np.array([box]))[0, 0] > 0.6
