"""Parts of the images by a column of the example table, such as age or view, by which scores are broken down."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.evaluate.resample import Statistic, interval, numbered, resample
from kit.schemas import Subgroup

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


def intervals(
    rows: pd.DataFrame,
    parts: Sequence[Subgroup],
    of_part: Callable[[np.ndarray, np.ndarray], Statistic],
    resamples: int,
    settings: EvaluateSettings,
) -> list[tuple[float, float]]:
    """The ends of the interval of each part, over so many resamples of groups; NaN of small parts and unknown ones.

    `rows` are rows of the example table, `parts` those of their scores. `of_part(rows, group_of)` is the metric of some
    of the rows (int [m]), whose groups have the numbers `group_of` (int [m]).
    """
    groups = rows["group"].to_numpy()
    known = {(column, part): inside for column, part, inside in parts_of(rows, settings.subgroups)}
    ends = []
    for part in parts:
        inside = known.get((part.column, part.part))
        if part.small or inside is None:
            ends.append((float("nan"), float("nan")))
            continue
        group_of, count = numbered(groups[inside])
        drawn = resample([of_part(inside, group_of)], count, resamples)[:, 0, 0]
        ends.append(interval(drawn, settings.confidence))
    return ends
