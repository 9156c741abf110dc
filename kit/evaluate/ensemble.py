"""Which blend of several runs is best, estimated honestly: fitted on all folds but one, applied to that one.

Two biases remain. The members' predictions that a blend is fitted on come from models that were trained on the held-out
fold too. And the blend is chosen on the same rows as its nested value: the choice corrects for the number of blends
compared (Bonferroni), but the value of the chosen one is still slightly optimistic.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from tqdm import tqdm

from kit.errors import DataError, some
from kit.evaluate import blend
from kit.evaluate.blend import Blend, Rows
from kit.evaluate.decision import as_scored
from kit.evaluate.resample import interval, numbered, resample, share_above, statistic
from kit.tables import predicted_labels, probabilities, probability_columns, truth_columns


def aligned(runs: Mapping[str, pd.DataFrame], what: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The first table without its probabilities, sorted by id, and all tables': float64 [members, rows, labels].

    Raises DataError, naming the run, where one has other ids, labels or folds than the first: a blend of such runs
    would be fitted on rows that some member's model has seen. `what` names the images in the message.
    """
    names = list(runs)
    first = runs[names[0]].sort_values("id", ignore_index=True)
    labels = predicted_labels(first)
    members = []
    for name in names:
        table = runs[name].sort_values("id", ignore_index=True)
        if {*predicted_labels(table)} != {*labels}:
            raise DataError(f"{name} predicts other labels than {names[0]}: {some(predicted_labels(table))}")
        if len(table) != len(first) or (table["id"] != first["id"]).any():
            alone = set(table["id"]) ^ set(first["id"])
            raise DataError(
                f"{name} and {names[0]} have different {what} images: {len(alone)} are in only one of them, such as "
                f"{some(alone)}. Train both on the same records"
            )
        if "fold" in first and (table["fold"] != first["fold"]).any():
            bad = table["id"][table["fold"] != first["fold"]]
            raise DataError(
                f"{name} and {names[0]} have different folds: {len(bad)} images, such as {bad.iloc[0]}, are in another "
                "one. Train both with the same folds and fold_seed"
            )
        members.append(probabilities(table, labels).astype(np.float64))
    return first.drop(columns=probability_columns(labels)), np.stack(members)


def require_same_truth(examples: Mapping[str, pd.DataFrame], ids: pd.Series, labels: list[str]) -> None:
    """Raise DataError, naming run and image, where a run's example table disagrees with the first's on these labels."""
    names = list(examples)
    tables = [examples[name].set_index("id").loc[ids, truth_columns(labels)] for name in names]
    for name, table in zip(names[1:], tables[1:], strict=True):
        if not table.equals(tables[0]):
            differs = ~((table == tables[0]) | (table.isna() & tables[0].isna())).all(axis=1)
            raise DataError(f"{name} and {names[0]} have different labels, such as those of {table.index[differs][0]}")


def nested(name: str, rows: Rows, fold: np.ndarray) -> np.ndarray:
    """The blend's predictions [N, L], those of each fold by a blend fitted on the other folds."""
    p = np.empty(rows.y.shape)
    for k in np.unique(fold):
        inside = fold == k
        held = rows.where(inside)
        p[inside] = blend.fit(name, rows.where(~inside)).apply(held.members, held.metadata)
    return p


def compare_blends(
    names: list[str], rows: Rows, fold: np.ndarray, groups: np.ndarray, resamples: int, confidence: float
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """A row for each blend, and each one's nested predictions [N, L].

    Columns: `nested` (value, with `low` and `high`), `optimistic` (fitted on the very rows it is scored on), `gain`
    (over the nested value of the plain mean, positive when better, with `gain_low` and `gain_high` from the same
    resamples), `better` (the share of resamples with a gain) and `sure` (whether the gain's interval, widened for the
    number of comparisons, lies above 0). Raises DataError for a single fold.
    """
    if len(np.unique(fold)) < 2:
        raise DataError("an ensemble needs at least two folds: one to fit on and one to score")
    names = list(dict.fromkeys(["mean", *names]))
    group_of, count = numbered(groups)
    bar = tqdm(names, desc="blends", leave=False, disable=None)
    predictions = {name: nested(name, rows, fold) for name in bar}
    measured = {name: as_scored(rows.metric, rows.y, p, fold) for name, p in predictions.items()}
    statistics = [statistic(rows.metric, rows.y, measured[name], group_of) for name in names]
    values = resample(statistics, count, resamples)[:, :, 0]
    table = []
    for n, name in enumerate(names):
        gains = rows.metric.gain(values[:, n], values[:, 0])
        value, plain = (rows.metric(rows.y, measured[which]) for which in (name, "mean"))
        fitted = as_scored(rows.metric, rows.y, blend.fit(name, rows).apply(rows.members, rows.metadata), fold)
        low, high = interval(values[:, n], confidence)
        gain_low, gain_high = interval(gains, confidence)
        sure_low, _ = interval(gains, 1 - (1 - confidence) / max(1, len(names) - 1))
        table.append(
            {
                "blend": name,
                "nested": value,
                "low": low,
                "high": high,
                "optimistic": rows.metric(rows.y, fitted),
                "gain": rows.metric.gain(value, plain),
                "gain_low": gain_low,
                "gain_high": gain_high,
                "better": share_above(gains),
                "sure": bool(sure_low > 0),
            }
        )
    return pd.DataFrame(table).set_index("blend"), predictions


def choose_blend(table: pd.DataFrame) -> str:
    """The blend with the largest gain among those that are surely better, else the plain mean."""
    better = table[table["sure"] & (table.index != "mean")]
    return str(better["gain"].idxmax()) if len(better) else "mean"


def correlations(members: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Spearman's correlation of each pair of members, averaged over the labels."""
    ranked = blend.ranks(members)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.array([np.atleast_2d(np.corrcoef(ranked[:, :, n])) for n in range(members.shape[2])])
    return pd.DataFrame(np.nanmean(each, axis=0), names, names)


def weights_of(fitted: Blend, names: list[str]) -> dict[str, float] | None:
    """Each member's weight, or None where the blend has no weights."""
    return None if fitted.weights is None else dict(zip(names, map(float, fitted.weights), strict=True))
