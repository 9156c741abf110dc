from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kit.boxes import Boxes
from kit.config import ImageSettings
from kit.config.predict import PredictSettings
from kit.data.records.batches import Batch
from kit.errors import DataError
from kit.predict.merging import merge_oof, merge_test, over_folds
from kit.predict.predict import predict, raw_of
from kit.predict.views import VIEWS

RECORDS = SimpleNamespace(task="binary", labels=("x",), image=ImageSettings(), table=pd.DataFrame({"id": [*"abcde"]}))


class CornerModel:
    """Stands in for a Keras model: the probability is the top left pixel / 255."""

    def predict_on_batch(self, images):
        return images[:, 0, 0, :1] / np.float32(255)


def batch(ids, size=4, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (size, 6, 6, 3), dtype=np.uint8)
    return Batch(images, np.arange(size) < len(ids), ids)


def test_padding_is_dropped_and_order_kept():
    batches = [batch(["a", "b", "c", "d"]), batch(["e"], seed=1)]
    table = predict(CornerModel(), batches, RECORDS, PredictSettings())
    assert table["id"].tolist() == list("abcde")
    assert list(table) == ["id", "p_x"]
    wanted = np.concatenate([batches[0].images[:, 0, 0, 0], batches[1].images[:1, 0, 0, 0]]) / 255
    assert np.allclose(table["p_x"], wanted)


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("mirror", 2), ("flips", 4), ("dihedral", 8)])
def test_views_are_all_different_and_begin_with_the_image_itself(name, count):
    images = batch(["a"]).images
    views = [view(images) for view in VIEWS[name]]
    assert len({view.tobytes() for view in views}) == len(views) == count
    assert np.array_equal(views[0], images)
    assert all(np.array_equal(np.sort(view, axis=None), np.sort(images, axis=None)) for view in views)


def test_test_time_augmentation_is_the_mean_over_the_views():
    one = batch(["a", "b", "c", "d"])
    corners = one.images[:, [0, 0, -1, -1], [0, -1, 0, -1], 0].mean(1) / 255
    for name in ("flips", "dihedral"):  # the top left pixel of a view is one of the four corners, each as often
        assert np.allclose(predict(CornerModel(), [one], RECORDS, PredictSettings(tta=name))["p_x"], corners, atol=1e-6)


@pytest.mark.parametrize(("name", "count"), [("crops", 6), ("scales", 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_and_scales_show_parts_of_the_image_at_its_size(name, count, channels):
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (2, 64, 64, channels))
    views = [view(ramp) for view in VIEWS[name]]
    assert len(views) == count
    assert all(view.shape == ramp.shape and view.dtype == np.uint8 for view in views)
    assert np.array_equal(views[0], ramp)
    if name == "crops":  # 56 of 64 rows: the upper ones begin at 0, the lower ones end at 63, the centre has 4 .. 59
        firsts, lasts = ([int(view[0, row, 0, 0]) / 3 for view in views[1:]] for row in (0, -1))
        assert firsts == pytest.approx([0, 0, 8, 8, 4], abs=0.4)
        assert lasts == pytest.approx([55, 55, 63, 63, 59], abs=0.4)
    else:
        smaller, larger = views[1:]
        slope = [float(np.diff(view[0, 20:44, 0, 0].astype(float)).mean()) / 3 for view in (smaller, larger)]
        assert slope == pytest.approx([1 / 0.9, 1 / 1.1], abs=0.03)
        assert int(larger[0, 32, 0, 0]) == pytest.approx(int(ramp[0, 32, 0, 0]), abs=3)


class BrightModel:
    """Stands in for a detector: the box is around what is bright."""

    def predict_on_batch(self, images):
        return {"bright": images[..., 0] > 100}

    def candidates(self, outputs, at_most):
        places = [np.nonzero(image) for image in outputs["bright"]]
        xywh = [[x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] for y, x in places]
        n = len(xywh)
        return Boxes(n, np.arange(n), np.array(xywh, float), np.zeros(n, np.int64), np.full(n, 0.9))


@pytest.mark.parametrize("name", VIEWS)
def test_boxes_of_all_views_are_of_one_place(name):
    images = np.zeros((2, 64, 64, 1), np.uint8)
    images[0, 20:36, 12:40] = images[1, 24:44, 26:42] = 200
    settings = PredictSettings(tta=name)
    boxes = raw_of("detection").of_images(BrightModel(), images, settings)
    assert boxes.image.tolist() == [0, 1]  # one of each image: the views agree
    assert boxes.xywh * 64 == pytest.approx(np.array([[12, 20, 28, 16], [26, 24, 16, 20.0]]), abs=0.4)


def test_no_batches_give_an_empty_table():
    assert predict(CornerModel(), [], RECORDS, PredictSettings()).shape == (0, 2)


def tables():
    return [
        pd.DataFrame({"id": ["b", "a"], "p_x": [0.2, 0.4]}),
        pd.DataFrame({"id": ["d", "c"], "p_x": [0.6, 0.8]}),
    ]


def test_merging_out_of_fold_predictions():
    merged = merge_oof(dict(enumerate(tables())))
    assert list(merged) == ["id", "fold", "p_x"]
    assert merged["id"].tolist() == list("abcd")
    assert merged["fold"].tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="2 ids were predicted by two folds"):
        merge_oof({0: tables()[0], 1: tables()[0]})


def test_the_test_prediction_is_the_mean_over_folds():
    first, second = tables()[0], tables()[0].assign(p_x=[0.4, 0.8])
    stacked = merge_test({0: first, 1: second})
    assert list(stacked) == ["id", "fold", "p_x"]
    mean = over_folds(stacked, ["x"], "binary", PredictSettings()).set_index("id")["p_x"]
    assert mean.to_dict() == pytest.approx({"a": 0.6, "b": 0.3})
