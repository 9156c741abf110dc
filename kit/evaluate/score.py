"""What predictions are worth: values with intervals, by fold, label and subgroup; out of fold and in a test."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.errors import DataError
from kit.evaluate import calibration, metrics
from kit.evaluate.delong import delong_interval
from kit.evaluate.ensemble import aligned
from kit.evaluate.resample import interval, numbered, resample, share_above, statistic
from kit.evaluate.thresholds import (
    all_cuts,
    best_threshold,
    class_weights,
    cross_validated,
    cross_validated_classes,
    decided,
)

OPTIMISM = "Each fold's best epoch was chosen on these same rows, so the out-of-fold values are slightly optimistic."
SCALES = (
    "The pooled value ({value:.4f}) lies further from the mean of the folds ({mean:.4f}) than they from each other: "
    "the folds' models are on different scales. Believe the mean, and look at calibration."
)
_AGES = (0, 18, 40, 60, 80, 200)  # years, where bands begin
_SMALL = 30  # rows of the rarer class, below which a subgroup's value says little


def score(oof: pd.DataFrame, known: pd.DataFrame, metric: str, task: str, settings: EvaluateSettings) -> dict[str, Any]:
    """The values for `scores.json` from out-of-fold predictions; `known` is the example table (id, group, metadata).

    A value that is not defined (a label with one class only) is None.
    """
    function, labels = metrics.METRICS[metric], _labels(oof)
    y, p = _arrays(oof)
    rows_of = {int(k): (oof["fold"] == k).to_numpy() for k in sorted(oof["fold"].unique())}
    folds = {k: function(y[rows], p[rows]) for k, rows in rows_of.items()}
    spread = np.array([value for value in folds.values() if not np.isnan(value)])
    mean = float(spread.mean()) if len(spread) else float("nan")
    deviation = float(spread.std(ddof=1)) if len(spread) > 1 else float("nan")
    scores = _valued(oof, known, metric, task, settings)
    return _defined(
        {
            **scores,
            "folds": folds,
            "fold_mean": mean,
            "fold_sd": deviation,
            "fold_metrics": {
                k: metrics.report(y[rows], p[rows], task, labels)["average"] for k, rows in rows_of.items()
            },
            "calibration": _calibration(y, p, oof["fold"].to_numpy(), task, labels),
            "warnings": [SCALES.format(value=scores["value"], mean=mean)]
            if abs(scores["value"] - mean) > deviation
            else [],
            "note": OPTIMISM,
        }
    )


def score_all(
    oof: pd.DataFrame, test: pd.DataFrame, known: pd.DataFrame, metric: str, task: str, settings: EvaluateSettings
) -> dict[str, Any]:
    """`score`, and under `test` what `score_test` says of the test predictions whose label is known, if any is."""
    scores, labelled = score(oof, known, metric, task, settings), with_known_labels(test, known)
    return scores | ({"test": score_test(labelled, known, metric, task, settings)} if len(labelled) else {})


def score_test(
    test: pd.DataFrame, known: pd.DataFrame, metric: str, task: str, settings: EvaluateSettings
) -> dict[str, Any]:
    """The values for `scores.json` of a test set with labels (`with_known_labels`), which nothing was chosen on.

    Where it shares groups with the training images, also the value without them.
    """
    scores = _valued(test, known, metric, task, settings)
    group = _groups(test, known)
    shared = group.isin(set(known["group"][known["split"] == "train"])).to_numpy()
    scores["groups_also_in_training"] = int(group[shared].nunique())
    if shared.any():
        scores["value_without_them"] = metrics.METRICS[metric](*_arrays(test[~shared]))
    return _defined(scores)


def with_known_labels(predictions: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The predictions (id, `p_*`) of examples that have a label, with the columns `y_*` of the example table."""
    labels = [column for column in known.columns if column.startswith("y_")]
    joined = predictions.merge(known[["id", *labels]], on="id", validate="one_to_one")
    return joined[joined[labels].notna().any(axis=1)].reset_index(drop=True)


