"""The column language of kit's tables, spelled in this file alone.

`id` · `fold` · `y_<label>` float32, the truth: 1, 0 or NaN (unknown) · `p_<label>` float32, a probability. Example tables
have more columns (kit.data.table.examples), prediction tables have no others.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

TRUTH, PROBABILITY = "y_", "p_"
DECISION = "decision"  # the label, or labels, that the thresholds decide on


def truth_columns(labels: Iterable[str]) -> list[str]:
    """The columns that hold the truth of these labels."""
    return [TRUTH + label for label in labels]


def probability_columns(labels: Iterable[str]) -> list[str]:
    """The columns that hold the probabilities of these labels."""
    return [PROBABILITY + label for label in labels]


def labels_of(table: pd.DataFrame, prefix: str = TRUTH) -> list[str]:
    """The labels that a table has truth (or, with that prefix, probabilities) of, in the order of its columns."""
    return [str(column).removeprefix(prefix) for column in table.columns if str(column).startswith(prefix)]


def predicted_labels(table: pd.DataFrame) -> list[str]:
    """The labels that a table has probabilities of, in the order of its columns."""
    return labels_of(table, PROBABILITY)


def truth(table: pd.DataFrame, labels: Iterable[str] | None = None) -> np.ndarray:
    """The truth, float [rows, labels]; of all the table's labels, or of these."""
    return table[truth_columns(labels_of(table) if labels is None else labels)].to_numpy()


def probabilities(table: pd.DataFrame, labels: Iterable[str] | None = None) -> np.ndarray:
    """The probabilities, float [rows, labels]; of all the table's labels, or of these."""
    return table[probability_columns(predicted_labels(table) if labels is None else labels)].to_numpy()


def with_probabilities(table: pd.DataFrame, p: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """The table with the probabilities [rows, labels] as columns, float32."""
    values = np.asarray(p, np.float32)
    return table.assign(**{column: values[:, n] for n, column in enumerate(probability_columns(labels))})


def with_truth(predictions: pd.DataFrame, examples: pd.DataFrame, labels: Iterable[str]) -> pd.DataFrame:
    """The predictions with the truth of their ids beside them, from an example table; KeyError for an unknown id."""
    columns = truth_columns(labels)
    values = examples.set_index("id")[columns].loc[predictions["id"]].to_numpy()
    return predictions.assign(**{column: values[:, n] for n, column in enumerate(columns)})


def one_hot(names: pd.Series, labels: Sequence[str]) -> pd.DataFrame:
    """The truth of `labels`, float32 0 or 1, from a column of class names; a row whose name is missing is NaN."""
    known = names.notna().to_numpy()
    columns = zip(labels, truth_columns(labels), strict=True)
    return pd.DataFrame(
        {column: np.where(known, names == label, np.nan).astype(np.float32) for label, column in columns}, names.index
    )
