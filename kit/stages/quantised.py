"""What 8-bit integers cost a run: each fold's model, quantised, on images that it has not seen."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit.data.records.images import images_of
from kit.data.records.manifest import Records
from kit.decisions import Decision
from kit.evaluate.decision import sent_probabilities
from kit.evaluate.metrics import find_metric
from kit.evaluate.score import compare_runs
from kit.evaluate.sent import with_decisions
from kit.parallel import progress_bar
from kit.run import Run
from kit.schemas import Quantised
from kit.stages.score import target_of
from kit.tables import DECISION, probabilities, with_probabilities

if TYPE_CHECKING:
    import keras

_RANGES = 100  # images by which ranges of activations are chosen
_BATCH = 32


def images_of_ranges(run: Run, records: Records, without: int | None = None) -> np.ndarray:
    """Some training images of a run, uint8 [n, H, W, C], at random; none of the fold `without`."""
    oof = run.oof()
    ids = oof["id"][oof["fold"] != without] if oof["fold"].nunique() > 1 else oof["id"]
    chosen = ids.sample(min(_RANGES, len(ids)), random_state=0)
    return np.stack(list(images_of(records, list(chosen)).values()))


def measure(
    run: Run, models: "Mapping[int, keras.Model]", decision: Decision, records: Records, most: int
) -> Quantised:
    """The score of folds' models that are quantised against that of the run, on the same out-of-fold images.

    Of at most `most` images, drawn at random. Each fold's model is quantised by images of other folds, and says
    something of its own alone. Raises ConfigError for a model that cannot be quantised.
    """
    from kit.export import quantised
    from kit.export.whole import whole

    oof = run.oof()
    oof = oof[oof["fold"].isin(list(models))]
    oof = oof.sample(min(most, len(oof)), random_state=0)
    parts = []
    with tempfile.TemporaryDirectory() as folder, progress_bar("int8", "image", len(oof)) as bar:
        for k, model in models.items():
            rows = oof[oof["fold"] == k]
            images = images_of(records, list(rows["id"]))
            ranges = images_of_ranges(run, records, without=k)
            function = quantised.write(whole([model], decision), ranges, Path(folder, f"{k}.tflite"))
            p = []
            for start in range(0, len(rows), _BATCH):
                names = rows["id"].iloc[start : start + _BATCH]
                p.append(function(np.stack([images[name] for name in names])))
                bar.update(len(names))
            if p:
                parts.append(with_probabilities(rows, np.concatenate(p), decision.labels))
    return _compared(run, decision, sent_probabilities(decision, oof), pd.concat(parts).loc[oof.index])


def _compared(run: Run, decision: Decision, before: pd.DataFrame, after: pd.DataFrame) -> Quantised:
    metric, settings = find_metric(target_of(run).metric), run.config.evaluate
    one, other = compare_runs({"float32": before, "int8": after}, run.examples(), metric, settings)
    change = np.abs(probabilities(after, decision.labels) - probabilities(before, decision.labels))
    decided = [with_decisions(decision, table)[DECISION].to_numpy() for table in (before, after)]
    return Quantised(
        metric=metric.name,
        images=len(before),
        float32=one.value,
        int8=other.value,
        difference=other.difference,
        low=other.low,
        high=other.high,
        confidence=settings.confidence,
        mean_change=float(change.mean()),
        largest_change=float(change.max()),
        other_decisions=float((decided[0] != decided[1]).mean()),
    )
