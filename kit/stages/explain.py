"""Trained folds and images -> maps of what speaks for a label, with checks of how far they can be trusted.

A training image is explained by the model that has not seen it; new images and test images by those of all folds.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from kit import files
from kit.boxes import BOXES
from kit.errors import ConfigError, DataError, UnreadableImage, counted, nearest, some
from kit.evaluate.cases import choose_all, judge, named
from kit.evaluate.sent import sent
from kit.parallel import progress_bar
from kit.predict.predictor import Predictor, Prepared
from kit.report import explanations as report
from kit.report import page as pages
from kit.report import pictures
from kit.report.page import number
from kit.run import ExplanationFiles, Run, names_of
from kit.schemas import Explanation, ExplanationCheck, Explanations, ExplanationScores
from kit.stages.explained import BoxesById, Subject, of_run, records_for, require_models, shares_of, with_images
from kit.stages.predict import find_images
from kit.tables import truth_columns
from kit.tasks import find_task

log = logging.getLogger(__name__)
DEFAULT = {"worst": 4, "best": 4, "unsure": 4}  # what is shown where nothing is asked for
_METHODS = {"probabilities": "gradcam", "boxes": "occlusion"}  # by what the task predicts
_CHECKED, _FEW = 32, 8  # images of the checks; of occlusion, which takes hundreds of predictions for each
_ROWS = ["id", "label", "boxed"]  # columns of the images of checks
_NONE = np.empty((0, 5))


@dataclass(frozen=True)
class Wanted:
    """What is to be explained, and how.

    `ids`, or so many cases of each kind (`counts`); `labels` by default those that the decision is about. `folds`:
    `own`, the one model that has not seen the image, or the `mean` over all. `checks`: on so many images (0: none).
    """

    ids: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    labels: Sequence[str] = ()
    method: str = ""
    folds: Literal["own", "mean"] = "own"
    checks: int | None = None
    seed: int = 0


def explain(
    run: Run, wanted: Wanted, records: Path | None = None, against: Run | None = None, trust: bool = False
) -> tuple[ExplanationFiles, ExplanationScores]:
    """Explain images of a run's records into its folder of explanations, which is written anew.

    `against`: another run, whose maps of the same images stand beside. Raises ConfigError for an unknown label and a
    run without models, DataError for ids that a run has no predictions of, and where its records are not found.
    """
    runs = [run, *([against] if against else [])]
    wanted = _complete(wanted, runs)
    stores = [records_for(each, records if each is run else None) for each in runs]
    subjects = [of_run(each, trust) for each in runs]
    cases = _cases(subjects[0], wanted)
    for subject in subjects[1:]:
        if unknown := {*cases["id"]} - {*subject.judged["id"]}:
            raise DataError(f"{subject.run} has no predictions of {some(sorted(unknown), 3)}")
    rows = _checked(subjects[0], wanted)
    ids = [[*cases["id"], *rows["id"]], list(cases["id"])]
    subjects = [
        replace(subject, images=with_images(subject, names, store))
        for subject, names, store in zip(subjects, ids, stores, strict=False)
    ]
    return _write(run.explanations, subjects, cases, rows, wanted)


def explain_images(
    run: Run, patterns: Sequence[str | Path], wanted: Wanted, out: Path, trust: bool = False
) -> tuple[ExplanationFiles, ExplanationScores]:
    """Explain new images (files, folders, globs) by the mean over the run's models, into the folder `out`.

    Raises ConfigError for an unknown label, and DataError where no image can be read.
    """
    wanted = replace(_complete(wanted, [run]), folds="mean")
    paths = find_images(patterns)
    predictor = Predictor.open(run, trust=trust)
    names = [files.escaped(str(path)) for path in paths]
    rows: dict[str, Prepared] = {}
    for name, row in zip(names, predictor.prepared(paths), strict=True):
        if isinstance(row, UnreadableImage):
            log.warning(f"unreadable {name}: {row}")
        else:
            rows[name] = row
    if not rows:
        raise DataError(f"none of {counted(len(paths), 'image')} could be read")
    subject = _of_images(run, predictor, rows, trust)
    cases = _with_labels(named(subject.judged, [*rows]).assign(kind="new"), subject, wanted)
    return _write(ExplanationFiles(out), [subject], cases, pd.DataFrame(columns=_ROWS), wanted)


def _of_images(run: Run, predictor: Predictor, rows: Mapping[str, Prepared], trust: bool) -> Subject:
    decision, fused = predictor.decision, len(predictor.models) > 1
    table = predictor.raw_table([*rows], rows.values())
    sizes = pd.DataFrame([row.size for row in rows.values()], columns=["width", "height"])
    unknown = pd.DataFrame({"id": [*rows], BOXES: [[] for _ in rows]})
    unknown = unknown.assign(**dict.fromkeys(truth_columns(decision.labels), np.nan))
    found: BoxesById = {}
    if BOXES in table.columns:
        found = shares_of(sent(decision, table, fused).assign(**sizes), decision.labels, predictor.image)
    judged, images = judge(table, unknown, decision, fused), {name: row.image for name, row in rows.items()}
    return Subject(run, decision, judged, {}, images, {}, found, trust)


def _complete(wanted: Wanted, runs: Sequence[Run]) -> Wanted:
    """With its method; raises ConfigError for labels that a run does not have."""
    for run in runs:
        require_models(run)
        for label in wanted.labels:
            if label not in run.folds.labels:
                raise ConfigError(f"{run} has no label {label!r}{nearest(label, run.folds.labels)}")
    return replace(wanted, method=wanted.method or _METHODS[find_task(runs[0].folds.task).prediction])


def _cases(subject: Subject, wanted: Wanted) -> pd.DataFrame:
    """The cases that are asked for, a row for each picture: of ids any, else of the training images."""
    judged = subject.judged
    if wanted.ids:
        if unknown := [name for name in wanted.ids if name not in {*judged["id"]}]:
            raise DataError(f"{subject.run} has no predictions of {some(unknown, 3)}")
        return _with_labels(named(judged, wanted.ids), subject, wanted)
    trained = judged[judged["id"].isin(subject.fold_of)]
    about = trained[trained["label"].isin(wanted.labels)] if wanted.labels else trained
    counts = wanted.counts or DEFAULT
    cases = choose_all(about, counts, wanted.seed)
    if cases.empty:
        raise DataError(f"{subject.run} has no image of these kinds: {', '.join(counts)}")
    return _with_labels(cases, subject, wanted)


def _with_labels(cases: pd.DataFrame, subject: Subject, wanted: Wanted) -> pd.DataFrame:
    """A row for each label that is explained: those asked for, else that of the case, and the true class beside it."""
    rows = []
    for case in cases.to_dict("records"):
        true = [case["truth"]] if case["truth"] in subject.decision.labels else []
        for label in wanted.labels or dict.fromkeys([case["label"], *true]):
            row = subject.says(case["id"], label)
            rows.append({**case, "label": label, "p": row["p"], "truth": row["truth"], "decision": row["decision"]})
    truth = pd.Series([row["truth"] for row in rows], dtype=object)  # texts and None; pandas would make it NaN
    return pd.DataFrame(rows).assign(truth=truth)


def _checked(subject: Subject, wanted: Wanted) -> pd.DataFrame:
    """Images and labels of the checks: held out by the first fold, at random of those where the label is decided on.

    Those of the column `boxed` are at random of those with true boxes of the label.
    """
    count = (_FEW if wanted.method == "occlusion" else _CHECKED) if wanted.checks is None else wanted.checks
    first = subject.run.trained_folds()[0]
    rows = subject.judged[[subject.fold_of.get(name) == first for name in subject.judged["id"]]]
    rows = rows[rows["label"].isin(wanted.labels or subject.decision.labels)].sort_values(["id", "label"])
    pairs = zip(rows["id"], rows["label"], strict=True)
    boxed = np.array([label in subject.true.get(name, {}) for name, label in pairs], bool)
    parts = [
        part.iloc[np.random.default_rng(wanted.seed).permutation(len(part))[:count]].assign(boxed=flag)
        for part, flag in ((rows[rows["decision"] == rows["label"]], False), (rows[boxed], True))
    ]
    return pd.concat(parts, ignore_index=True)[_ROWS]


def _checks(subject: Subject, rows: pd.DataFrame, wanted: Wanted, after: Callable[[], Any]) -> list[ExplanationCheck]:
    """Checks of the first fold's model on images that it has not seen."""
    if rows.empty:
        return []
    from kit.explain import checks, scores_of

    model, labels = subject.model(subject.run.trained_folds()[0]), list(subject.decision.labels)
    decided, boxed = rows[~rows["boxed"]], rows[rows["boxed"]]
    results = []
    if len(decided):
        maps = np.stack(subject.maps_by(model, decided, wanted.method, after))
        others = np.stack(subject.maps_by(subject.untrained(wanted.seed), decided, wanted.method, after))
        numbers = [labels.index(label) for label in decided["label"]]
        images, scores = subject.pixels(list(decided["id"])), scores_of(model, range(len(labels)))
        results += [checks.randomisation(maps, others)]
        results += [checks.deletion(scores, images, maps, numbers, wanted.seed, after)]
    if len(boxed):
        maps = np.stack(subject.maps_by(model, boxed, wanted.method, after))
        true = [subject.true[name][label][:, :4] for name, label in zip(boxed["id"], boxed["label"], strict=True)]
        results += [checks.pointing(maps, true), checks.overlap(maps, true, wanted.seed)]
    return results


