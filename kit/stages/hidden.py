"""A hidden test set: its cases, listed when this runs and never from an earlier list, and their predictions.

A case that cannot be read, or is not reached in time, gets cells that are right for none in particular; how many is
said. kit.stages.infer makes the submission of them.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.competition import Competition
from kit.config import Config, Source
from kit.data.pixels.sizes import size_of
from kit.data.table.listing import list_folder
from kit.decisions import AnyDecision, CaseRule, Decision
from kit.errors import ConfigError, DataError, UnreadableImage, counted, some
from kit.evaluate.per_case import by_case
from kit.evaluate.sent import submitted
from kit.parallel import progress_bar
from kit.predict.packed import opened
from kit.predict.predict import raw_of
from kit.predict.predictor import Predictor, Prepared
from kit.stages.publish import read_manifest
from kit.submit.submission import constants, make_submission, read_submission
from kit.tables import CASE, predicted_labels, probabilities, with_probabilities
from kit.tasks import find_task

log = logging.getLogger(__name__)
GATEWAY = "kaggle_evaluation"  # a folder of the competition's files, where cases come from a server
_BATCHES = 4  # that are predicted before the clock is looked at again

Cases = Mapping[str, Sequence[Path]]  # id -> its images


@dataclass
class Outcome:
    """What became of the cases: why some could not be read, and which were not reached in time."""

    cases: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    late: int = 0

    def say(self) -> None:
        """Log it."""
        predicted = self.cases - len(self.unreadable) - self.late
        log.info(f"predicted {predicted} of {counted(self.cases, 'case')}")
        if self.unreadable:
            name, reason = next(iter(self.unreadable.items()))
            cases = counted(len(self.unreadable), "case")
            log.info(f"{cases} could not be read and got a constant, such as {name} ({reason})")
        if self.late:
            log.info(f"{counted(self.late, 'case was', 'cases were')} not reached in time and got a constant")


class Models:
    """The runs of a published folder, as one: opened when first asked, as their networks take a while to load."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, read_manifest(folder)
        self.decision: AnyDecision = self.manifest.decided()
        self._opened: list[tuple[Predictor, float]] = []

    @property
    def config(self) -> Config:
        """The settings of the first run."""
        with opened(self.folder / self.manifest.members[0].file) as run:
            run.trust_code()
            return run.config

    @property
    def members(self) -> list[tuple[Predictor, float]]:
        """Each run's predictor, and how much it counts. Code in them is the submitter's own, as the kernel is."""
        if not self._opened:
            members = self.manifest.members
            self._opened = [(Predictor.open(self.folder / each.file, trust=True), each.weight) for each in members]
        return self._opened

    @property
    def at_once(self) -> int:
        """Images to predict before the clock is looked at."""
        return _BATCHES * self.members[0][0].settings.batch_size

    def predict(self, cases: Cases) -> tuple[pd.DataFrame, dict[str, str]]:
        """Predictions of the cases that can be read, as a submission has them, and why others cannot be read.

        Columns id, `p_*` or boxes, and of boxes width and height. A case of several images gets what the decision's
        rule makes of them, by default their mean; raises DataError for boxes of several images.
        """
        unreadable: dict[str, str] = {case: "it has no image" for case in cases if not cases[case]}
        paths = [(case, path) for case, images in cases.items() for path in images]
        tables = [self._raw(predictor, paths, unreadable) for predictor, _ in self.members]
        table = _weighted(tables, [weight for _, weight in self.members])
        for case in {*table["id"]}:
            unreadable.pop(case, None)
        fused = len(self.members) > 1 or len(self.members[0][0].models) > 1
        table = submitted(self.decision, _by_case(table, self.decision), fused)
        if raw_of(self.decision.task).sized:
            sizes = [size_of(cases[case][0]) for case in table["id"]]
            table = table.assign(width=[size[0] for size in sizes], height=[size[1] for size in sizes])
        return table, unreadable

    def _raw(self, predictor: Predictor, paths: list[tuple[str, Path]], unreadable: dict[str, str]) -> pd.DataFrame:
        ids: list[str] = []

        def readable() -> Iterator[Prepared]:
            for (case, _), row in zip(paths, predictor.prepared([path for _, path in paths]), strict=True):
                if isinstance(row, UnreadableImage):
                    unreadable[case] = str(row)
                else:
                    ids.append(case)
                    yield row

        return predictor.raw_table(ids, readable())


