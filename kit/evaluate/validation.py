"""The values of an epoch, by which the best one is chosen and training stops."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from kit.boxes import boxes_of
from kit.evaluate.metrics import Metric, find_metric, log_loss
from kit.tables import probabilities, truth, with_truth
from kit.tasks import find_task


def epoch_values(
    predictions: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], task: str, metric: Metric
) -> dict[str, float]:
    """`val_*` of predictions (id, and `p_*` or boxes) of some examples; among them that of `monitor_of(metric)`."""
    return _VALUES[find_task(task).prediction](predictions, examples, labels, metric)


def monitor_of(metric: Metric) -> Metric:
    """The metric that epochs are chosen by: the metric itself, or another where it needs a decision first."""
    return replace(find_metric(metric.monitor), columns=metric.columns) if metric.monitor else metric


def _of_probabilities(
    predictions: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], metric: Metric
) -> dict[str, float]:
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