def _steps(subjects: Sequence[Subject], cases: pd.DataFrame, rows: pd.DataFrame, mean: bool) -> int:
    """How many images are explained, in all: those of the checks by two networks, and blurred bit by bit."""
    parts = [cases["id"].iloc[places] for each in subjects for _, places in each.by_models(cases, mean)]
    boxed = rows["boxed"].astype(bool)
    decided = rows["id"][~boxed]
    return sum(part.nunique() for part in (*parts, decided, decided, rows["id"][boxed])) + len(decided)


def _write(
    place: ExplanationFiles, subjects: Sequence[Subject], cases: pd.DataFrame, rows: pd.DataFrame, wanted: Wanted
) -> tuple[ExplanationFiles, ExplanationScores]:
    """Maps of the cases by every run, and the checks of the first, into a folder: pictures, page, scores, index."""
    first, mean = subjects[0], wanted.folds == "mean"
    names = names_of([subject.run for subject in subjects])
    with files.locked(place.folder, again=True):
        with progress_bar("explain", "image", _steps(subjects, cases, rows, mean)) as bar:
            maps = [subject.maps(cases, wanted.method, mean, bar.update) for subject in subjects]
            checks = _checks(first, rows, wanted, bar.update)
        scores = ExplanationScores(run=str(first.run), method=wanted.method, folds=wanted.folds, checks=checks)
        shown = [_shown(case, n, subjects, names, maps, wanted) for n, case in enumerate(cases.to_dict("records"))]
        page = report.page(f"Explanations: {first.run.config.competition_name}, run {first.run.name}", scores, shown)
        place.clear()
        entries = []
        for n, (case, each) in enumerate(zip(cases.to_dict("records"), shown, strict=True)):
            file = place.picture(n + 1)
            with files.replacing(file) as part:
                part.write_bytes(pictures.jpeg(report.overlay(each.image, each.maps[names[0]], each.boxes)))
            known = {key: case[key] for key in ("id", "label", "kind", "p", "truth", "decision")}
            entries.append(Explanation(**known, file=file.name, largest=float(maps[0][n].max())))
        files.write_json(place.scores, scores.as_json())
        pages.write(page, place.page)
        files.write_json(place.index, Explanations(pictures=entries).as_json())
    return place, scores


