"""What out-of-fold predictions are worth: values with intervals, the spread over folds, thresholds."""

from typing import Any

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.evaluate import metrics
from kit.evaluate.bootstrap import bootstrap
from kit.evaluate.thresholds import cross_validated_f1, f1_at, max_f1_threshold

OPTIMISM = "Each fold's best epoch was chosen on these same rows, so the out-of-fold values are slightly optimistic."


def score(oof: pd.DataFrame, group: pd.Series, metric: str, settings: EvaluateSettings) -> dict[str, Any]:
    """The values for `scores.json` from out-of-fold predictions; `group` is the group of each row of `oof`."""
    y, p = oof.filter(regex="^y_").to_numpy(), oof.filter(regex="^p_").to_numpy()
    function = metrics.METRICS[metric]
    low, high = bootstrap(function, y, p, group.to_numpy(), settings.resamples, settings.confidence)
    folds = {int(k): function(y[oof["fold"] == k], p[oof["fold"] == k]) for k in sorted(oof["fold"].unique())}
    spread = np.array(list(folds.values()))
    return {
        "metric": metric,
        "rows": len(oof),
        "groups": int(group.nunique()),
        "value": function(y, p),
        "interval": {"low": low, "high": high, **settings.model_dump()},
        "folds": folds,
        "fold_mean": float(spread.mean()),
        "fold_sd": float(spread.std(ddof=1)),
        "average_precision": metrics.average_precision(y, p),
        "log_loss": metrics.log_loss(y, p),
        "note": OPTIMISM,
    }


def thresholds(oof: pd.DataFrame) -> dict[str, Any]:
    """For every label: the threshold with the largest F1 on all rows, that F1 (optimistic), and its honest estimate."""
    values = {}
    for column in oof.filter(regex="^y_").columns:
        rows = oof[oof[column].notna()]
        y, p = rows[column].to_numpy() > 0.5, rows["p" + column[1:]].to_numpy()
        cut = max_f1_threshold(y, p)
        values[column[2:]] = {
            "rule": "max_f1",
            "threshold": cut,
            "f1_on_the_rows_that_chose_it": f1_at(y, p, cut),
            "f1_cross_validated": cross_validated_f1(y, p, rows["fold"].to_numpy()),
        }
    return values


def as_text(scores: dict[str, Any], cuts: dict[str, Any]) -> str:
    """The two as lines for a person."""
    interval = scores["interval"]
    lines = [
        f"out-of-fold {scores['metric']}  {scores['value']:.4f}   {interval['confidence']:.0%} interval "
        f"{interval['low']:.4f} to {interval['high']:.4f}  ({scores['rows']} rows, {scores['groups']} groups)",
        f"by fold  {'  '.join(f'{value:.4f}' for value in scores['folds'].values())}   "
        f"mean {scores['fold_mean']:.4f}, sd {scores['fold_sd']:.4f}",
        f"average precision  {scores['average_precision']:.4f}   log loss {scores['log_loss']:.4f}",
    ]
    lines += [
        f"{label}: threshold {cut['threshold']:.4f} has F1 {cut['f1_cross_validated']:.4f} cross-validated "
        f"({cut['f1_on_the_rows_that_chose_it']:.4f} on the rows that chose it)"
        for label, cut in cuts.items()
    ]
    return "\n".join([*lines, scores["note"]])
