"""What predictions are worth: values with intervals, by fold and by label, out of fold and on a labelled test set."""

from typing import Any

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.evaluate import metrics
from kit.evaluate.bootstrap import bootstrap
from kit.evaluate.thresholds import cross_validated_f1, f1_at, max_f1_threshold

OPTIMISM = "Each fold's best epoch was chosen on these same rows, so the out-of-fold values are slightly optimistic."


def score(oof: pd.DataFrame, known: pd.DataFrame, metric: str, task: str, settings: EvaluateSettings) -> dict[str, Any]:
    """The values for `scores.json` from out-of-fold predictions; `known` is the example table (id, group).

    A value that is not defined (a label with one class only) is None.
    """
    function = metrics.METRICS[metric]
    y, p = _arrays(oof)
    folds = {int(k): function(y[oof["fold"] == k], p[oof["fold"] == k]) for k in sorted(oof["fold"].unique())}
    spread = np.array(list(folds.values()))
    return _defined(
        {
            **_valued(oof, known, metric, task, settings),
            "folds": folds,
            "fold_mean": float(spread.mean()),
            "fold_sd": float(spread.std(ddof=1)) if len(spread) > 1 else None,
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
    cuts: dict[str, Any] = _defined(values)
    return cuts


def as_text(scores: dict[str, Any], cuts: dict[str, Any]) -> str:
    """The two as lines for a person."""
    lines = [
        _headline("out-of-fold", scores),
        f"by fold  {'  '.join(map(_shown, scores['folds'].values()))}   "
        f"mean {_shown(scores['fold_mean'])}, sd {_shown(scores['fold_sd'])}",
        _others(scores),
    ]
    if "test" in scores:
        lines += [_headline("test", scores["test"]), _others(scores["test"])]
        if shared := scores["test"]["groups_also_in_training"]:
            value = _shown(scores["test"]["value_without_them"])
            lines.append(f"{shared} groups of the test images are in training too; without them {value}")
    width = max(map(len, cuts))
    for label, cut in cuts.items():
        honest, optimistic = cut["f1_cross_validated"], cut["f1_on_the_rows_that_chose_it"]
        value = _shown(scores["labels"][label])
        lines.append(
            f"{label:{width}}  {scores['metric']} {value}   threshold {cut['threshold']:.4f} has "
            f"F1 {_shown(honest)} cross-validated ({optimistic:.4f} on the rows that chose it)"
        )
    return "\n".join([*lines, scores["note"]])


def _valued(
    rows: pd.DataFrame, known: pd.DataFrame, metric: str, task: str, settings: EvaluateSettings
) -> dict[str, Any]:
    y, p = _arrays(rows)
    group, function = _groups(rows, known), metrics.METRICS[metric]
    low, high = bootstrap(function, y, p, group.to_numpy(), settings.resamples, settings.confidence)
    labels = [column[2:] for column in rows.columns if column.startswith("y_")]
    return {
        "metric": metric,
        "rows": len(rows),
        "groups": int(group.nunique()),
        "value": function(y, p),
        "interval": {"low": low, "high": high, **settings.model_dump()},
        "labels": {label: function(y[:, [n]], p[:, [n]]) for n, label in enumerate(labels)},
        "accuracy": metrics.accuracy(y, p, task),
        "average_precision": metrics.average_precision(y, p),
        "log_loss": metrics.log_loss(y, p),
    }


def _arrays(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, each [rows, labels]."""
    return rows.filter(regex="^y_").to_numpy(), rows.filter(regex="^p_").to_numpy()


def _groups(rows: pd.DataFrame, known: pd.DataFrame) -> pd.Series:
    return rows["id"].map(known.set_index("id")["group"])


def _headline(name: str, scores: dict[str, Any]) -> str:
    interval = scores["interval"]
    return (
        f"{name} {scores['metric']}  {_shown(scores['value'])}   {interval['confidence']:.0%} interval "
        f"{_shown(interval['low'])} to {_shown(interval['high'])}  ({scores['rows']} rows, {scores['groups']} groups)"
    )


def _others(scores: dict[str, Any]) -> str:
    return (
        f"accuracy {scores['accuracy']:.4f} (at .5, or the likeliest class)   "
        f"average precision {_shown(scores['average_precision'])}   log loss {scores['log_loss']:.4f}"
    )


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _defined(values: Any) -> Any:
    """The same, with None for NaN, which JSON does not know."""
    if isinstance(values, dict):
        return {key: _defined(value) for key, value in values.items()}
    return None if isinstance(values, float) and np.isnan(values) else values
