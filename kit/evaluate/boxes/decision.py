"""From predicted boxes to those that are sent: cut, shrink and gate, chosen out of fold and measured nested.

The metric is RSNA's, the mean over images of a value of the boxes with a score of at least the cut. Few images choose
little: the shrink and the gate are used only where they are surely better on folds that did not choose them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kit.boxes import Boxes
from kit.config import BoxSettings, EvaluateSettings
from kit.decisions import BoxDecision, BoxRule
from kit.errors import DataError
from kit.evaluate.boxes.metrics import EmptyImages, mean_of_defined, per_image_at
from kit.evaluate.resample import Statistic, interval, numbered, resample, share_above
from kit.schemas import BlendScore, Number

SHRINKS = (1.0, 0.95, 0.9, 0.875, 0.85, 0.8)  # factors for the sides of a box
GATES = (0.0, 0.5, 1.0, 2.0)  # exponents of the probability that a score is multiplied by
_FINE, _COARSE = 64, 16  # cuts that keep up to twice as many boxes as there are, and more


@dataclass(frozen=True)
class Judged:
    """Images whose boxes are known, and how predictions of them are judged.

    `fold` int [images]: which fold's model predicted the image · `group` [images]: its patient.
    """

    truth: Boxes
    fold: np.ndarray
    group: np.ndarray
    labels: int = 1
    empty_images: EmptyImages = "left_out"

    def of_label(self, label: int) -> "Judged":
        """The same images with the boxes of one label alone."""
        return replace(self, truth=self.truth.of_label(label), labels=1)


@dataclass(frozen=True)
class Cut:
    """The best cut of some predictions of a label.

    `score`: of the cut, and its `value` on the images that chose it · `others` float64 [folds]: the value of the cut
    chosen without a fold, on the images that chose it · `nested` float64 [images]: each image at the cut that the other
    folds chose (NaN: left out).
    """

    score: float
    value: float
    others: np.ndarray
    nested: np.ndarray


def decide(
    judged: Judged,
    predictions: Boxes,
    task: str,
    labels: Sequence[str],
    views: str,
    merge: BoxSettings,
    settings: EvaluateSettings,
    gate: np.ndarray | None = None,
) -> BoxDecision:
    """The decision that merged out-of-fold boxes lead to.

    `gate` float [images, labels] are the out-of-fold probabilities of a classification of the same images and folds.
    """
    rules = {}
    for n, label in enumerate(labels):
        p = None if gate is None else gate[:, n]
        rules[label] = _rule(judged.of_label(n), predictions.of_label(n), settings, p)
    return BoxDecision(
        task=task,
        labels=tuple(labels),
        views=views,
        merge=BoxSettings(**merge.model_dump()),  # every field set, so that it is written
        rules=rules,
        on_the_images_that_chose_it=_mean_of([rule.on_the_images_that_chose_it for rule in rules.values()]),
        nested=_mean_of([rule.nested for rule in rules.values()]),
    )


def apply(decision: BoxDecision, boxes: Boxes, gate: np.ndarray | None = None, fused: bool = False) -> Boxes:
    """The boxes that are sent or shown, with their scores; `gate` float [images, labels] where the decision has one.

    `fused`: they are those of several folds as one. Raises DataError where the decision needs probabilities and there
    are none.
    """
    rules = [decision.rules[label] for label in decision.labels]
    cut = np.array([rule.fused_cut if fused and rule.fused_cut is not None else rule.cut for rule in rules])
    shrink = np.array([rule.shrink for rule in rules])
    weighed = _weighed(decision, boxes, gate)
    kept = weighed.where(weighed.score >= cut[weighed.label])
    return shrunk(kept, shrink[kept.label])


def with_fused_cuts(
    decision: BoxDecision, folds: Sequence[Boxes], fused: Boxes, gate: np.ndarray | None = None
) -> BoxDecision:
    """The decision with cuts for fused boxes: they keep as many as the folds' own boxes have, in the mean, at theirs.

    Out of fold, an image has the boxes of one model. Of several, fusion averages scores and lowers those that few
    agree on, suppression takes the highest: a cut chosen out of fold keeps too few or too many. `folds` are each one's
    boxes of some images, `fused` their fusion; no truth is needed.
    """
    single, together = [_weighed(decision, boxes, gate) for boxes in folds], _weighed(decision, fused, gate)
    rules = {}
    for n, (label, rule) in enumerate((label, decision.rules[label]) for label in decision.labels):
        kept = sum(int((boxes.of_label(n).score >= rule.cut).sum()) for boxes in single) / max(len(single), 1)
        scores = np.append(np.sort(together.of_label(n).score)[::-1], 0.0)
        count = min(round(kept), len(scores) - 1)
        cut = float((scores[count - 1] + scores[count]) / 2) if count and len(single) > 1 else None
        rules[label] = rule.model_copy(update={"fused_cut": cut})
    return decision.model_copy(update={"rules": rules})


def shrunk(boxes: Boxes, factor: np.ndarray | float) -> Boxes:
    """The boxes with their sides multiplied by `factor` (a number, or float [n]), around their centres."""
    sides = boxes.xywh[:, 2:] * np.reshape(factor, (-1, 1))
    corner = boxes.xywh[:, :2] + (boxes.xywh[:, 2:] - sides) / 2
    return replace(boxes, xywh=np.hstack([corner, sides]))


def best_cut(judged: Judged, predictions: Boxes) -> Cut:
    """The cut with the largest value: on all images, and on all but each fold; of equal ones, the largest."""
    cuts = _cuts(predictions.score, len(judged.truth))
    values = per_image_at(cuts, judged.truth, predictions, judged.empty_images)
    folds, number = np.unique(judged.fold, return_inverse=True)
    sums, counts = _summed(values, number)  # [folds, cuts]
    others = _ratio(sums.sum(axis=0) - sums, counts.sum(axis=0) - counts)  # without the fold
    everywhere = _ratio(sums.sum(axis=0), counts.sum(axis=0))
    chosen, best = _largest(others), int(_largest(everywhere))
    nested = values[np.arange(len(values)), chosen[number]]
    return Cut(float(cuts[best]), float(everywhere[best]), others[np.arange(len(folds)), chosen], nested)


def value_of(values: np.ndarray) -> float:
    """The metric from the values of images, float64 [images, labels]: the mean of the labels' means; NaN if none."""
    return mean_of_defined(_ratio(np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0)))


