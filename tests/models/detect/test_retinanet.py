"""RetinaNet's targets, loss and boxes, by hand; its network is KerasHub's (test_keras_hub_detectors)."""

import math

import numpy as np
import pytest

ANCHORS = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 22], [40, 40, 10, 10]], np.float32)
BOXES = np.array([[[0, 0, 10, 10], [44, 44, 20, 20], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 3], np.float32)
REAL = np.array([[True, True, False], [False] * 3])
BATCH = {"boxes": BOXES, "box_labels": np.array([[1, 0, 0], [0, 0, 0]], np.int32), "box_mask": REAL}
LN2 = math.log(2)


@pytest.fixture(scope="module")
def retinanet(keras):
    from kit.models.detect import retinanet

    return retinanet


@pytest.fixture
def detector(keras, retinanet):
    """A function: logits [A, L] and deltas [A, 4] -> a network that says them of every image of 64x64."""

    def build(logits, deltas):
        image = keras.Input((64, 64, 1), dtype="uint8")
        nothing = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.0)(image))
        outputs = {}
        for name, values in (("logits", logits), ("deltas", deltas)):
            values = np.asarray(values, np.float32)
            flat = keras.layers.Dense(
                values.size, bias_initializer=lambda shape, dtype=None, v=values: v.reshape(shape)
            )
            outputs[name] = keras.layers.Reshape(values.shape)(flat(nothing))
        network = retinanet.RetinaNet(image, outputs)
        network.anchors = ANCHORS
        return network

    return build


def losses(keras, network, **changes):
    batch = {"image": np.zeros((2, 64, 64, 1), np.uint8), **BATCH, **changes}
    return keras.ops.convert_to_numpy(network.losses({k: keras.ops.convert_to_tensor(v) for k, v in batch.items()}))


def test_the_boxes_of_anchors(keras, retinanet):
    box, positive, doubtful = (
        keras.ops.convert_to_numpy(each)
        for each in retinanet.match_anchors(ANCHORS, *(keras.ops.convert_to_tensor(each) for each in (BOXES, REAL)))
    )
    # Intersections over union with the first box: 1, 1/3, 1/2, 10/22; the last anchor shares 36 pixels with the second.
    assert positive.tolist() == [[1, 0, 1, 0, 1], [0] * 5]
    assert doubtful.tolist() == [[0, 0, 0, 1, 0], [0] * 5]
    assert box[0][[0, 2, 4]].tolist() == [0, 0, 1]


def test_the_loss_by_hand(keras, detector):
    value = losses(keras, detector(np.zeros((5, 2)), np.zeros((5, 4))))
    hit, miss = 0.25 * 0.25 * LN2, 0.75 * 0.25 * LN2  # focal losses at p = 1/2
    classes = 3 * (hit + miss) + 2 * miss  # of three positives and a negative; the doubtful one does not count
    tall = 5 / 20 + math.log(2)  # from the anchor's centre (5, 10) to (5, 5), and to half its height
    far = 9 / 10 + 9 / 10 + 2 * math.log(2)  # from the centre (45, 45) to (54, 54), and to twice the sides
    assert value == pytest.approx([(classes + tall + far) / 3, 10 * miss], rel=1e-5)


def test_images_without_boxes_teach_and_do_not_depend_on_others(keras, detector):
    network = detector(np.zeros((5, 2)), np.zeros((5, 4)))
    with_others = losses(keras, network)
    none = {"boxes": np.zeros((2, 0, 4), np.float32), "box_labels": np.zeros((2, 0), np.int32)}
    alone = losses(keras, network, **none, box_mask=np.zeros((2, 0), bool))
    assert alone[1] == with_others[1] > 0
    surer = detector(np.full((5, 2), -3.0), np.zeros((5, 4)))
    assert losses(keras, surer)[1] < 0.1 * alone[1]


@pytest.mark.once
def test_boxes_are_what_the_deltas_encode(keras, retinanet, detector):
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(5, 20, (5, 2)), rng.uniform(5, 30, (5, 2))]).astype(np.float32)
    deltas = keras.ops.convert_to_numpy(retinanet.encoded(keras.ops.convert_to_tensor(boxes[None]), ANCHORS))[0]
    network = detector([[3, -9], [2, -9], [1, -9], [0, -9], [-9, 5]], deltas)
    found = network.candidates(network.predict_on_batch(np.zeros((1, 64, 64, 1), np.uint8)), 5)
    first = found.where(found.label == 0)
    order = np.argsort(-first.score)
    assert first.xywh[order][:4] == pytest.approx(boxes[:4], abs=1e-3)
    assert first.score[order][0] == pytest.approx(1 / (1 + math.exp(-3)))
    assert found.where(found.label == 1).score.max() == pytest.approx(1 / (1 + math.exp(-5)))
    assert len(network.candidates(network.predict_on_batch(np.zeros((3, 64, 64, 1), np.uint8)), 2)) == 3 * 2 * 2