def compare(
    runs: Mapping[str, pd.DataFrame], known: pd.DataFrame, metric: str, sign: int, settings: EvaluateSettings
) -> list[dict[str, Any]]:
    """Each run's out-of-fold predictions against the first's, paired: the same resamples of groups for both.

    `difference` is the value minus the first's, `better` the share of resamples in which the run is the better one
    (`sign` 1: larger is better). Raises DataError when ids or labels differ.
    """
    first, members = aligned({name: table.drop(columns="fold") for name, table in runs.items()}, "training")
    y = first.filter(regex="^y_").to_numpy()
    group_of, count = numbered(_groups(first, known).to_numpy())
    values = resample([statistic(metric, y, p, group_of) for p in members], count, settings.resamples)[:, :, 0]
    value = [metrics.METRICS[metric](y, p) for p in members]
    lines = []
    for n, name in enumerate(runs):
        low, high = interval(values[:, n] - values[:, 0], settings.confidence)
        better = share_above(sign * (values[:, n] - values[:, 0]))
        line = {"run": name, "value": value[n], "difference": value[n] - value[0]}
        lines.append(_defined({**line, "low": low, "high": high, "better": better}))
    return lines


def thresholds(oof: pd.DataFrame, task: str, rule: str) -> dict[str, Any]:
    """For every label: the rule's threshold on all rows, what it is worth there (optimistic), and cross-validated.

    Of classes also, under `classes`, the factors that make argmax most balanced, with the same two estimates.
    """
    values: dict[str, Any] = {}
    for label in _labels(oof):
        rows = oof[oof[f"y_{label}"].notna()]
        y, p = rows[f"y_{label}"].to_numpy() > 0.5, rows[f"p_{label}"].to_numpy()
        if not len(y):
            continue
        both = y.any() and not y.all()
        cut = best_threshold(all_cuts(y, p), rule) if both else float("nan")
        values[label] = {
            "rule": rule,
            "threshold": cut,
            "on_the_rows_that_chose_it": decided(y, p >= cut),
            "cross_validated": cross_validated(y, p, rows["fold"].to_numpy(), rule),
        }
    found: dict[str, Any] = {"labels": values}
    if task == "multiclass":
        found["classes"] = _class_factors(oof)
    cuts: dict[str, Any] = _defined(found)
    return cuts


