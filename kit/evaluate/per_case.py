"""Several images of one case (views, sides): a rule makes one prediction of theirs, and the case is what is scored.

Tables of cases look as those of images do, with the name of the case as `id`. Which rule is best is tuned on
predictions out of fold; what is reported of it is nested: a fold's cases by the rule that the other folds choose.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from kit.decisions import CaseRule
from kit.errors import ConfigError, nearest
from kit.evaluate.calibration import logit, normalised, sigmoid
from kit.evaluate.metrics import Metric, monitor_of
from kit.schemas import Number
from kit.tables import (
    CASE,
    labels_of,
    predicted_labels,
    probabilities,
    probability_columns,
    truth,
    truth_columns,
    with_probabilities,
)

# Probabilities float64 [rows, labels], and where each group of them begins (int [groups]) -> float64 [groups, labels].
Reduce = Callable[[np.ndarray, np.ndarray], np.ndarray]


def has_cases(examples: pd.DataFrame) -> bool:
    """Whether the images of an example table are parts of cases."""
    return CASE in examples.columns


def examples_of_cases(examples: pd.DataFrame, exclusive: bool) -> pd.DataFrame:
    """An example table with a row for each case; other columns are those of its first image.

    A label is there where any image of the case has it, absent where none has, and else unknown. Of exclusive classes
    all images have the same.
    """
    columns = truth_columns(labels_of(examples))
    ordered = examples.sort_values([CASE, "id"], kind="stable")
    first = ordered.drop_duplicates(CASE).reset_index(drop=True)
    y, starts = truth(ordered).astype(np.float64), _starts(ordered[CASE])
    largest = np.maximum.reduceat(np.nan_to_num(y, nan=-1.0), starts) if len(y) else y
    unknown = np.maximum.reduceat(np.isnan(y).astype(int), starts) > 0 if len(y) else y > 0
    hidden = largest < 0 if exclusive else unknown & (largest < 1)
    first[columns] = np.where(hidden, np.nan, largest).astype(np.float32)
    return first.assign(id=first[CASE])


def by_case(predictions: pd.DataFrame, examples: pd.DataFrame, rule: CaseRule, exclusive: bool) -> pd.DataFrame:
    """Predictions of images (id, `p_*`) as predictions of their cases; other columns are those of the first image.

    Raises ConfigError where the example table has no column `rule.part`.
    """
    known = examples.set_index("id")
    part = _parts(known, rule.part).reindex(predictions["id"]).to_numpy()
    ids = predictions["id"].to_numpy()
    keys = pd.DataFrame({CASE: known[CASE].reindex(ids).to_numpy(), "part": part, "id": ids})
    keys = keys.sort_values([CASE, "part", "id"], kind="stable")
    table, keys = predictions.iloc[keys.index].reset_index(drop=True), keys.drop(columns="id").reset_index(drop=True)
    labels = predicted_labels(table)
    p = probabilities(table, labels).astype(np.float64)
    cases = keys[CASE]
    if rule.part is not None and len(p):
        p = _RULES["mean"](p, _starts(keys[CASE].str.cat(keys["part"], sep="\0")))
        cases = keys.drop_duplicates()[CASE].reset_index(drop=True)
    p = _RULES[rule.rule](p, _starts(cases)) if len(p) else p
    first = table.assign(id=keys[CASE]).drop_duplicates("id").reset_index(drop=True)
    p = normalised(p, exclusive) if exclusive and len(p) else p
    return first.assign(**dict(zip(probability_columns(labels), p.T.astype(np.float32), strict=True)))


def choose_rule(
    oof: pd.DataFrame, examples: pd.DataFrame, metric: Metric, how: str, part: str | None
) -> tuple[CaseRule, pd.DataFrame]:
    """The rule that `how` names, or (`tuned`) that is best out of fold; and the predictions of the cases, nested.

    What is best is told by the metric that chooses epochs. Of several that are equal it is the first of `RULES`, and
    of a single fold the mean.
    """
    exclusive = metric.columns.exclusive
    known = examples_of_cases(examples[examples["id"].isin(oof["id"])], exclusive).set_index("id")
    tables = {
        name: by_case(oof, examples, CaseRule(rule=name, part=part), exclusive)
        for name in (RULES if how == "tuned" else (how,))
    }
    first = next(iter(tables.values()))
    y, fold = truth(known.loc[first["id"]].reset_index(), metric.columns.labels), first["fold"].to_numpy()
    monitor = monitor_of(metric)
    values = {name: monitor(y, probabilities(table, metric.columns.labels)) for name, table in tables.items()}
    if len(tables) == 1 or len(np.unique(fold)) < 2:
        return CaseRule(rule=next(iter(tables)), part=part), first
    p = {name: probabilities(table).astype(np.float64) for name, table in tables.items()}
    choices = {
        k: _best({name: monitor(y[fold != k], each[fold != k]) for name, each in p.items()}, monitor)
        for k in np.unique(fold)
    }
    common, q = max(RULES, key=[*choices.values()].count), np.empty(y.shape)
    for k, name in choices.items():
        held, others = fold == k, fold != k
        q[held] = p[name][held]
        if name != common and metric.ranks:
            q[held] = _rescaled(q[held], p[name][others], p[common][others])
    nested = with_probabilities(first, normalised(q, exclusive), predicted_labels(first))
    chosen, numbers = _best(values, monitor), {name: _number(value) for name, value in values.items()}
    rule = CaseRule(rule=chosen, part=part, metric=monitor.name, on_the_cases_that_chose_it=numbers)
    return rule.model_copy(update={"nested": _number(monitor(y, probabilities(nested)))}), nested


def _rescaled(p: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The probabilities of one rule on the scale of another: quantiles of its `own` become those of the `other`.

    Rules have different scales (noisy-or is never below the largest), so ranking folds of several rules together would
    cost what no submission loses, which has a single rule. No label is looked at, and no order within a fold changes.
    """
    ends = np.zeros((1, p.shape[1])), np.ones((1, p.shape[1]))
    quantiles = [np.sort(np.vstack([*ends, values]), axis=0) for values in (own, other)]
    return np.column_stack([np.interp(p[:, n], quantiles[0][:, n], quantiles[1][:, n]) for n in range(p.shape[1])])


