"""Scores of predictions, with intervals, by fold, label and subgroup: out of fold and on a labelled test set.

Predictions are tables (kit.tables) without the truth, which comes from the example table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.decisions import Decision
from kit.errors import DataError, counted
from kit.evaluate import calibration, metrics
from kit.evaluate.decision import as_scored, decisions_of, sent_probabilities
from kit.evaluate.delong import delong_interval
from kit.evaluate.ensemble import aligned
from kit.evaluate.metrics import Metric
from kit.evaluate.resample import interval, numbered, resample, share_above, statistic
from kit.evaluate.subgroups import parts_of
from kit.schemas import Comparison, Scores, defined
from kit.tables import cut, predicted_labels, probabilities, truth, truth_columns, with_truth

NESTED = "Nothing was chosen on these rows: what a fold's head is fitted with was chosen on its training rows."
OPTIMISM = "Each fold's best epoch was chosen on these same rows, so the out-of-fold values are slightly optimistic."
SCALES = (
    "The pooled value ({value:.4f}) is further from the mean of the folds ({mean:.4f}) than the folds are from each "
    "other: their models are on different scales. Trust the mean, and look at calibration."
)
_SMALL = 30  # rows of the rarer class, below which a subgroup's value means little


@dataclass(frozen=True)
class Yardstick:
    """How predictions are measured: the metric, whether labels are `exclusive` classes, and the settings.

    `means` are further means of the metric, each over some of the labels, by name. `note` says what the out-of-fold
    rows have been used for. Of test rows a metric of decisions measures those of `decision`.
    """

    metric: Metric
    exclusive: bool
    settings: EvaluateSettings
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = OPTIMISM
    decision: Decision | None = None

    def of_oof(self, rows: pd.DataFrame) -> np.ndarray:
        """What the metric measures of out-of-fold predictions with truth, [rows, labels]."""
        return as_scored(self.metric, truth(rows), probabilities(rows), rows["fold"].to_numpy())

    def of_test(self, rows: pd.DataFrame) -> np.ndarray:
        """What the metric measures of test predictions, [rows, labels]."""
        if not self.metric.decisions or self.decision is None:
            return probabilities(rows)
        return decisions_of(self.decision, probabilities(sent_probabilities(self.decision, rows)))


def score(oof: pd.DataFrame, test: pd.DataFrame, examples: pd.DataFrame, by: Yardstick) -> Scores:
    """The out-of-fold scores and, where the truth of test images is known, those of the test set.

    Raises DataError for an out-of-fold id that the example table does not have.
    """
    values = _score_oof(_with_truth(oof, examples, predicted_labels(oof)), examples, by)
    labelled = with_known_truth(test, examples)
    if len(labelled):
        values["test"] = _score_test(labelled, examples, by)
    return Scores.model_validate(defined(values))


def with_known_truth(predictions: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """The predictions (id, `p_*`) whose truth is known, of some label at least, with it from the example table."""
    columns = truth_columns(predicted_labels(predictions))
    joined = predictions.merge(examples[["id", *columns]], on="id", validate="one_to_one")
    joined[columns] = cut(joined[columns].to_numpy())
    return joined[joined[columns].notna().any(axis=1)].reset_index(drop=True)


def compare_runs(
    runs: Mapping[str, pd.DataFrame], examples: pd.DataFrame, metric: Metric, settings: EvaluateSettings
) -> list[Comparison]:
    """Each run's out-of-fold predictions against the first's, paired: on the same resamples of groups.

    `difference` is the value minus the first's, `better` the share of resamples in which the run is the better one.
    Raises DataError when the runs' ids or labels differ, or the example table lacks one.
    """
    first, members = aligned({name: table.drop(columns="fold") for name, table in runs.items()}, "training")
    y = truth(_with_truth(first, examples, predicted_labels(next(iter(runs.values())))))
    group_of, count = numbered(_groups(first, examples).to_numpy())
    folds = [table.sort_values("id")["fold"].to_numpy() for table in runs.values()]
    measured = [as_scored(metric, y, p, fold) for p, fold in zip(members, folds, strict=True)]
    values = resample([statistic(metric, y, p, group_of) for p in measured], count, settings.resamples)[:, :, 0]
    value = [metric(y, p) for p in measured]
    lines = []
    for n, name in enumerate(runs):
        low, high = interval(values[:, n] - values[:, 0], settings.confidence)
        better = share_above(metric.gain(values[:, n], values[:, 0]))
        line = {"run": name, "value": value[n], "difference": value[n] - value[0]}
        lines.append(Comparison.model_validate(defined({**line, "low": low, "high": high, "better": better})))
    return lines


def subgroups(
    rows: pd.DataFrame, p: np.ndarray, examples: pd.DataFrame, metric: Metric, columns: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The metric of `p` in each part of the rows by a column of the example table: column, part, rows, value, small.

    Ages are cut into bands. `small`: no label has 30 rows of its rarer class in that part.
    """
    y, parts = truth(rows), list[dict[str, Any]]()
    for column, part, inside in parts_of(examples.set_index("id").loc[rows["id"]], columns):
        positives = np.nansum(y[inside], axis=0)
        rarer = np.minimum(positives, (~np.isnan(y[inside])).sum(axis=0) - positives)
        small, value = bool(rarer.max() < _SMALL), metric(y[inside], p[inside])
        parts.append({"column": column, "part": part, "rows": len(inside), "value": value, "small": small})
    return parts


