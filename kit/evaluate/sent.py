"""What a decision makes of raw predictions: what is sent, or shown. One entry per kind of prediction."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kit.boxes import boxes_of, one_row_each, with_boxes
from kit.decisions import AnyDecision, BoxDecision, Decision
from kit.evaluate.boxes.decision import apply
from kit.evaluate.boxes.score import gate_of
from kit.evaluate.decision import sent_probabilities, submitted_probabilities, with_label_decisions
from kit.tables import DECISION


def sent(decision: AnyDecision, predictions: pd.DataFrame, fused: bool = False) -> pd.DataFrame:
    """Raw predictions (id, and `p_*` or boxes) as they are sent: calibrated, or cut, shrunk and weighed.

    `fused`: they are those of several folds' models together, not each of one model.
    """
    table: pd.DataFrame = _KINDS[type(decision)].sent(decision, predictions, fused)
    return table


def submitted(decision: AnyDecision, predictions: pd.DataFrame, fused: bool = False) -> pd.DataFrame:
    """Raw predictions as a submission has them: `sent`, or 0 and 1 where the metric takes decisions."""
    table: pd.DataFrame = _KINDS[type(decision)].submitted(decision, predictions, fused)
    return table


def with_decisions(decision: AnyDecision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Sent predictions with a further column, `decision`: the label or labels decided on.

    Of boxes: the labels that any box has, joined by `|`; where there is none, `none`, or `not LABEL` of a single label.
    """
    table: pd.DataFrame = _KINDS[type(decision)].decided(decision, predictions)
    return table


def in_cells(decision: AnyDecision, table: pd.DataFrame) -> pd.DataFrame:
    """Sent predictions as a table of numbers and texts alone, for a CSV file: of boxes a row for each."""
    rows: pd.DataFrame = _KINDS[type(decision)].in_cells(table)
    return rows


def _sent_boxes(decision: BoxDecision, predictions: pd.DataFrame, fused: bool) -> pd.DataFrame:
    boxes = apply(decision, boxes_of(predictions, decision.labels), gate_of(predictions, decision.labels), fused)
    return with_boxes(predictions, boxes, decision.labels)


def _with_box_decisions(decision: BoxDecision, predictions: pd.DataFrame) -> pd.DataFrame:
    labels, present = decision.labels, boxes_of(predictions, decision.labels).best(len(decision.labels)) > 0
    nothing = "none" if len(labels) > 1 else f"not {labels[0]}"
    names = ["|".join(np.array(labels)[row]) or nothing for row in present]
    return predictions.assign(**{DECISION: pd.Series(names, predictions.index, dtype=object)})


class _Kind(NamedTuple):
    sent: Callable[[Any, pd.DataFrame, bool], pd.DataFrame]
    submitted: Callable[[Any, pd.DataFrame, bool], pd.DataFrame]
    decided: Callable[[Any, pd.DataFrame], pd.DataFrame]
    in_cells: Callable[[pd.DataFrame], pd.DataFrame]


_KINDS: dict[type, _Kind] = {
    Decision: _Kind(
        lambda decision, predictions, fused: sent_probabilities(decision, predictions),
        lambda decision, predictions, fused: submitted_probabilities(decision, predictions),
        with_label_decisions,
        lambda table: table,
    ),
    BoxDecision: _Kind(_sent_boxes, _sent_boxes, _with_box_decisions, one_row_each),
}
