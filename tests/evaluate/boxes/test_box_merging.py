import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import Boxes, iou, joined, nothing, stacked
from kit.config import BoxSettings
from kit.evaluate.boxes.merging import fuse, merge, nms, soft_nms, wbf
from tests.evaluate.boxes.seen import scattered

# Made by ensemble-boxes 1.0.9, the authors' own implementation; it needs numba, too much for a test to install.
GOLDEN = json.loads((Path(__file__).parent / "golden_fusion.json").read_text())
EVERYTHING = 1000


def boxes(rows, images=1):
    """Boxes of rows (image, x, y, width, height, label, score)."""
    values = np.array(rows, np.float64).reshape(-1, 7)
    return Boxes(images, values[:, 0].astype(int), values[:, 1:5], values[:, 5].astype(int), values[:, 6])


def of_model(model):
    count = len(model["boxes"])
    xywh, score = (np.array(model[name], np.float64) for name in ("boxes", "scores"))
    return Boxes(1, np.zeros(count, int), xywh, np.array(model["labels"]), score)


def rows(result, scores=True):
    """The boxes as rows, sorted, rounded to what the golden values are exact to."""
    columns = [result.image, result.label, *result.xywh.T, *([result.score] if scores else [])]
    return np.array(sorted(np.column_stack(columns).round(5).tolist()))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"iou{case['iou']}")
@pytest.mark.parametrize("how", ["wbf", "nms", "soft_linear", "soft_gaussian"])
def test_the_reference_gives_the_same(case, how):
    parts = [of_model(model) for model in case["models"]]
    everything = joined(parts)
    result = {
        "wbf": lambda: wbf(parts, case["iou"], case["weights"]),
        "nms": lambda: nms(everything, case["iou"], EVERYTHING),
        "soft_linear": lambda: soft_nms(everything, case["iou"], EVERYTHING, None, 0.2),
        "soft_gaussian": lambda: soft_nms(everything, case["iou"], EVERYTHING, 0.5, 0.2),
    }[how]()
    scored = how in ("wbf", "nms")  # the reference returns the scores that soft-NMS was given
    expected = of_model({"scores": [0] * len(result), **case[how]})
    assert rows(result, scored) == pytest.approx(rows(expected, scored), abs=2e-5)


def test_by_hand():
    # Boxes of 10 x 10: moved by 2 they share 80 of 120 (iou 2/3), by 4 60 of 140 (3/7), by 5 50 of 150 (1/3).
    row = boxes([(0, 0, 0, 10, 10, 0, 0.9), (0, 2, 0, 10, 10, 0, 0.8), (0, 5, 0, 10, 10, 0, 0.6)])
    assert nms(row, 0.5, 9).xywh[:, 0].tolist() == [0, 5]
    assert nms(row, 0.7, 9).xywh[:, 0].tolist() == [0, 2, 5]
    assert nms(row, 2 / 3, 9).xywh[:, 0].tolist() == [0, 2, 5]  # equal is not more
    assert nms(row, 0.7, 2).xywh[:, 0].tolist() == [0, 2]
    linear = soft_nms(row, 0.3, 9)  # after the first, .8 / 3 and .6 * 2 / 3 = .4; the best of them is 3 off (7 / 13)
    assert linear.xywh[:, 0].tolist() == [0, 5, 2]
    assert linear.score == pytest.approx([0.9, 0.4, 0.8 / 3 * 6 / 13])
    soft = soft_nms(row, 0.3, 9, sigma=0.5)
    second, third = 0.8 * np.exp(-2 * (2 / 3) ** 2), 0.6 * np.exp(-2 * (1 / 3) ** 2)
    assert soft.xywh[:, 0].tolist() == [0, 5, 2]
    assert soft.score == pytest.approx([0.9, third, second * np.exp(-2 * (7 / 13) ** 2)])
    one, two = row.where(np.array([0])), row.where(np.array([1]))
    (x, y, width, height), score = (fused := wbf([one, two], 0.5)).xywh[0], fused.score
    assert [x, y, width, height] == pytest.approx([2 * 0.8 / 1.7, 0, 10, 10]) and score == pytest.approx([0.85])
    assert wbf([one, two], 0.7).score == pytest.approx([0.45, 0.4])  # each is in one of two models
    assert wbf([one, two], 0.5, [3, 1]).score == pytest.approx([(3 * 0.9 + 0.8) / 2 * 2 / 4])
    assert wbf([one, nothing(1)], 0.5).score == pytest.approx([0.45])


