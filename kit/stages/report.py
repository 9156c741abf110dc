"""A run, or several -> `report.html`: scores, figures and images on one page that needs nothing else. No Keras."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import kit
from kit import files
from kit.competitions import find_competition
from kit.config import Config, dump_config
from kit.data.records.manifest import Records
from kit.errors import KitError, counted
from kit.evaluate.cases import judge
from kit.evaluate.label_errors import label_errors
from kit.report import about, cases, page, result, training
from kit.report import runs as of_runs
from kit.report.page import Block, Page, Section, Text
from kit.run import Run, names_of
from kit.schemas import Explanation
from kit.stages import report_boxes, report_classes
from kit.stages.records import records_of
from kit.stages.score import compare, score
from kit.tables import truth
from kit.tasks import find_task

log = logging.getLogger(__name__)
_NO_RECORDS = (
    "The records of the images are not beside the run, so the page has no pictures: `--records` says where they are."
)
_IN_SHORT = "Three cases that are right, and three that are wrong, most surely both."
_EXPLAINED = 48  # pictures
_CHECKED = ("id", "label", "given", "suggested", "score")


def write_report(runs: Sequence[Run], records: Path | None = None, out: Path | None = None) -> Path:
    """The report of the first run, with the others compared to it; returns its path.

    It is `report.html` in the run's folder, with its figures as PNG in `figures` and the labels that may be wrong in
    `labels_to_check.csv`; or the page alone in `out`. Scores runs first, unless that is done. What is up to date is not
    written again. Raises DataError for what is missing or damaged, and for runs that cannot be compared.
    """
    first = runs[0]
    names_of(runs)  # raises for one that is given twice
    for run in runs:
        score(run)
    pictures_from = records_of(first, records)
    inputs = _inputs(runs, pictures_from)
    if out is not None:
        page.write(_page(_Read(first), runs, pictures_from), out)
        return out
    with first.locked():
        if not files.is_done(first.reported_done, inputs):
            _write(_Read(first), runs, pictures_from, inputs)
    return first.report_path


def try_report(run: Run, records: Path) -> None:
    """`write_report`, whose failure is a line of the log: a run is done without it."""
    try:
        log.info(f"report: {write_report([run], records)}")
    except KitError as error:
        log.info(f"no report: {error}")
    except Exception as error:  # whatever goes wrong in a picture must not look like a failure of hours of training
        log.info(f"no report: {type(error).__name__}: {error}")


def _inputs(runs: Sequence[Run], records: Records | None) -> dict[str, Any]:
    """What a report is made of."""
    first = runs[0]
    paths = [first.oof_path, first.test_path, first.examples_path, first.scores_path, first.decision_path]
    paths += [first.config_path, first.environment_path, first.ensemble_path, first.explanations.index]
    paths += [first.fold(k).history for k in first.trained_folds()]
    paths += [first.frozen.oof_path]
    for run in runs[1:]:
        paths += [run.oof_path, run.scores_path]
    digests = [[str(path), files.sha256_of(path)] for path in paths if path.is_file()]
    names = [name.removeprefix(f"{first}") for name, _ in digests]  # of the run itself: it may be moved
    return {
        "version": kit.__version__,
        "files": [[name, digest] for name, (_, digest) in zip(names, digests, strict=True)],
        "records": records.fingerprint if records else None,
    }


@dataclass(frozen=True)
class _Read:
    """A run, each part of which is read and checked once."""

    run: Run

    @cached_property
    def config(self) -> Config:
        return self.run.config

    @cached_property
    def oof(self) -> pd.DataFrame:
        return self.run.oof()

    @cached_property
    def examples(self) -> pd.DataFrame:
        return self.run.examples()

    @cached_property
    def scores(self) -> Any:
        return self.run.scores

    @cached_property
    def decision(self) -> Any:
        return self.run.decision

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return self.run.folds.labels

    @cached_property
    def judged(self) -> pd.DataFrame:
        return judge(self.oof, self.examples, self.decision)

    @cached_property
    def doubtful(self) -> pd.DataFrame:
        task = find_task(self.run.folds.task)
        return label_errors(self.oof, self.examples, self.labels, task.exclusive)

    @property
    def kind(self) -> "_Kind":
        return _KINDS[find_task(self.run.folds.task).prediction]


class _Kind(NamedTuple):
    sections: Callable[[Any], list[Section]]
    subgroups: Callable[[Any, int], list[tuple[float, float]]]  # the ends of the intervals of each part
    trained: Callable[[Any], list[Block]]  # what training has added to the frozen network
    pictures: Callable[[Any, Records, Collection[str]], dict[str, bytes]]
    width: int = 150  # of pictures in galleries, in pixels
    note: str = ""  # what is drawn over them


_KINDS = {
    "probabilities": _Kind(
        report_classes.sections, report_classes.subgroups, report_classes.trained, report_classes.pictures
    ),
    "boxes": _Kind(
        report_boxes.sections, report_boxes.subgroups, lambda read: [], report_boxes.pictures, 240, report_boxes.NOTE
    ),
}
_RESAMPLES = 200  # of subgroups, each of which is resampled


def _write(read: _Read, runs: Sequence[Run], records: Records | None, inputs: dict[str, Any]) -> None:
    run = read.run
    before = files.read_stamp(run.reported_done).outputs if run.reported_done.exists() else {}
    content = _page(read, runs, records)
    page.write(content, run.report_path, run.figures_path)
    outputs = [run.report_path, *(run.figures_path / f"{figure.name}.png" for figure in content.figures)]
    if find_task(run.folds.task).prediction == "probabilities":
        files.write_text(run.labels_to_check_path, read.doubtful[[*_CHECKED]].to_csv(index=False))
        outputs.append(run.labels_to_check_path)
    for name in before.keys() - {path.relative_to(run.directory).as_posix() for path in outputs}:
        (run.directory / name).unlink(missing_ok=True)  # a figure of an earlier report
    files.mark_done(run.reported_done, inputs, outputs)


def _page(read: _Read, runs: Sequence[Run], records: Records | None) -> Page:
    run, folds = read.run, read.run.folds
    short, galleries = cases.in_short(read.judged), cases.kinds(read.judged, read.labels)
    ids = {*short["id"], *read.doubtful["id"][:24], *(name for table in galleries.values() for name in table["id"])}
    pictures = {} if records is None else read.kind.pictures(read, records, ids)
    note = _NO_RECORDS if records is None else ""
    width = read.kind.width
    in_short = cases.gallery(short, pictures, f"{_IN_SHORT} {read.kind.note}".strip(), width)
    groups_known = bool((read.examples["group"] != read.examples["id"]).any())
    histories = _histories(run)
    ends = read.kind.subgroups(read, _RESAMPLES) if read.scores.subgroups else []
    parts = [*result.subgroups(read.scores, ends, _RESAMPLES), *result.clusters(read.scores)]
    environment = files.read_json(run.environment_path) if run.environment_path.is_file() else {}
    sections = [
        result.section(read.scores, len(folds.folds), groups_known, in_short or ([Text(note, "note")] if note else [])),
        *([_compared(runs)] if len(runs) > 1 else []),
        *([of_runs.ensemble(run.ensemble)] if run.is_ensemble else []),
        *read.kind.sections(read),
        Section("Parts of the images", "parts", parts),
        cases.section(galleries, pictures, width, read.kind.note),
        cases.label_errors(read.doubtful, pictures, run.labels_to_check_path.name, _labelled(read)),
        cases.explanations(*_explanations(run)),
        training.section(histories, read.kind.trained(read)),
        about.data(read.examples, read.labels, folds.folds),
        about.setting(dump_config(read.config), environment, _command(read), kit.__version__),
    ]
    competition = find_competition(read.config.competition, read.config)
    images = f"{read.config.image.size} × {read.config.image.size} pixels"
    subtitle = f"Run {run.name} · {_network(read)} · {images} · {counted(len(folds.folds), 'fold')}"
    return Page(competition.title, subtitle, sections)


def _network(read: _Read) -> str:
    if read.run.is_ensemble:
        return f"blend of {len(read.run.ensemble.runs)} runs"
    backbone = read.config.model.arguments.get("backbone")
    return f"{read.config.model.name} of {backbone}" if backbone else str(read.config.model.name)


def _compared(runs: Sequence[Run]) -> Section:
    names = names_of(runs)
    scores = {name: run.scores for name, run in zip(names, runs, strict=True)}
    taken = {name: training.seconds(_histories(run)) for name, run in zip(names, runs, strict=True)}
    return of_runs.comparison(scores, compare(runs), taken)


def _histories(run: Run) -> dict[int, pd.DataFrame]:
    """A row per epoch of each fold that has any; DataError for a file that is none."""
    tables = {}
    for k in run.trained_folds():
        fold = run.fold(k)
        if fold.history.is_file():
            try:
                table = pd.read_csv(fold.history).apply(pd.to_numeric)
            except (ValueError, OSError) as error:
                raise files.damaged(fold.history, error, fold.remedy) from error
            if "epoch" in table:
                tables[k] = table
    return tables


def _explanations(run: Run) -> tuple[list[Explanation], dict[str, bytes]]:
    """The first pictures of `kit explain`, and their files by name; none where it did not run."""
    content = run.explanations.read()  # raises for names that lie outside its folder
    shown = content.pictures[:_EXPLAINED] if content else []
    paths = {each.file: run.explanations.folder / each.file for each in shown}
    return shown, {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def _labelled(read: _Read) -> int:
    """How many labels of images are known, of which some may be wrong."""
    known = ~np.isnan(truth(read.examples[read.examples["id"].isin(read.oof["id"])], read.labels).astype(float))
    task = find_task(read.run.folds.task)
    return int(known.all(axis=1).sum()) if task.exclusive else int(known.sum())


def _command(read: _Read) -> str:
    run = read.run
    if run.is_ensemble:
        return f"kit ensemble {' '.join(Path(member).name for member in run.ensemble.runs)} --out {run.name}"
    return f"kit run {run.config_path.name} --data DIR --run {run.name}"