def _shown(
    case: Mapping[Any, Any],
    n: int,
    subjects: Sequence[Subject],
    names: Sequence[str],
    maps: Sequence[Sequence[np.ndarray]],
    wanted: Wanted,
) -> report.Shown:
    """A case as the page shows it."""
    from kit.explain import shown

    first, name, label = subjects[0], case["id"], case["label"]
    boxes = report.Boxes(*(each.get(name, {}).get(label, _NONE) for each in (first.true, first.found)))
    lines = [f"{label} {number(case['p'])}" + ("" if case["truth"] is None else f", truth: {case['truth']}")]
    others = zip(names[1:], subjects[1:], strict=True)
    lines += [f"{run}: {label} {number(each.says(name, label)['p'])}" for run, each in others]
    heats = {run: shown(own[n], wanted.method) for run, own in zip(names, maps, strict=True)}
    lines += [_said(wanted.method, label, float(maps[0][n].max()), not heats[names[0]].any()), name]
    wrong = None if case["truth"] is None else case["decision"] != case["truth"]
    if wrong is False and (len(boxes.true) or len(boxes.found)):
        wrong = None  # that there is a box is right; how good the boxes are can be seen
    return report.Shown(first.images[name], heats, boxes, case["kind"], "\n".join(filter(None, lines)), wrong)


def _said(method: str, label: str, highest: float, empty: bool) -> str:
    """What there is to say of a map whose highest value that is, and in which (`empty`) no place is bright."""
    if empty:
        return f"nothing speaks for {label}"
    return f"covered, the score drops by up to {number(highest)}" if method == "occlusion" else ""
