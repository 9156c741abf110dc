"""Submissions of probabilities: a number in each cell."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kit.competition import SENT_AS_DECISIONS, Competition
from kit.errors import SubmissionError, counted
from kit.submit.formats import Format, line_of
from kit.tables import PROBABILITY, predicted_labels, probabilities


def _columns(competition: Competition, predictions: pd.DataFrame, examples: pd.DataFrame | None) -> pd.DataFrame:
    labels = predicted_labels(predictions)
    column_of = {label: column for column, label in (competition.target.columns or {x: x for x in labels}).items()}
    columns = {f"{PROBABILITY}{label}": column for label, column in column_of.items()}
    return predictions.rename(columns={"id": competition.id_column, **columns})


def _check(
    competition: Competition,
    submission: pd.DataFrame,
    columns: Sequence[str],
    oof: pd.DataFrame | None,
    examples: pd.DataFrame | None,
) -> list[str]:
    if _are_decisions(competition, oof):
        return _check_decisions(competition, submission, columns)
    for column in columns:
        values = _numbers(submission, column, competition.id_column)
        distinct = np.unique(values)
        if len(values) > 2 and len(distinct) == 1:
            raise SubmissionError(f"column {column!r} holds only {distinct[0]:g}: it ranks no image above another")
        if len(values) > 2 and len(distinct) == 2:
            why = (
                "ROC AUC, which ranks probabilities" if competition.target.metric == "roc_auc" else "its probabilities"
            )
            raise SubmissionError(
                f"column {column!r} holds only the values {distinct[0]:g} and {distinct[1]:g}: "
                f"{competition.name} is scored by {why}. Submit the probabilities, not the thresholded labels"
            )
    if oof is not None:
        _check_exchanged(competition, submission, list(columns), oof)
    return []


def _are_decisions(competition: Competition, oof: pd.DataFrame | None) -> bool:
    """Whether 0 and 1 are to be sent: the metric takes no probabilities, or the run does not send them."""
    if competition.target.metric in SENT_AS_DECISIONS:
        return True
    return oof is not None and len(oof) > 2 and bool(np.isin(probabilities(oof), (0, 1)).all())


def _check_decisions(competition: Competition, submission: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    remarks = []
    for column in columns:
        values = _numbers(submission, column, competition.id_column)
        if (other := ~np.isin(values, (0, 1))).any():
            row = int(np.flatnonzero(other)[0])
            raise SubmissionError(
                f"column {column!r}: {values[row]:g} in line {line_of(submission, row)} is neither 0 nor 1, but "
                f"{competition.name} is scored by decisions"
            )
        if len(values) > 2 and len(np.unique(values)) == 1:
            remarks.append(f"column {column!r} holds only {values[0]:g}")
    return remarks


def _same(a: pd.Series, b: pd.Series) -> np.ndarray:
    first, second = (pd.to_numeric(cells, errors="coerce").to_numpy(np.float64) for cells in (a, b))
    return np.isclose(first, second, rtol=0, atol=1e-6)


def _numbers(submission: pd.DataFrame, column: str, key: str) -> np.ndarray:
    if len(submission) and submission[column].astype(str).str.lower().isin(["true", "false"]).all():
        raise SubmissionError(f"column {column!r} holds True and False: submit numbers, such as probabilities")
    values = pd.to_numeric(submission[column], errors="coerce").to_numpy(np.float64)
    for bad, problem in ((~np.isfinite(values), "not a finite number"), ((values < 0) | (values > 1), "outside 0..1")):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            cell = submission[column].iloc[row]
            raise SubmissionError(
                f"column {column!r}: {counted(int(bad.sum()), 'value is', 'values are')} {problem}; the first is "
                f"{repr(cell) if isinstance(cell, str) else f'{cell:g}'} "
                f"in line {line_of(submission, row)} ({submission[key].iloc[row]})"
            )
    return values


def _check_exchanged(competition: Competition, submission: pd.DataFrame, columns: list[str], oof: pd.DataFrame) -> None:
    """Refuse columns whose means fit each other's label clearly better than their own.

    Means are compared as logits: exchanging a pair must bring both closer by a factor of e in the odds.
    """
    label_of, labels = competition.target.columns or {column: column for column in columns}, predicted_labels(oof)
    columns = [column for column in columns if label_of.get(column) in labels]
    means = np.array([submission[column].astype(float).mean() for column in columns])
    expected = probabilities(oof, [label_of[column] for column in columns]).mean(axis=0)
    distance = np.abs(_logit(means)[:, None] - _logit(expected)[None])  # of column i's mean from label j's
    for i, j in zip(*np.triu_indices(len(columns), 1), strict=True):
        if distance[i, j] + 1 < distance[i, i] and distance[j, i] + 1 < distance[j, j]:
            raise SubmissionError(
                f"columns {columns[i]!r} and {columns[j]!r} look exchanged: their means are {means[i]:.3g} and "
                f"{means[j]:.3g}, out of fold {expected[i]:.3g} and {expected[j]:.3g}"
            )


def _logit(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def _missing(cells: pd.Series) -> float:
    """The mean prediction; where decisions are sent, what most images have."""
    mean = float(cells.mean())
    return float(mean >= 0.5) if cells.isin((0, 1)).all() else mean


PROBABILITIES = Format(
    _columns,
    missing=_missing,
    check=_check,
    same=_same,
    stand_in="the mean prediction",
    constant=lambda share: round(share, 6),
)
