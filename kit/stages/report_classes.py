"""What the report of a run says of probabilities. A part of kit/stages/report.py."""

from collections.abc import Collection
from typing import Any

import numpy as np

from kit import headlines
from kit.data.records.images import iter_images
from kit.data.records.manifest import Records
from kit.errors import DataError
from kit.evaluate.decision import as_scored
from kit.evaluate.resample import statistic
from kit.evaluate.score import with_known_truth
from kit.evaluate.subgroups import intervals
from kit.report import classes
from kit.report import pictures as images
from kit.report.judged import Judged, judged
from kit.report.page import Block, Section, Text
from kit.report.ranking import before_and_after
from kit.run import Run
from kit.stages.per_case import as_decided, scored_examples, scored_oof
from kit.stages.score import compare, mean_test, metric_of_run


def sections(read: Any) -> list[Section]:
    """All on probabilities, out of fold and of labelled test images."""
    examples = scored_examples(read.run)
    test = with_known_truth(as_decided(read.run, read.decision, mean_test(read.run)), examples)
    tested = judged(test, examples, read.decision) if len(test) else None
    oof = _judged_oof(read, read.run)
    return classes.sections(oof, tested, read.scores, read.decision)


def subgroups(read: Any, resamples: int) -> list[tuple[float, float]]:
    """The ends of the intervals of the score's parts."""
    oof, metric = _judged_oof(read, read.run), metric_of_run(read.run)
    ids = scored_oof(read.run, read.config, metric)["id"]
    rows = scored_examples(read.run).set_index("id").loc[ids].reset_index()
    p = as_scored(metric, oof.y, oof.p, oof.fold)

    def of_part(inside: np.ndarray, group_of: np.ndarray) -> Any:
        return statistic(metric, oof.y[inside], p[inside], group_of)

    return intervals(rows, read.scores.subgroups, of_part, resamples, read.config.evaluate)


def trained(read: Any) -> list[Block]:
    """What training has added to the frozen network, where its run is there and of the same images."""
    frozen = read.run.frozen
    if not (frozen.exists() and frozen.oof_path.exists()):
        return []
    try:
        gain = headlines.gain(*compare([frozen, read.run]))
        before = _judged_oof(read, frozen)
    except DataError as error:
        return [Text(f"What training has added is not known: {error}", "note")]
    after = _judged_oof(read, read.run)
    return [Text(f"{gain[:1].upper()}{gain[1:]}."), *before_and_after(before, after)]


def _judged_oof(read: Any, run: Run) -> Judged:
    """Out-of-fold predictions of what is scored, of this run or of that of its frozen network."""
    oof = scored_oof(run, read.config, metric_of_run(read.run))
    return judged(oof, scored_examples(read.run), read.decision)


def pictures(read: Any, records: Records, ids: Collection[str]) -> dict[str, bytes]:
    """The images of these ids that the records hold, as JPEGs."""
    return {name: images.jpeg(image) for name, image in iter_images(records, ids)}