def compared(
    nested: Mapping[str, np.ndarray],
    optimistic: Mapping[str, float],
    base: str,
    group: np.ndarray,
    settings: EvaluateSettings,
    comparisons: int,
) -> dict[str, BlendScore]:
    """The worth of each way, and its gain over `base`, from the values of images [images, labels] that are nested.

    It is `sure` where the interval of its gain, widened for the number of comparisons (Bonferroni), lies above 0.
    """
    group_of, count = numbered(group)
    statistics = [_statistic(values, group_of) for values in nested.values()]
    resampled = dict(zip(nested, resample(statistics, count, settings.resamples)[:, :, 0].T, strict=True))
    scores = {}
    for name, values in nested.items():
        gains = resampled[name] - resampled[base]
        low, high = interval(resampled[name], settings.confidence)
        gain_low, gain_high = interval(gains, settings.confidence)
        sure_low, _ = interval(gains, 1 - (1 - settings.confidence) / max(1, comparisons))
        value = value_of(values)
        scores[name] = BlendScore(
            nested=_number(value),
            low=_number(low),
            high=_number(high),
            optimistic=_number(optimistic[name]),
            gain=_number(value - value_of(nested[base])),
            gain_low=_number(gain_low),
            gain_high=_number(gain_high),
            better=_number(share_above(gains)),
            sure=bool(name != base and sure_low > 0),
        )
    return scores