def _score_oof(oof: pd.DataFrame, examples: pd.DataFrame, by: Yardstick) -> dict[str, Any]:
    labels, y, p, measured = predicted_labels(oof), truth(oof), probabilities(oof), by.of_oof(oof)
    rows_of = {int(k): (oof["fold"] == k).to_numpy() for k in sorted(oof["fold"].unique())}
    folds = {k: by.metric(y[rows], measured[rows]) for k, rows in rows_of.items()}
    defined = np.array([value for value in folds.values() if not np.isnan(value)])
    mean = float(defined.mean()) if len(defined) else float("nan")
    deviation = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    scores = _score_rows(oof, measured, examples, by)
    apart = abs(scores["value"] - mean) > deviation
    return {
        **scores,
        "folds": folds,
        "fold_mean": mean,
        "fold_sd": deviation,
        "fold_metrics": {
            k: metrics.report(y[rows], p[rows], by.exclusive, labels)["average"] for k, rows in rows_of.items()
        },
        "calibration": _calibration(y, p, oof["fold"].to_numpy(), by.exclusive, labels),
        "warnings": [SCALES.format(value=scores["value"], mean=mean)] if apart else [],
        "note": by.note,
    }


def _score_test(test: pd.DataFrame, examples: pd.DataFrame, by: Yardstick) -> dict[str, Any]:
    """The scores of a labelled test set, on which nothing was chosen.

    Where it shares groups with the training images, also the value without them.
    """
    measured = by.of_test(test)
    scores = _score_rows(test, measured, examples, by)
    group = _groups(test, examples)
    shared = group.isin(set(examples["group"][examples["split"] == "train"])).to_numpy()
    scores["groups_also_in_training"] = int(group[shared].nunique())
    if shared.any():
        scores["value_without_them"] = by.metric(truth(test)[~shared], measured[~shared])
    return scores


def _score_rows(rows: pd.DataFrame, measured: np.ndarray, examples: pd.DataFrame, by: Yardstick) -> dict[str, Any]:
    """The scores of any rows with truth and probabilities; the metric is that of `measured` [rows, labels]."""
    metric, settings = by.metric, by.settings
    labels, y, p = predicted_labels(rows), truth(rows), probabilities(rows)
    group_of, count = numbered(_groups(rows, examples).to_numpy())
    values = resample([statistic(metric, y, measured, group_of)], count, settings.resamples)[:, 0]
    limits = [interval(column, settings.confidence) for column in values.T]
    low, high = limits[0]
    scores = {
        "metric": metric.name,
        "rows": len(rows),
        "groups": count,
        "value": metric(y, measured),
        "interval": {
            "low": low,
            "high": high,
            "resamples": settings.resamples,
            "confidence": settings.confidence,
        },
    }
    if metric.name == "roc_auc" and len(labels) == 1 and count == len(rows):  # rows are independent
        labelled = ~np.isnan(y[:, 0])
        ends = delong_interval(y[labelled, 0] > 0.5, p[labelled, 0], settings.confidence)
        scores["delong"] = dict(zip(("low", "high"), ends, strict=True))
    scores["labels"] = {
        label: {
            "value": metric.only([n])(y[:, [n]], measured[:, [n]]),
            "low": limits[n + 1][0],
            "high": limits[n + 1][1],
        }
        for n, label in enumerate(labels)
    }
    if by.means:
        places = {name: [labels.index(label) for label in subset] for name, subset in by.means.items()}
        scores["means"] = {
            name: metric.only(columns)(y[:, columns], measured[:, columns]) for name, columns in places.items()
        }
    return {
        **scores,
        "accuracy": metrics.accuracy(y, p, by.exclusive),
        "metrics": metrics.report(y, p, by.exclusive, labels),
        "subgroups": subgroups(rows, measured, examples, metric, settings.subgroups),
    }


def _calibration(y: np.ndarray, p: np.ndarray, fold: np.ndarray, exclusive: bool, labels: list[str]) -> dict[str, Any]:
    """Calibration error without and with each calibrator, fitted for each fold on the others."""

    def deviation(p: np.ndarray) -> dict[str, float]:
        error = calibration.calibration_error(y, p)
        return {"error": error, "log_loss": metrics.log_loss(y, p), "brier": metrics.brier(y, p)}

    kinds = calibration.KINDS if len(np.unique(fold)) > 1 else ("none",)
    return {
        "cross_fitted": {kind: deviation(calibration.cross_fitted(kind, y, p, fold, exclusive)) for kind in kinds},
        "reliability": {
            label: calibration.reliability(y[:, n], p[:, n]).to_dict("list") for n, label in enumerate(labels)
        },
    }


def _groups(rows: pd.DataFrame, examples: pd.DataFrame) -> pd.Series:
    return rows["id"].map(examples.set_index("id")["group"])


def _with_truth(predictions: pd.DataFrame, examples: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    missing = predictions["id"][~predictions["id"].isin(examples["id"])]
    if len(missing):
        images = counted(len(missing), "predicted image is", "predicted images are")
        raise DataError(
            f"{images} not in the example table, such as {missing.iloc[0]}: "
            "predict with the examples that the run was trained on"
        )
    return with_truth(predictions, examples, labels)
