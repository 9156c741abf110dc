"""Parts of the images by a column of the example table, such as age or view, by which scores are broken down."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

_AGES = (0, 18, 40, 60, 80, 200)  # years, where bands begin


def parts_of(rows: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Column, part and the numbers of its rows (int [m]); columns that are absent are skipped, ages are cut into bands.

    `rows` are rows of the example table.
    """
    for column in columns:
        if column not in rows.columns:
            continue
        values = rows[column]
        if column == "age":
            bands = [f"{low} to {high - 1}" for low, high in pairwise(_AGES[:-1])]
            values = pd.cut(pd.to_numeric(values), _AGES, right=False, labels=[*bands, f"{_AGES[-2]} and above"])
        for part in values.dropna().drop_duplicates().sort_values():
            yield column, str(part), np.flatnonzero((values == part).to_numpy())