def test_labels_and_images_do_not_meet():
    same = boxes([(0, 0, 0, 9, 9, 0, 0.9), (0, 0, 0, 9, 9, 1, 0.8), (2, 0, 0, 9, 9, 0, 0.7)], images=3)
    for result in (nms(same, 0.1, 9), soft_nms(same, 0.1, 9), wbf([same], 0.1)):
        assert rows(result) == pytest.approx(rows(same)) and result.images == 3
    assert nms(same, 0.1, 1).score.tolist() == [0.9, 0.7]  # at most so many of an image, not of a label


@given(st.integers(0, 10**6), st.floats(0, 0.95))
@settings(max_examples=40, deadline=None)
def test_what_nms_keeps(seed, limit):
    rng = np.random.default_rng(seed)
    before = scattered(rng)
    kept = nms(before, limit, EVERYTHING)
    for image, label in np.ndindex(3, 2):
        own = kept.xywh[(kept.image == image) & (kept.label == label)]
        assert (iou(own, own)[np.triu_indices(len(own), 1)] <= limit + 1e-12).all()
        group = before.where((before.image == image) & (before.label == label))
        if len(group):  # whatever was dropped overlaps something that was kept
            assert (iou(group.xywh, own).max(axis=1) > limit - 1e-12).all()
            assert group.score.max() in kept.score
    assert rows(nms(kept, limit, EVERYTHING)) == pytest.approx(rows(kept))


@given(st.integers(0, 10**6), st.sampled_from(["nms", "soft_nms", "wbf"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_order_of_boxes_images_and_parts_does_not_matter(seed, how, ties):
    rng = np.random.default_rng(seed)
    parts = [scattered(rng) for _ in range(3)]
    if ties:
        parts = [Boxes(p.images, p.image, p.xywh, p.label, p.score.round(1)) for p in parts]
    chosen = BoxSettings(merge=how, min_score=0.05, at_most=5)
    expected = fuse(parts, chosen)
    shuffled = [part.where(np.lexsort((rng.random(len(part)), part.image))) for part in parts]
    assert rows(fuse([shuffled[n] for n in (2, 0, 1)], chosen)) == pytest.approx(rows(expected))
    turned = fuse([part.of_images(np.array([2, 0, 1])) for part in parts], chosen)
    assert rows(turned.of_images(np.array([1, 2, 0]))) == pytest.approx(rows(expected))
    alone = stacked([fuse([part.of_images(np.array([n])) for part in parts], chosen) for n in range(3)])
    assert rows(alone) == pytest.approx(rows(expected))
    assert (np.diff(expected.image) >= 0).all() and (np.bincount(expected.image, minlength=3) <= 5).all()
    assert (np.diff(expected.score)[np.diff(expected.image) == 0] <= 0).all()  # the best first


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_several_times_the_same_model_is_that_model(seed, times):
    one = nms(scattered(np.random.default_rng(seed)), 0.5, EVERYTHING)
    assert rows(wbf([one] * times, 0.5)) == pytest.approx(rows(one))
    assert rows(fuse([one] * times, BoxSettings(merge="nms", min_score=0))) == pytest.approx(rows(one))


@pytest.mark.parametrize("how", ["nms", "soft_nms", "wbf"])
def test_settings(how):
    low, flat = (0, 50, 50, 9, 9, 0, 0.04), (0, 30, 30, 0, 9, 0, 0.8)
    result = boxes([(0, 0, 0, 10, 10, 0, 0.9), (0, 1, 0, 10, 10, 0, 0.8), low, flat], images=2)
    chosen = BoxSettings(merge=how, min_score=0.05, sigma=0.01)
    merged = merge(result, chosen)
    assert merged.xywh.tolist() == [[0, 0, 10, 10]] and merged.score == [0.9] and merged.images == 2
    assert fuse([merged], chosen) is merged
    weighted = fuse([merged, nothing(2)], chosen, [1, 3])
    assert weighted.score == pytest.approx([0.9 / 4 if how == "wbf" else 0.9 / 3])
    assert len(fuse([merged, nothing(2)], chosen.model_copy(update={"min_score": 0.5}), [1, 3])) == 0
    for empty in (merge(nothing(4), chosen), fuse([nothing(4), nothing(4)], chosen)):
        assert (len(empty), empty.images, empty.xywh.shape) == (0, 4, (0, 4))


def test_rows_of_very_different_length(monkeypatch):
    monkeypatch.setattr("kit.evaluate.boxes.merging._CELLS", 40)  # many small batches
    rng = np.random.default_rng(0)
    parts = [scattered(rng, images=20, most=30, labels=3) for _ in range(2)]
    for how in ("nms", "soft_nms", "wbf"):
        chosen = BoxSettings(merge=how)
        each = stacked([fuse([part.of_images(np.array([n])) for part in parts], chosen) for n in range(20)])
        assert rows(fuse(parts, chosen)) == pytest.approx(rows(each))
