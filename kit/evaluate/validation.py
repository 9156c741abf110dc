"""The values of an epoch, by which the best one is chosen and training stops."""

from collections.abc import Callable, Sequence

import pandas as pd

from kit.boxes import boxes_of
from kit.decisions import CaseRule
from kit.evaluate.metrics import Metric, log_loss, monitor_of
from kit.evaluate.per_case import by_case, examples_of_cases, has_cases
from kit.tables import probabilities, truth, with_truth
from kit.tasks import find_task


def epoch_values(
    predictions: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], task: str, metric: Metric
) -> dict[str, float]:
    """`val_*` of predictions (id, and `p_*` or boxes) of some examples; among them that of `monitor_of(metric)`.

    Where images are parts of cases, those of cases, by the mean of their images.
    """
    return _VALUES[find_task(task).prediction](predictions, examples, labels, metric)


def _of_probabilities(
    predictions: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], metric: Metric
) -> dict[str, float]:
    if has_cases(examples):
        exclusive = metric.columns.exclusive
        predictions = by_case(predictions, examples, CaseRule(rule="mean"), exclusive)
        examples = examples_of_cases(examples, exclusive)
    table = with_truth(predictions, examples, labels)
    y, p, monitor = truth(table, labels), probabilities(table, labels), monitor_of(metric)
    return {"val_loss": log_loss(y, p), f"val_{monitor.name}": monitor(y, p)}


def _of_boxes(
    predictions: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], metric: Metric
) -> dict[str, float]:
    rows = examples.set_index("id").loc[predictions["id"]].reset_index()
    monitor = monitor_of(metric)
    return {f"val_{monitor.name}": monitor(boxes_of(rows, labels), boxes_of(predictions, labels))}


_VALUES: dict[str, Callable[[pd.DataFrame, pd.DataFrame, Sequence[str], Metric], dict[str, float]]] = {
    "probabilities": _of_probabilities,
    "boxes": _of_boxes,
}