def subgroups(rows: pd.DataFrame, known: pd.DataFrame, metric: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The metric in each part of the rows by a column of the example table: column, part, rows, value, small.

    Ages are cut into bands. `small`: fewer than 30 rows of the rarer class of the commonest label.
    """
    y, p = _arrays(rows)
    parts = []
    for column in columns:
        if column not in known.columns:
            continue
        given = rows["id"].map(known.set_index("id")[column])
        if column == "age":
            bands = [f"{low} to {high - 1}" for low, high in pairwise(_AGES[:-1])]
            given = pd.cut(pd.to_numeric(given), _AGES, right=False, labels=[*bands, f"{_AGES[-2]} and above"])
        for part in given.dropna().drop_duplicates().sort_values():
            inside = (given == part).to_numpy()
            positives = np.nansum(y[inside], axis=0)
            rarer = np.minimum(positives, (~np.isnan(y[inside])).sum(axis=0) - positives)
            parts.append(
                {
                    "column": column,
                    "part": str(part),
                    "rows": int(inside.sum()),
                    "value": metrics.METRICS[metric](y[inside], p[inside]),
                    "small": bool(rarer.max() < _SMALL),
                }
            )
    return parts


def _valued(
    rows: pd.DataFrame, known: pd.DataFrame, metric: str, task: str, settings: EvaluateSettings
) -> dict[str, Any]:
    y, p = _arrays(rows)
    labels, groups = _labels(rows), _groups(rows, known)
    group_of, count = numbered(groups.to_numpy())
    values = resample([statistic(metric, y, p, group_of)], count, settings.resamples)[:, 0]
    limits = [interval(column, settings.confidence) for column in values.T]
    (low, high), function = limits[0], metrics.METRICS[metric]
    resampled = {"resamples": settings.resamples, "confidence": settings.confidence}
    check = {}
    if metric == "roc_auc" and len(labels) == 1 and count == len(rows):  # rows are independent
        whole = ~np.isnan(y[:, 0])
        pair = delong_interval(y[whole, 0] > 0.5, p[whole, 0], settings.confidence)
        check = {"delong": dict(zip(("low", "high"), pair, strict=True))}
    return {
        "metric": metric,
        "rows": len(rows),
        "groups": count,
        "value": function(y, p),
        "interval": {"low": low, "high": high, **resampled},
        **check,
        "labels": {
            label: {"value": function(y[:, [n]], p[:, [n]]), "low": limits[n + 1][0], "high": limits[n + 1][1]}
            for n, label in enumerate(labels)
        },
        "accuracy": metrics.accuracy(y, p, task),
        "metrics": metrics.report(y, p, task, labels),
        "subgroups": subgroups(rows, known, metric, settings.subgroups),
    }


def _calibration(y: np.ndarray, p: np.ndarray, fold: np.ndarray, task: str, labels: list[str]) -> dict[str, Any]:
    """Calibration error as it is, and after each calibrator, each fold's fitted on the others."""

    def told(given: np.ndarray) -> dict[str, float]:
        error = calibration.calibration_error(y, given)
        return {"error": error, "log_loss": metrics.log_loss(y, given), "brier": metrics.brier(y, given)}

    kinds = calibration.KINDS if len(np.unique(fold)) > 1 else ("none",)
    return {
        "cross_fitted": {kind: told(calibration.cross_fitted(kind, y, p, fold, task)) for kind in kinds},
        "reliability": {
            label: calibration.reliability(y[:, n], p[:, n]).to_dict("list") for n, label in enumerate(labels)
        },
    }


def _class_factors(oof: pd.DataFrame) -> dict[str, Any]:
    y, p = _arrays(oof)
    whole = ~np.isnan(y).any(axis=1)
    y, p, fold = y[whole], p[whole].astype(np.float64), oof["fold"].to_numpy()[whole]
    truth = y.argmax(axis=1)

    def balanced(called: np.ndarray) -> float:
        return float(np.mean([(called[truth == c] == c).mean() for c in np.unique(truth)]))

    if any(len(np.unique(truth[fold != k])) < y.shape[1] for k in np.unique(fold)):
        return {"balanced_accuracy_of_argmax": balanced(p.argmax(axis=1))}  # a class is missing: nothing to weigh
    factors = class_weights(y, p)
    return {
        "factors": dict(zip(_labels(oof), map(float, factors), strict=True)),
        "balanced_accuracy_of_argmax": balanced(p.argmax(axis=1)),
        "balanced_accuracy_on_the_rows_that_chose_them": balanced((p * factors).argmax(axis=1)),
        "balanced_accuracy_cross_validated": balanced(cross_validated_classes(y, p, fold)),
    }


def _labels(rows: pd.DataFrame) -> list[str]:
    return [column[2:] for column in rows.columns if column.startswith("y_")]


def _arrays(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, each [rows, labels]."""
    return rows.filter(regex="^y_").to_numpy(), rows.filter(regex="^p_").to_numpy()


def _groups(rows: pd.DataFrame, known: pd.DataFrame) -> pd.Series:
    groups = rows["id"].map(known.set_index("id")["group"])
    if groups.isna().any():
        raise DataError(f"the example table does not know {rows['id'][groups.isna()].iloc[0]}")
    return groups


def _defined(values: Any) -> Any:
    """The same, with None for NaN, which JSON does not know."""
    if isinstance(values, dict):
        return {key: _defined(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_defined(value) for value in values]
    return None if isinstance(values, float) and np.isnan(values) else values