def _rule(judged: Judged, predictions: Boxes, settings: EvaluateSettings, gate: np.ndarray | None) -> BoxRule:
    """What is done with a label's boxes: they are cut and, where that is surely better, shrunk or gated."""
    if len(np.unique(judged.fold)) < 2:  # no fold can judge what another chose
        only = best_cut(judged, predictions)
        return BoxRule(cut=only.score, shrink=1.0, gate=0.0, on_the_images_that_chose_it=_number(only.value))
    gates = GATES if gate is not None else GATES[:1]
    cuts = {
        (shrink, g): best_cut(judged, shrunk(_gated(predictions, gate, g), shrink)) for shrink in SHRINKS for g in gates
    }
    strategies = {"cut": [(1.0, 0.0)], "shrink": [(shrink, 0.0) for shrink in SHRINKS]}
    if gate is not None:
        strategies |= {"gate": [(1.0, g) for g in gates], "shrink and gate": list(cuts)}
    nested = {name: _nested([cuts[way] for way in own], judged.fold)[:, None] for name, own in strategies.items()}
    best = {
        name: max(own, key=lambda way: np.nan_to_num(cuts[way].value, nan=-np.inf)) for name, own in strategies.items()
    }
    optimistic = {name: cuts[way].value for name, way in best.items()}
    scores = compared(nested, optimistic, "cut", judged.group, settings, len(strategies) - 1)
    chosen = surely_best(scores, "cut")
    shrink, exponent = best[chosen]
    return BoxRule(
        cut=cuts[best[chosen]].score,
        shrink=shrink,
        gate=exponent,
        on_the_images_that_chose_it=_number(optimistic[chosen]),
        nested=scores[chosen].nested,
        strategies=scores,
    )


def surely_best(scores: Mapping[str, BlendScore], base: str) -> str:
    """The one with the largest gain among those that are surely better than `base`, else that."""
    return max((name for name in scores if scores[name].sure), key=lambda name: scores[name].gain or 0, default=base)


def _nested(cuts: Sequence[Cut], fold: np.ndarray) -> np.ndarray:
    """The values of images, those of each fold under the cut that is best on the others; of equal ones, the first."""
    nested = np.full(len(fold), np.nan)
    for n, k in enumerate(np.unique(fold)):
        best = max(cuts, key=lambda cut: np.nan_to_num(cut.others[n], nan=-np.inf))
        nested[fold == k] = best.nested[fold == k]
    return nested


def _cuts(scores: np.ndarray, true: int) -> np.ndarray:
    """Cuts to try, falling, each half way between two scores: finest where they keep as many boxes as are true."""
    ordered = np.sort(scores)[::-1]
    count = len(ordered)
    if not count:
        return np.array([1.0])
    near = np.linspace(1, min(count, max(2 * true, 1)), _FINE)
    far = np.geomspace(near[-1], count, _COARSE)
    kept = np.unique(np.concatenate([near, far]).round().astype(int))
    below = np.append(ordered, 0.0)[kept]
    return np.unique((ordered[kept - 1] + below) / 2)[::-1]


def _weighed(decision: BoxDecision, boxes: Boxes, gate: np.ndarray | None) -> Boxes:
    exponent = np.array([decision.rules[label].gate for label in decision.labels])
    if not exponent.any():
        return boxes
    if gate is None:
        raise DataError("the decision weighs boxes with the probabilities of a classification run: there are none")
    return replace(boxes, score=boxes.score * gate[boxes.image, boxes.label] ** exponent[boxes.label])


def _gated(boxes: Boxes, gate: np.ndarray | None, exponent: float) -> Boxes:
    """The boxes of a label with their scores times the probability [images] of their image to this power."""
    return boxes if gate is None else replace(boxes, score=boxes.score * gate[boxes.image] ** exponent)


def _statistic(values: np.ndarray, group_of: np.ndarray) -> Statistic:
    """`value_of` any resample of groups, from each group's sums."""
    sums, counts = (np.ascontiguousarray(part.T) for part in _summed(values, group_of))  # [labels, groups]

    def value(times: np.ndarray) -> np.ndarray:
        # Sums, not dot products: BLAS would start threads for them, many times as slow where the cores are busy.
        each = _ratio((sums * times).sum(axis=1), (counts * times).sum(axis=1))
        return np.append(mean_of_defined(each), each)

    return value


def _summed(values: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of values [rows, columns] over the rows of each number (0, 1, ...), and how many of them are defined."""
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    rows = values[order]
    defined = ~np.isnan(rows)
    sums = np.add.reduceat(np.where(defined, rows, 0), starts, axis=0)
    return sums, np.add.reduceat(defined.astype(np.float64), starts, axis=0)


def _largest(values: np.ndarray) -> np.ndarray:
    """Where the last axis is largest: the first of those that differ by rounding alone, NaN being the smallest."""
    return np.argmax(np.where(np.isnan(values), -np.inf, values.round(12)), axis=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean_of(values: Sequence[Number]) -> Number:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _number(value: float) -> Number:
    return None if np.isnan(value) else float(value)
