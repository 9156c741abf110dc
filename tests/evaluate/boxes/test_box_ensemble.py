from dataclasses import replace

import numpy as np
import pytest

from kit.boxes import Boxes, joined
from kit.config import BoxSettings, EvaluateSettings
from kit.errors import ConfigError, DataError
from kit.evaluate.boxes.decision import Judged, best_cut, value_of
from kit.evaluate.boxes.ensemble import BOX_BLENDS, ensemble
from kit.evaluate.boxes.merging import fuse, merge
from tests.evaluate.boxes.seen import scattered, seen

SETTINGS = EvaluateSettings(resamples=200)
MERGE = BoxSettings(iou=0.4, at_most=6)


def world(seed, images=60, **errors):
    """Images with true boxes, and runs that see them each with errors of its own."""
    rng = np.random.default_rng(seed)
    truth = scattered(rng, images, 3, 1)
    runs = {name: seen(rng, truth, **{"jitter": 0.05, **errors}) for name in ("first", "second", "third")}
    return Judged(truth, rng.permutation(images) % 4, np.arange(images)), runs


def sorted_rows(boxes):
    return sorted(np.column_stack([boxes.image, boxes.label, boxes.xywh, boxes.score]).round(9).tolist())


def test_fusion_of_runs_with_errors_of_their_own_is_better_than_any():
    judged, runs = world(0, images=100)
    result = ensemble(runs, judged, MERGE, SETTINGS)
    single = [result.scores[f"only {name}"].nested for name in runs]
    assert list(result.scores) == ["only first", "only second", "only third", *BOX_BLENDS]
    assert result.base == "wbf" and result.scores["wbf"].nested > max(single) + 0.03
    assert result.scores["wbf"].gain == 0 and not result.scores["wbf"].sure
    assert result.scores["only first"].nested == pytest.approx(
        value_of(best_cut(judged, runs["first"]).nested[:, None])
    )
    assert sum(result.blend.weights) == pytest.approx(1)
    assert all(score.low <= score.nested <= score.high for score in result.scores.values())
    test = {name: boxes.of_images(np.arange(7)) for name, boxes in runs.items()}
    expected = fuse(list(test.values()), result.blend.merge, result.blend.weights)
    assert sorted_rows(result.blend.apply(list(test.values()))) == sorted_rows(expected)


def test_out_of_fold_boxes_are_of_blends_that_were_fitted_without_the_fold():
    judged, runs = world(1)
    result = ensemble(runs, judged, MERGE, SETTINGS, "wbf_weighted")
    others = np.array([best_cut(judged, boxes).others for boxes in runs.values()])  # [runs, folds]
    for k in range(4):
        inside = np.flatnonzero(judged.fold == k)
        expected = fuse(list(runs.values()), MERGE, others[:, k]).of_images(inside)
        assert sorted_rows(result.nested.of_images(inside)) == sorted_rows(expected)
    alone = ensemble(runs, judged, MERGE, SETTINGS, "best_single").nested
    names = list(runs)
    for k in range(4):
        inside = np.flatnonzero(judged.fold == k)
        best = runs[names[int(others[:, k].argmax())]]
        assert sorted_rows(alone.of_images(inside)) == sorted_rows(best.of_images(inside))


def test_a_bad_run_does_no_harm():
    judged, runs = world(2, jitter=0.02, misses=0.05, false=0.05)
    noise = scattered(np.random.default_rng(0), 60, 4, 1)
    result = ensemble({"good": runs["first"], "noise": noise}, judged, MERGE, SETTINGS)
    assert result.base == "best_single" and result.blend.name != "wbf"
    assert result.scores[result.blend.name].nested >= result.scores["only good"].nested - 1e-9
    assert result.scores["wbf_weighted"].nested > result.scores["wbf"].nested


def test_equal_runs_gain_nothing():
    judged, runs = world(3)
    one = merge(runs["first"], replace_merge("nms"))
    result = ensemble({"a": one, "b": one}, judged, replace_merge("nms"), SETTINGS)
    assert result.blend.name in ("wbf", "best_single")
    single = result.scores["only a"].nested
    assert {
        name: result.scores[name].nested for name in ("wbf", "nms", "wbf_weighted", "nms_weighted", "best_single")
    } == {name: pytest.approx(single) for name in ("wbf", "nms", "wbf_weighted", "nms_weighted", "best_single")}


def replace_merge(how):
    return MERGE.model_copy(update={"merge": how})


def test_several_labels():
    judged, runs = world(4, images=40)

    def twice(boxes: Boxes) -> Boxes:
        return joined([boxes, replace(boxes, label=boxes.label + 1)])

    several = replace(judged, truth=twice(judged.truth), labels=2)
    result = ensemble({name: twice(boxes) for name, boxes in runs.items()}, several, MERGE, SETTINGS)
    alone = ensemble(runs, judged, MERGE.model_copy(update={"at_most": 3}), SETTINGS)
    assert result.scores["only first"].nested == pytest.approx(alone.scores["only first"].nested)
    assert set(result.nested.label) == {0, 1}


def test_what_is_refused():
    judged, runs = world(5, images=10)
    with pytest.raises(ConfigError, match="unknown blend of boxes 'wbv'; did you mean 'wbf'"):
        ensemble(runs, judged, MERGE, SETTINGS, "wbv")
    with pytest.raises(DataError, match="at least two folds"):
        ensemble(runs, replace(judged, fold=judged.fold * 0), MERGE, SETTINGS)


def test_noise_shows_no_gain_of_a_blend():
    gains, chosen = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        judged = Judged(scattered(rng, 40, 3, 1), rng.permutation(40) % 4, np.arange(40))
        runs = {name: scattered(rng, 40, 4, 1) for name in "ab"}
        result = ensemble(runs, judged, MERGE, SETTINGS)
        gains.append([result.scores[name].gain for name in BOX_BLENDS])
        chosen.append(result.blend.name == result.base)
    assert np.mean(gains) < 0.002 and all(chosen)
