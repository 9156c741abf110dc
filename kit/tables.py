"""The column names of kit's tables, spelled in this file alone.

`id` · `fold` · `y_<label>` float32, the truth: 1, 0 or NaN (unknown) · `p_<label>` float32, a probability. Prediction
tables have id, fold and probabilities; example tables have the truth and more (kit.data.table.examples).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

TRUTH, PROBABILITY = "y_", "p_"
DECISION = "decision"  # the label or labels decided on, by thresholds or the likeliest class


def truth_columns(labels: Iterable[str]) -> list[str]:
    """The columns that hold the truth of these labels."""
    return [TRUTH + label for label in labels]


def probability_columns(labels: Iterable[str]) -> list[str]:
    """The columns that hold the probabilities of these labels."""
    return [PROBABILITY + label for label in labels]


def labels_of(table: pd.DataFrame, prefix: str = TRUTH) -> list[str]:
    """The labels whose truth (or, by its prefix, probability) a table has, in the order of its columns."""
    return [str(column).removeprefix(prefix) for column in table.columns if str(column).startswith(prefix)]


def predicted_labels(table: pd.DataFrame) -> list[str]:
    """The labels whose probabilities a table has, in the order of its columns."""
    return labels_of(table, PROBABILITY)


def truth(table: pd.DataFrame, labels: Iterable[str] | None = None) -> np.ndarray:
    """The truth, float [rows, labels], of these labels or all that the table has."""
    return table[truth_columns(labels_of(table) if labels is None else labels)].to_numpy()


def probabilities(table: pd.DataFrame, labels: Iterable[str] | None = None) -> np.ndarray:
    """The probabilities, float [rows, labels], of these labels or all that the table has."""
    return table[probability_columns(predicted_labels(table) if labels is None else labels)].to_numpy()


def with_probabilities(table: pd.DataFrame, p: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """The table with the probabilities [rows, labels] as columns, float32."""
    values = np.asarray(p, np.float32)
    return table.assign(**{column: values[:, n] for n, column in enumerate(probability_columns(labels))})


def with_truth(predictions: pd.DataFrame, examples: pd.DataFrame, labels: Iterable[str]) -> pd.DataFrame:
    """The predictions with the truth of their ids from an example table; raises KeyError for an unknown id."""
    columns = truth_columns(labels)
    values = examples.set_index("id")[columns].loc[predictions["id"]].to_numpy()
    return predictions.assign(**{column: values[:, n] for n, column in enumerate(columns)})


def one_hot(names: pd.Series, labels: Sequence[str]) -> pd.DataFrame:
    """The truth of `labels`, float32 0 or 1, from a column of class names; a row whose name is missing is NaN."""
    named = names.notna().to_numpy()
    columns = zip(labels, truth_columns(labels), strict=True)
    return pd.DataFrame(
        {column: np.where(named, names == label, np.nan).astype(np.float32) for label, column in columns}, names.index
    )