def hidden_cases(competition: Competition, root: Path, source: Source) -> tuple[pd.DataFrame, dict[str, list[Path]]]:
    """The mounted sample submission, and the image of each of its ids that has one.

    Images are looked for by id: a path, or a file's name, with or without its ending; folders of training images are
    passed over. Where none is found so, the competition's own reader is asked. Without a sample, every image is a case.
    """
    images = images_of(root)
    path = root / (competition.sample or "sample_submission.csv")
    if not path.is_file():
        ids = sorted({image.stem for image in images.values()} & {*images})  # without those of two images
        columns = list(constants(competition))
        sample = pd.DataFrame({competition.id_column: ids}).reindex(columns=[competition.id_column, *columns])
        return sample, {name: [images[name]] for name in ids}
    sample = read_submission(path, competition.id_column)
    ids = list(sample[competition.id_column])
    cases = {name: [images[name]] for name in ids if name in images}
    if ids and not cases:
        cases = _as_read(competition, root, source, set(ids))
    return sample, cases


def predicted(models: Models | None, cases: Cases, deadline: float, outcome: Outcome) -> pd.DataFrame | None:
    """Predictions of the cases, until the deadline (of `time.monotonic`); None of none."""
    if models is None or not cases:
        return None
    tables: list[pd.DataFrame] = []
    longest, begun = 0.0, time.monotonic()
    with progress_bar("predict", "case", len(cases)) as bar:
        left = iter(cases)
        while names := list(islice(left, models.at_once)):
            if time.monotonic() + longest > deadline:
                outcome.late = len(cases) - sum(map(len, tables)) - len(outcome.unreadable)
                break
            table, unreadable = models.predict({name: cases[name] for name in names})
            outcome.unreadable |= unreadable
            tables.append(table)
            bar.update(len(names))
            now = time.monotonic()
            longest, begun = max(longest, now - begun), now
    return pd.concat(tables, ignore_index=True) if tables else None


def filled(
    competition: Competition, sample: pd.DataFrame, table: pd.DataFrame | None, cells: Mapping[str, Any]
) -> pd.DataFrame:
    """The submission in the sample's order: from predictions, where a case has one, else these cells."""
    key = competition.id_column
    rest = sample[[key]].assign(**{column: cells.get(column) for column in sample.columns if column != key})
    if table is None or table.empty:
        return rest[list(sample.columns)]
    own = sample[sample[key].isin(table["id"])]
    submission = make_submission(competition, table.drop(columns=["width", "height"], errors="ignore"), own, table)
    rest = rest[~rest[key].isin(own[key])]
    whole = pd.concat([submission, rest], ignore_index=True) if len(rest) else submission
    return whole.set_index(key).loc[list(sample[key])].reset_index()[list(sample.columns)]


def _weighted(tables: Sequence[pd.DataFrame], weights: Sequence[float]) -> pd.DataFrame:
    """The weighted mean of several runs' probabilities of the same images; of one run, its predictions."""
    if len(tables) == 1:
        return tables[0]
    labels = predicted_labels(tables[0])
    total = np.tensordot(np.asarray(weights), np.stack([probabilities(table, labels) for table in tables]), 1)
    return with_probabilities(tables[0][["id"]], total / sum(weights), labels)


def _by_case(table: pd.DataFrame, decision: AnyDecision) -> pd.DataFrame:
    """Predictions of images, whose `id` is that of their case, as those of cases."""
    if not table["id"].duplicated().any():
        return table
    if not isinstance(decision, Decision):
        raise DataError("a case has several images, and boxes are of one: they cannot be brought together")
    images = [str(n) for n in range(len(table))]
    examples = pd.DataFrame({"id": images, CASE: table["id"].to_numpy()})
    rule = decision.cases or CaseRule(rule="mean")
    return by_case(table.assign(id=images), examples, rule, find_task(decision.task).exclusive)


def images_of(root: Path) -> dict[str, Path]:
    """The test images below a mount, by every name that an id may have; what is named twice is by its path alone."""
    named: dict[str, list[Path]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if "train" in folder.name.lower() or folder.name == GATEWAY:
            continue
        for below in list_folder(root, folder.name).images["path"]:
            name = below.partition("/")[2]
            whole = (below, name, name.rpartition("/")[2])
            for key in dict.fromkeys((*whole, *(each.rpartition(".")[0] for each in whole))):
                named.setdefault(key, []).append(files.below(root, below))
    return {key: paths[0] for key, paths in named.items() if key and len(paths) == 1}


def _as_read(competition: Competition, root: Path, source: Source, ids: set[str]) -> dict[str, list[Path]]:
    """The images of ids as the competition's reader finds them; none where it finds the mount to be another layout."""
    try:
        table = competition.read(root, source).table
    except (DataError, ConfigError) as error:
        log.info(f"no image is named like an id of the sample, and {competition.name} cannot be read: {error}")
        return {}
    key = CASE if CASE in table else "id"
    table = table[(table["split"] == "test") & table[key].isin(ids)]
    log.info(f"noticed: images were found by the reader of {competition.name}, such as {some(table['path'], 1)}")
    cases: dict[str, list[Path]] = {}
    for name, path in zip(table[key], table["path"], strict=True):
        cases.setdefault(name, []).append(files.below(root, path))
    return cases
