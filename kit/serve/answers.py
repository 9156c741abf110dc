"""A row of predictions -> what a reader is told: numbers, the cut, and what that has meant before.

Before: on training images, by models that had not seen them. One entry per kind of decision. All texts are plain:
whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kit.boxes import BOXES, LABELS, SCORES
from kit.decisions import AnyDecision, BoxDecision, Decision
from kit.evaluate.decision import label_cuts
from kit.schemas import AnyScores, BoxScores, Scores
from kit.tables import DECISION, PROBABILITY

# Mastrandrea et al. 2010, "Guidance Note for Lead Authors of the IPCC Fifth Assessment Report", table 1.
_LIKELIHOODS = (
    (0.99, "virtually certain"),
    (0.9, "very likely"),
    (0.66, "likely"),
    (0.33, "about as likely as not"),
    (0.1, "unlikely"),
    (0.01, "very unlikely"),
    (0.0, "exceptionally unlikely"),
)
_FEWEST = 20  # images around a probability, from which on something is said of it


class Row(NamedTuple):
    """What the predictor says of an image: before the decision, and as it would be sent, with `decision`.

    `fused`: it is what several models say together.
    """

    raw: Mapping[Any, Any]
    sent: Mapping[Any, Any]
    fused: bool


def answer(decision: AnyDecision, scores: AnyScores, row: Row, size: tuple[int, int]) -> dict[str, Any]:
    """What JSON can hold: `decision`, `sentence`, `labels`, and `boxes` in pixels of an image of that `size`."""
    content: dict[str, Any] = _KINDS[type(decision)].answer(decision, scores, row, size)
    return {"decision": str(row.sent[DECISION]), **content}


def how_good(decision: AnyDecision, scores: AnyScores) -> list[str]:
    """What the decision was worth on images whose truth is known, as sentences."""
    sentences: list[str] = _KINDS[type(decision)].how_good(decision, scores)
    return sentences


def percent(p: float) -> str:
    """A probability as `87 %` (with a space that does not break), never as 0 or 100 %."""
    if p < 0.005:
        return "less than 1\u00a0%"
    return "more than 99\u00a0%" if p > 0.995 else f"{100 * p:.0f}\u00a0%"


def likelihood(p: float) -> str:
    """A probability in words."""
    return next(words for least, words in _LIKELIHOODS if p >= least)


def _probabilities(decision: Decision, scores: Scores, row: Row, size: tuple[int, int]) -> dict[str, Any]:
    names = list(decision.labels)
    present = {str(row.sent[DECISION])} if decision.classes is not None else {*str(row.sent[DECISION]).split("|")}
    cuts = [None] * len(names) if decision.classes is not None else [float(cut) for cut in label_cuts(decision)]
    labels = []
    for name, cut in zip(names, cuts, strict=True):
        p = float(row.sent[PROBABILITY + name])
        labels.append(
            {
                "label": name,
                "probability": p,
                "cut": cut,
                "present": name in present,
                **_seen_before(name, p, float(row.raw[PROBABILITY + name]), scores),
            }
        )
    return {"sentence": _SENTENCES[decision.classes is not None](labels), "labels": labels, "boxes": []}


def _seen_before(name: str, p: float, raw: float, scores: Scores) -> dict[str, Any]:
    """How many of the training images that were scored most alike, by models that had not seen them, have the label.

    They are the groups of the reliability diagram whose means are nearest, before calibration, which keeps their order:
    as few as hold enough images.
    Words for how likely the label is come from this share: a probability that is not calibrated may be too sure.
    """
    bars = scores.calibration.reliability.get(name, {})
    predicted, rows, observed = (np.array(bars.get(key, [])) for key in ("predicted", "rows", "observed"))
    order = np.argsort(np.abs(predicted - raw), kind="stable")
    order = order[: int(np.searchsorted(rows[order].cumsum(), _FEWEST)) + 1]
    images = int(rows[order].sum())
    if images < _FEWEST:
        return {"meaning": "", "of_100": None, "images": images, "likelihood": likelihood(p)}
    share = float(np.average(observed[order], weights=rows[order]))
    text = (
        f"Of 100 training images scored like this one, {_about(share)} had {name} (there are {images:,}, each scored "
        "by a model that had not seen it)."
    )
    return {"meaning": text, "of_100": round(100 * share), "images": images, "likelihood": likelihood(share)}


def _about(share: float) -> str:
    if 0 < share < 0.01:
        return "fewer than 1"
    return "more than 99" if 0.99 < share < 1 else f"{100 * share:.0f}"


def _of_labels(labels: Sequence[Mapping[str, Any]]) -> str:
    if len(labels) > 1:
        names = [label["label"] for label in labels if label["present"]]
        return f"At or above their cuts: {', '.join(names)}." if names else "No label is at or above its cut."
    (label,) = labels
    side = "at or above" if label["present"] else "below"
    p, cut = percent(label["probability"]), percent(label["cut"])
    return f"The probability of {label['label']} is {p}, {side} the cut of {cut}."


def _of_classes(labels: Sequence[Mapping[str, Any]]) -> str:
    chosen = next(label for label in labels if label["present"])
    return f"The class that is decided on has a probability of {percent(chosen['probability'])}."


_SENTENCES: dict[bool, Callable[[Sequence[Mapping[str, Any]]], str]] = {False: _of_labels, True: _of_classes}


def _worth(decision: Decision, scores: Scores) -> list[str]:
    if decision.classes is not None:
        of_100 = f"{100 * scores.accuracy:.0f}" if scores.accuracy is not None else ""
        return (
            [f"Of 100 training images, {of_100} were decided on rightly by models that had not seen them."]
            if of_100
            else []
        )
    sentences = []
    for name, threshold in decision.thresholds.items():
        nested = threshold.cross_validated or {}
        found, passed = nested.get("recall"), nested.get("specificity")
        if found is not None and passed is not None and threshold.threshold is not None:
            sentences.append(
                f"At the cut of {percent(threshold.threshold)}, {100 * found:.0f} of 100 training images with {name} "
                f"were found, and {100 * (1 - passed):.0f} of 100 without it were taken for it, by models and cuts "
                "that had not seen them."
            )
    return sentences


def _boxes(decision: BoxDecision, scores: BoxScores, row: Row, size: tuple[int, int]) -> dict[str, Any]:
    of_row = zip(row.sent[BOXES], row.sent[SCORES], _names(decision, row.sent), strict=True)
    width, height = size
    boxes: list[dict[str, Any]] = [
        {
            "label": name,
            "score": float(score),
            **dict(zip(("x", "y", "width", "height"), map(float, box), strict=True)),
            "shares": [box[0] / width, box[1] / height, box[2] / width, box[3] / height],
        }
        for box, score, name in of_row
    ]
    labels = []
    for name in decision.labels:
        own: list[float] = [box["score"] for box in boxes if box["label"] == name]
        rule = decision.rules[name]
        labels.append(
            {
                "label": name,
                "probability": max(own) if own else None,
                "cut": rule.cut if rule.fused_cut is None or not row.fused else rule.fused_cut,
                "present": bool(own),
                "boxes": len(own),
                "likelihood": "",
                **_of_boxes(name, scores),
            }
        )
    count = len(boxes)
    sentence = f"{count} box{'es' if count != 1 else ''} found." if count else "No box found."
    return {"sentence": sentence, "labels": labels, "boxes": boxes}


def _names(decision: BoxDecision, row: Mapping[Any, Any]) -> list[str]:
    names = row.get(LABELS)
    return [decision.labels[0]] * len(row[BOXES]) if names is None else list(names)


def _of_boxes(name: str, scores: BoxScores) -> dict[str, Any]:
    report = scores.report.labels.get(name, {})
    precision = report["precision"].value if "precision" in report else None
    if precision is None:
        return {"meaning": "", "of_100": None, "images": 0}
    text = (
        f"Of 100 boxes that are shown, {_about(precision)} were right on {scores.rows:,} training images, each seen by "
        "a model that did not know it."
    )
    return {"meaning": text, "of_100": round(100 * precision), "images": scores.rows}


def _box_worth(decision: BoxDecision, scores: BoxScores) -> list[str]:
    recalls = {name: report["recall"].value for name, report in scores.report.labels.items() if "recall" in report}
    return [
        f"{100 * value:.0f} of 100 true boxes of {name} in training images were found, by models new to them."
        for name, value in recalls.items()
        if value is not None
    ]


class _Kind(NamedTuple):
    answer: Callable[[Any, Any, Row, tuple[int, int]], dict[str, Any]]
    how_good: Callable[[Any, Any], list[str]]


_KINDS: dict[type, _Kind] = {
    Decision: _Kind(_probabilities, _worth),
    BoxDecision: _Kind(_boxes, _box_worth),
}
