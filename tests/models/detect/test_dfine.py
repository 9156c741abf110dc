"""D-FINE's losses by hand, and against KerasHub's where those are right; its network is KerasHub's."""

import math

import numpy as np
import pytest

LN2, LN33 = math.log(2), math.log(33)


@pytest.fixture(scope="module")
def dfine(keras):
    from kit.models.detect import dfine

    return dfine


@pytest.fixture
def value(keras):
    """A function: f, arrays -> f of tensors, as numpy; compiled where that is the faster way."""

    def run(f, *arrays):
        if keras.backend.backend() == "jax":
            import jax

            f = jax.jit(f)
        return keras.ops.convert_to_numpy(f(*(keras.ops.convert_to_tensor(array) for array in arrays)))

    return run


def floats(*values):
    return np.array(values, np.float32)


def test_each_box_gets_the_query_that_is_like_it(value, dfine):
    boxes = floats([[[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.2, 0.2], [0.5, 0.5, 0.1, 0.1]]])
    truth = floats([[0.7, 0.72, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1], [0, 0, 0, 0]])
    real = np.array([[True, True, False]])
    logits = np.zeros((1, 1, 3, 2), np.float32)
    labels = np.array([[0, 1, 0]], np.int32)
    assert value(dfine.match_queries, logits, boxes, truth, labels, real).tolist() == [[[1, 0, -1]]]
    alike = np.repeat(floats([[[0.5, 0.5, 0.2, 0.2]]]), 3, axis=2)
    logits[0, 0] = [[0, 3], [3, 0], [0, 0]]  # of equal boxes, the label decides
    assert value(dfine.match_queries, logits, alike, truth, labels, real).tolist() == [[[1, 0, -1]]]


def test_label_and_box_losses_by_hand(value, dfine):
    truth, labels, query = floats([[0.5, 0.5, 0.2, 0.2]]), np.array([[0]], np.int32), np.array([[[1]]], np.int32)
    logits = np.zeros((1, 1, 3, 1), np.float32)
    boxes = floats([[[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.1, 0.1]]])
    unmatched = 2 * 0.75 * 0.25 * LN2  # .75 p² of two queries at p = 1/2
    assert value(dfine.label_and_box_losses, logits, boxes, truth, labels, query) == pytest.approx(LN2 + unmatched)
    boxes[0, 0, 1, 0] = 0.6  # half beside the box: they share .02 of .06, which fills what encloses both
    expected = LN2 / 3 + unmatched + 5 * 0.1 + 2 * (1 - 1 / 3)
    loss = value(dfine.label_and_box_losses, logits, boxes, truth, labels, query)
    assert loss == pytest.approx(expected, rel=1e-5)
    nothing = value(dfine.label_and_box_losses, logits, boxes, truth, labels, query * 0 - 1)
    assert nothing == pytest.approx(1.5 * unmatched)


def test_bins_are_finer_near_0(value, dfine):
    bins = value(lambda up, scale: dfine.bin_distances(32, up, scale), floats(0.5), floats(4.0))
    assert bins.shape == (33,)
    assert bins[[0, 1, 16, 17, 18, 31, 32]] == pytest.approx(
        [-4, -(3 ** (30 / 30) - 1), 0, 3 ** (2 / 30) - 1, 3 ** (4 / 30) - 1, 2, 4], abs=1e-6
    )
    assert (np.diff(bins) > 0).all()


def test_fine_loss_by_hand(value, dfine):
    bins, scale = np.linspace(-4, 4, 33, dtype=np.float32), floats(4.0)
    truth = floats([[0.5, 0.5, 0.2, 0.2]])
    corners = np.zeros((1, 1, 1, 4, 33), np.float32)
    arguments = (truth[None], truth, truth, np.array([[[0]]], np.int32), bins, scale)
    assert value(dfine.fine_loss, corners, *arguments) == pytest.approx(4 * LN33)
    corners[..., 16] = 50  # where a side is right already
    assert value(dfine.fine_loss, corners, *arguments) == pytest.approx(0, abs=1e-3)
    wider = floats(
        [[0.5, 0.5, 0.2125, 0.2]]
    )  # left and right are .00625 further out: 1/8 in units of .2 / 4, half a bin
    arguments = (truth[None], truth, wider, np.array([[[0]]], np.int32), bins, scale)
    assert value(dfine.fine_loss, corners, *arguments) == pytest.approx(2 * 0.5 * 50 * 0.2 / 0.2125, rel=1e-4)


