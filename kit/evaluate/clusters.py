"""What a change of source may cost: clusters of images that look alike, predicted by what was fitted on the others."""

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.evaluate.decision import as_scored
from kit.evaluate.metrics import Metric
from kit.evaluate.score import compare_runs
from kit.schemas import LeftOutClusters, defined
from kit.tables import predicted_labels, probabilities, truth, with_truth


def of_clusters(
    left_out: pd.DataFrame, oof: pd.DataFrame, examples: pd.DataFrame, metric: Metric, settings: EvaluateSettings
) -> LeftOutClusters:
    """Predictions of left-out clusters (id, fold: the cluster, looks, `p_*`) against the out-of-fold ones of the rows.

    The difference has its interval on resamples of groups; the clusters themselves are not resampled.
    """
    oof = oof[oof["id"].isin(left_out["id"])]
    both = {"out of fold": oof, "left-out clusters": left_out[left_out["id"].isin(oof["id"])].drop(columns="looks")}
    first, second = compare_runs(both, examples, metric, settings)
    rows = left_out.merge(examples[["id", "group"]], on="id")
    other = oof.set_index("id").loc[rows["id"]].reset_index()
    y = truth(with_truth(rows, examples, predicted_labels(rows)), predicted_labels(rows))
    p, p_other = (
        as_scored(metric, y, probabilities(table, predicted_labels(rows)), table["fold"].to_numpy())
        for table in (rows, other)
    )
    clusters = []
    for n in sorted(rows["fold"].unique()):
        inside = (rows["fold"] == n).to_numpy()
        clusters.append(
            {
                "looks": rows["looks"][inside].iloc[0],
                "rows": int(inside.sum()),
                "groups": int(rows["group"][inside].nunique()),
                "value": metric(y[inside], p[inside]),
                "out_of_fold": metric(y[inside], p_other[inside]),
            }
        )
    values = {
        "value": second.value,
        "out_of_fold": first.value,
        "difference": second.difference,
        "low": second.low,
        "high": second.high,
        "within": _mean([part["value"] for part in clusters]),
        "within_out_of_fold": _mean([part["out_of_fold"] for part in clusters]),
        "clusters": clusters,
    }
    return LeftOutClusters.model_validate(defined(values))


def _mean(values: list[float]) -> float:
    """The mean of the values that are defined."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