def _best(values: dict[str, float], metric: Metric) -> str:
    defined = {name: float(metric.gain(value, 0.0)) for name, value in values.items() if not np.isnan(value)}
    return max(defined, key=lambda name: defined[name]) if defined else next(iter(values))


def _number(value: float) -> Number:
    return None if np.isnan(value) else float(value)


def _parts(examples: pd.DataFrame, column: str | None) -> pd.Series:
    """The part of its case that each image is of, as text."""
    if column is None:
        return pd.Series("", examples.index)
    if column not in examples.columns:
        what = f"the example table has no column {column!r}{nearest(column, examples.columns)}"
        raise ConfigError(f"evaluate.case_part: {what}; of your own table, name it in columns.metadata")
    return examples[column].astype(str)


def _starts(names: pd.Series) -> np.ndarray:
    """Where each group of equal neighbours begins, int [groups]."""
    values = names.to_numpy()
    return np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.empty(0, int)


def _mean(p: np.ndarray, starts: np.ndarray) -> np.ndarray:
    counts = np.diff(np.append(starts, len(p)))
    return np.add.reduceat(p, starts) / counts[:, None]


def _noisy_or(p: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """1 - the product of 1 - p: each image may show it by itself (Pearl 1988)."""
    return 1 - np.multiply.reduceat(1 - p, starts)


_RULES: dict[str, Reduce] = {
    "mean": _mean,
    "max": lambda p, starts: np.maximum.reduceat(p, starts),
    "noisy_or": _noisy_or,
    "logit": lambda p, starts: sigmoid(_mean(logit(p), starts)),
}
RULES: Sequence[str] = tuple(_RULES)
