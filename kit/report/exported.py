"""What stands beside an exported model: what it takes and gives, and what 8-bit integers cost; Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

from kit.config import Config
from kit.decisions import Decision
from kit.report import markdown
from kit.report.page import number, percent
from kit.schemas import Quantised

_CHANNELS = {1: "grey", 3: "RGB"}


class About(NamedTuple):
    """An exported model: the run's settings and decision, the name of its file or folder, and what it was made from.

    `shape` is (height, width, channels) of its images, where None is any; `cost` is of 8-bit integers alone.
    """

    config: Config
    decision: Decision
    file: str
    shape: Sequence[int | None]
    folds: Sequence[int]
    cost: Quantised | None


def readme(about: About) -> str:
    """What a user of the model has to know, as Markdown."""
    height, width, channels = about.shape
    size = f"{height} × {width} pixels" if height else "any height and width, which it makes its own size"
    labels = ", ".join(map(markdown.text, about.decision.labels))
    lines = [
        f"# {markdown.text(about.config.competition_name)}: an exported model",
        f"- `{about.file}`: the mean over folds {', '.join(map(str, about.folds))}; views: {about.decision.views}; "
        f"calibration: {about.decision.calibration.kind}; `python example.py IMAGE` runs it, without kit",
        f"- takes images uint8 [batch, height, width, {channels}], {_CHANNELS[channels or 3]}, 0 to 255, of {size}",
        f"- gives probabilities float32 [batch, {len(about.decision.labels)}]: {labels}",
        "- `decision.json`: the cuts from which on a label counts as present",
    ]
    if steps := [step.name for step in about.config.image.steps]:
        lines.append(f"- not part of it, to be done before: {', '.join(steps)} (config.yaml of the run)")
    parts = ["\n".join([lines[0], "", *lines[1:]])]
    if about.cost:
        parts.append(f"## 8-bit integers\n\n{_cost(about.cost)}")
    return "\n\n".join([*parts, "Not a medical device; not for clinical use."]) + "\n"


def in_a_line(cost: Quantised) -> str:
    """What 8-bit integers cost, in a line."""
    return (
        f"{cost.metric} {number(cost.float32, 4)} -> {number(cost.int8, 4)} on {number(cost.images)} out-of-fold "
        f"images: {_signed(cost.difference)} ({percent(cost.confidence)}: {_signed(cost.low)} to "
        f"{_signed(cost.high)}); another decision on {percent(cost.other_decisions or 0, 1)}"
    )


def _cost(cost: Quantised) -> str:
    columns = ["", "float32", "int8", "difference", percent(cost.confidence)]
    limits = f"{_signed(cost.low)} to {_signed(cost.high)}"
    row = [cost.metric, number(cost.float32, 4), number(cost.int8, 4), _signed(cost.difference), limits]
    return (
        f"Measured on {number(cost.images)} out-of-fold images, each by the one fold's model that has not seen it, "
        f"quantised by images of other folds:\n\n{markdown.table(columns, [row])}\n\n"
        f"A probability changes by {number(cost.mean_change, 4)} in the mean and {number(cost.largest_change)} at "
        f"most; the decision is another on {percent(cost.other_decisions or 0, 1)} of the images."
    )


def _signed(value: float | int | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}"
