"""A model card in Markdown: what a model is for, what it was measured on, and where it may be wrong.

Its headings are those of Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993), that data alone
can fill; what it cannot say, it asks for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kit.config import Config
from kit.decisions import AnyDecision, BoxDecision, Decision
from kit.report import markdown
from kit.report.page import interval, number, percent
from kit.schemas import AnyScores, BoxScores, Scores, SetScores


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
        ("Decision", _DECISIONS[type(facts.decision)](facts.decision, facts.scores)),
        ("Limits", _limits(facts)),
        ("Licences", _licences(facts.networks)),
    ]
    return f"# {markdown.text(facts.title)}\n\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in parts) + "\n"


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
    colour = {"gray": "grey", "rgb": "RGB"}.get(image.color, image.color)
    before = "".join(f", {step.name}" for step in image.steps)
    trained = ", ".join(name for name, _, _ in facts.networks)
    lines = [
        f"- network: {markdown.text(config.model.name)}"
        + (f", from pre-trained weights of {markdown.text(trained)}" if trained else ", trained from scratch")
        + f"; the mean over {config.folds} folds' models",
        f"- images: {image.size} × {image.size} pixels, {colour}{before}; views: {facts.decision.views}",
        f"- predicts: {', '.join(map(markdown.text, facts.decision.labels))} ({facts.decision.task})",
        f"- {f'made with {versions}; ' if versions else ''}settings: config.yaml of the run",
    ]
    return "\n".join(lines)


def _data(facts: Facts) -> str:
    examples = facts.examples
    if examples is None:
        name = markdown.text(facts.config.competition_name)
        return f"Competition or set: {name}. The table of its images is with the run."
    rows = []
    for split in ("train", "test"):
        part = examples[examples["split"] == split]
        if len(part):
            rows.append([split, number(len(part)), number(int(part["group"].nunique()))])
    columns = [f"y_{label}" for label in facts.decision.labels if f"y_{label}" in examples]
    train = examples[examples["split"] == "train"]
    positives = [
        [markdown.text(c.removeprefix("y_")), number(int((train[c] > 0.5).sum())), percent((train[c] > 0.5).mean(), 1)]
        for c in columns
    ]
    text = f"Competition or set: {markdown.text(facts.config.competition_name)}."
    text += " Groups (patients, slides) are never in two folds.\n\n" if _is_grouped(facts) else "\n\n"
    return (
        text
        + markdown.table(["split", "images", "groups"], rows)
        + "\n\n"
        + markdown.table(["label", "training images", "share"], positives)
    )


def _scores(scores: AnyScores) -> str:
    sets: list[tuple[str, SetScores]] = [("out of fold", scores), *([("test", scores.test)] if scores.test else [])]
    rows = [
        [name, markdown.text(scores.metric), number(s.value), interval(s.interval.low, s.interval.high), number(s.rows)]
        for name, s in sets
    ]
    limits = percent(scores.interval.confidence)
    text = markdown.table(["measured", "metric", "value", limits, "images"], rows)
    if len(scores.labels) > 1:
        labels = [[markdown.text(name), number(s.value), interval(s.low, s.high)] for name, s in scores.labels.items()]
        text += "\n\n" + markdown.table(["label", "out of fold", limits], labels)
    if scores.subgroups:
        parts = [
            [
                markdown.text(f"{s.column}: {s.part}"),
                number(s.value),
                number(s.rows),
                "few: uncertain" if s.small else "",
            ]
            for s in scores.subgroups
        ]
        text += "\n\n" + markdown.table(["part of the images", "out of fold", "images", ""], parts)
    return f"{text}\n\n{markdown.text(scores.note)}"


def _decision(decision: Decision, scores: Scores) -> str:
    parts = [_probabilities(decision, scores)]
    if decision.classes is not None:
        accuracy = decision.classes.balanced_accuracy_of_argmax
        if decision.classes.applied:
            accuracy = decision.classes.balanced_accuracy_cross_validated
        weighed = ", after factors (decision.json)" if decision.classes.applied else ""
        return f"{parts[0]} The likeliest class is meant{weighed}: balanced accuracy {number(accuracy)}, out of fold."
    rows = [
        [markdown.text(name), _cut(t.threshold), *(number(t.cross_validated.get(key)) for key in _OF_CUT)]
        for name, t in decision.thresholds.items()
        if t.cross_validated
    ]
    if rows:
        rule = markdown.text(next(iter(decision.thresholds.values())).rule)
        parts.append(f"A label counts as present from its cut on, chosen by the rule {rule}:")
        parts.append(markdown.table(["label", "cut", "F1", "sensitivity (recall)", "specificity"], rows))
        parts.append("The three values are of folds that did not choose the cut.")
    return "\n\n".join(parts)


def _probabilities(decision: Decision, scores: Scores) -> str:
    """What the probabilities are worth as such."""
    kind = decision.calibration.kind
    text = "Probabilities are not calibrated" if kind == "none" else f"Probabilities are calibrated ({kind})"
    measured = scores.calibration.cross_fitted.get(kind)
    if measured and measured.error is not None:
        text += f": they are off from observed frequencies by {number(measured.error)} in the mean, out of fold"
    if decision.prior:
        text += "; they are for other shares of the labels than the training set has (decision.json)"
    return f"{text}."


def _box_decision(decision: BoxDecision, scores: BoxScores) -> str:
    rows = [[markdown.text(name), _cut(rule.cut), number(rule.nested)] for name, rule in decision.rules.items()]
    table = markdown.table(["label", "cut", f"{markdown.text(scores.metric)}, by cuts of other folds"], rows)
    return f"Boxes are kept from these scores on; scores are no probabilities:\n\n{table}"


_DECISIONS: dict[type, Callable[[Any, Any], str]] = {Decision: _decision, BoxDecision: _box_decision}


def _cut(value: float | None) -> str:
    """A cut with three digits that count: of a rare label it is small."""
    return "–" if value is None else f"{value:.3g}"


def _is_grouped(facts: Facts) -> bool:
    examples = facts.examples
    return examples is not None and int(examples["group"].nunique()) < len(examples)


def _limits(facts: Facts) -> str:
    scores = facts.scores
    lines = [
        "All figures are of images from the same sources as those it was trained on. Other scanners, stains or "
        "hospitals may cost more than the intervals say.",
        "It answers whatever it is given: an image of something else gets a prediction, too.",
    ]
    if not _is_grouped(facts):
        lines.append(
            "Every image counts as a group of its own: where patients have several, their images lie on both sides of "
            "a fold, and the figures are too good."
        )
    if isinstance(scores, Scores) and scores.left_out_clusters:
        left = scores.left_out_clusters
        of = " of the frozen network" if left.frozen else ""
        lines.append(
            f"Where images that look alike were left out of training{of}: {scores.metric} {number(left.value)} in "
            f"place of {number(left.out_of_fold)}."
        )
    return "\n".join(f"- {markdown.text(line)}" for line in [*lines, *scores.warnings])


def _licences(networks: Sequence[tuple[str, str, str]]) -> str:
    if not networks:
        return "No pre-trained weights. The licence of the training images applies to what was learnt from them."
    rows = [
        [markdown.text(name), markdown.text(source), markdown.text(licence or "not known")]
        for name, source, licence in networks
    ]
    text = "\n\nThe licence of the training images applies, too."
    return markdown.table(["pre-trained network", "source", "licence of its weights"], rows) + text
