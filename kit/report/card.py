"""A model card in Markdown: what a model is for, what it was measured on, and where it may be wrong.

Its headings are those of Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993), that data alone
can fill; what it cannot say, it asks for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kit.config import Config
from kit.decisions import AnyDecision, BoxDecision, Decision
from kit.report.page import interval, number
from kit.schemas import AnyScores, Scores, SetScores

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>|#"})


class Facts(NamedTuple):
    """What a card is written from; `networks` are (name, source, licence of the weights) of what was pre-trained.

    `examples` is None where the run's table of images is not at hand.
    """

    title: str
    config: Config
    scores: AnyScores
    decision: AnyDecision
    examples: pd.DataFrame | None
    networks: Sequence[tuple[str, str, str]]
    environment: Mapping[str, Any]


def card(facts: Facts) -> str:
    """The card as Markdown."""
    parts = [
        ("Model", _model(facts)),
        ("Intended use", _USE),
        ("Data", _data(facts)),
        ("Scores", _scores(facts.scores)),
        ("Decision", _DECISIONS[type(facts.decision)](facts.decision)),
        ("Limits", _limits(facts.scores)),
        ("Licences", _licences(facts.networks)),
    ]
    return f"# {_text(facts.title)}\n\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in parts) + "\n"


_OF_CUT = ("f1", "recall", "specificity")
_USE = (
    "A model that was trained on the data below, for research and competitions. It is no medical device: it was not "
    "tested for clinical use and must not be used for it.\n\n"
    "(To be completed by who publishes it: for whom, for what, and what it must not be used for.)"
)


def _model(facts: Facts) -> str:
    config, image = facts.config, facts.config.image
    packages = facts.environment.get("packages", {})
    versions = ", ".join(f"{name} {packages[name]}" for name in ("kit", "keras") if name in packages)
    colour = {"gray": "grey"}.get(image.color, image.color)
    lines = [
        f"- network: {_text(config.model.name)}, {config.folds} folds, whose predictions are averaged",
        f"- images: {image.size} × {image.size} pixels, {colour}; views: {facts.decision.views}",
        f"- says: {', '.join(map(_text, facts.decision.labels))} ({facts.decision.task})",
        f"- {f'made with {versions}; ' if versions else ''}settings: config.yaml of the run",
    ]
    return "\n".join(lines)


def _data(facts: Facts) -> str:
    examples = facts.examples
    if examples is None:
        return f"Competition or set: {_text(facts.config.competition)}. The table of its images is with the run."
    rows = []
    for split in ("train", "test"):
        part = examples[examples["split"] == split]
        if len(part):
            rows.append([split, number(len(part)), number(int(part["group"].nunique()))])
    columns = [f"y_{label}" for label in facts.decision.labels if f"y_{label}" in examples]
    train = examples[examples["split"] == "train"]
    positives = [[_text(c.removeprefix("y_")), number(int((train[c] > 0.5).sum()))] for c in columns]
    text = (
        f"Competition or set: {_text(facts.config.competition)}. Groups (patients, slides) are never in two folds.\n\n"
    )
    return text + _table(["split", "images", "groups"], rows) + "\n\n" + _table(["label", "training images"], positives)


def _scores(scores: AnyScores) -> str:
    sets: list[tuple[str, SetScores]] = [("out of fold", scores), *([("test", scores.test)] if scores.test else [])]
    rows = [
        [name, scores.metric, number(s.value), interval(s.interval.low, s.interval.high), number(s.rows)]
        for name, s in sets
    ]
    text = _table(["measured", "metric", "value", "95 %", "images"], rows)
    if len(scores.labels) > 1:
        labels = [[_text(name), number(s.value), interval(s.low, s.high)] for name, s in scores.labels.items()]
        text += "\n\n" + _table(["label", "out of fold", "95 %"], labels)
    if scores.subgroups:
        parts = [
            [_text(f"{s.column}: {s.part}"), number(s.value), number(s.rows), "few: uncertain" if s.small else ""]
            for s in scores.subgroups
        ]
        text += "\n\n" + _table(["part of the images", "out of fold", "images", ""], parts)
    return f"{text}\n\n{_text(scores.note)}"


def _decision(decision: Decision) -> str:
    kind = decision.calibration.kind
    text = "Probabilities are not calibrated." if kind == "none" else f"Probabilities are calibrated ({kind})."
    rows = [
        [
            _text(name),
            number(t.threshold),
            *(number(t.cross_validated.get(key)) for key in _OF_CUT),
        ]
        for name, t in decision.thresholds.items()
        if t.cross_validated
    ]
    if not rows or decision.classes is not None:
        return text
    return (
        text
        + " A label counts as present from its cut on:\n\n"
        + _table(["label", "cut", "F1", "sensitivity (recall)", "specificity"], rows)
        + "\n\nThe three values are of folds that did not choose the cut."
    )


def _box_decision(decision: BoxDecision) -> str:
    rows = [[_text(name), number(rule.cut), number(rule.nested)] for name, rule in decision.rules.items()]
    return "Boxes are kept from these scores on:\n\n" + _table(["label", "cut", "metric, nested"], rows)


_DECISIONS: dict[type, Callable[[Any], str]] = {Decision: _decision, BoxDecision: _box_decision}


def _limits(scores: AnyScores) -> str:
    lines = [
        "All figures are of images from the same sources as those it was trained on. Other scanners, stains or "
        "hospitals may cost more than the intervals say."
    ]
    if isinstance(scores, Scores) and scores.left_out_clusters:
        left = scores.left_out_clusters
        of = " of the frozen network" if left.frozen else ""
        lines.append(
            f"Where images that look alike were left out of training{of}: {number(left.value)} in place of "
            f"{number(left.out_of_fold)}."
        )
    return "\n".join(f"- {_text(line)}" for line in [*lines, *scores.warnings])


def _licences(networks: Sequence[tuple[str, str, str]]) -> str:
    if not networks:
        return "No pre-trained weights. The licence of the training images applies to what was learnt from them."
    rows = [[_text(name), _text(source), _text(licence or "not known")] for name, source, licence in networks]
    text = "\n\nThe licence of the training images applies, too."
    return _table(["pre-trained network", "source", "licence of its weights"], rows) + text


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Text that stays text in Markdown."""
    return " ".join(str(text).split()).translate(_MARKS)