def test_distillation_by_hand(value, dfine):
    corners = np.zeros((1, 2, 2, 4, 2), np.float32)
    corners[:, 1, :, :, 0] = 5 * math.log(3)  # the last layer: 3/4 and 1/4 at temperature 5
    apart = 25 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    boxes = np.repeat(floats([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]]), 2, axis=1)
    truth, query = floats([[0.5, 0.5, 0.2, 0.2]]), np.array([[[0], [0]]], np.int32)
    logits = np.zeros((1, 2, 1), np.float32)
    loss = value(dfine.distillation_loss, corners, logits, boxes, truth, query)
    assert loss == pytest.approx((apart + apart / 2) / 2, rel=1e-5)  # overlap 1, score 1/2, one query each
    loss = value(dfine.distillation_loss, corners, logits, boxes, truth, query * 0 - 1)
    assert loss == pytest.approx(apart / 2, rel=1e-5)


@pytest.mark.once
def test_as_kerashub_where_every_query_has_a_box(keras, value, dfine):
    """KerasHub's losses hold where each query has a box (else it is the batch's first query) that its bins reach."""
    pytest.importorskip("keras_hub", reason="keras-hub is not installed: pip install keras-hub")
    from types import SimpleNamespace

    from keras_hub.src.models.d_fine import d_fine_loss, d_fine_utils

    rng = np.random.default_rng(0)
    queries, labels, bins = 3, np.array([[1, 0, 1]], np.int32), 32
    up, scale = floats(0.5), floats(4.0)
    boxes = np.concatenate([rng.uniform(0.3, 0.7, (3, 2)), rng.uniform(0.2, 0.5, (3, 2))], 1).astype(np.float32)
    reference = (boxes + rng.normal(0, 0.02, (3, 4))).astype(np.float32)
    logits, corners = rng.normal(size=(1, 3, 2)).astype(np.float32), rng.normal(size=(2, 3, 132)).astype(np.float32)
    query = np.array([2, 0, 1], np.int32)
    truth = (boxes[query] + rng.normal(0, 0.02, (3, 4))).astype(np.float32)
    indices = (query[None], np.arange(3, dtype=np.int32)[None], np.ones((1, 3), bool))
    targets = [{"labels": labels[0], "boxes": truth}]
    decoder = SimpleNamespace(max_num_bins=bins, reg_scale=scale, upsampling_factor=up)
    outputs = {
        "logits": logits,
        "pred_boxes": boxes[None],
        "pred_corners": corners[:1],
        "ref_points": reference[None],
        "teacher_corners": corners[1:],
        "teacher_logits": logits,
    }
    outputs = {key: keras.ops.convert_to_tensor(array) for key, array in outputs.items()}
    vfl = d_fine_loss.compute_vfl_loss(outputs, targets, indices, 1.0, 2, 0.75, 2.0)["loss_vfl"]
    l1 = d_fine_loss.compute_box_losses(outputs, targets, indices, 1.0)["loss_bbox"]
    local = d_fine_loss.compute_local_losses(
        outputs, targets, indices, 1.0, SimpleNamespace(decoder=decoder), 5.0, compute_ddf=True
    )
    ours = value(lambda *a: dfine.bin_distances(bins, *a), up, scale)
    assert ours == pytest.approx(np.asarray(d_fine_utils.weighting_function(bins, up, scale)), abs=1e-6)

    sides = corners.reshape(1, 2, queries, 4, bins + 1)
    one, two = boxes[None, None], np.stack([boxes, boxes])[None]
    fine = value(dfine.fine_loss, sides[:, :1], one, reference[None], truth[None], query[None, None], ours, scale)
    assert fine == pytest.approx(float(local["loss_fgl"]), rel=1e-4)
    pair = np.stack([query, query])[None]
    distilled = value(dfine.distillation_loss, sides, logits, two, truth[None], pair)
    assert distilled / queries == pytest.approx(float(local["loss_ddf"]), rel=1e-4)
    total = value(dfine.label_and_box_losses, logits[None], one, truth[None], labels, query[None, None])
    corner = np.concatenate([boxes[query, :2] - boxes[query, 2:] / 2, boxes[query, 2:]], 1)
    true = np.concatenate([truth[:, :2] - truth[:, 2:] / 2, truth[:, 2:]], 1)
    assert total == pytest.approx(float(vfl) + 5 * float(l1) + 2 * _giou_loss(corner, true), rel=1e-4)


def _giou_loss(a, b):
    """The sum of 1 - GIoU of boxes [x, y, width, height], pair by pair."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared
    hull = np.maximum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.minimum(a[:, :2], b[:, :2])
    return float((1 - shared / union + 1 - union / hull.prod(axis=1)).sum())
