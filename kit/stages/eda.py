"""Raw folder -> a page of what is in it, before anything is trained."""

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from kit.boxes import BOXES, LABELS, boxes_of
from kit.competitions import find_competition
from kit.config import Config
from kit.data.table.cells import split_folds
from kit.data.table.check import looked_at, report
from kit.data.table.counts import sides_of
from kit.data.table.examples import Examples
from kit.data.table.fold_columns import deal_cells
from kit.data.table.survey import Classes, classes_of, draw, show, survey_images
from kit.errors import ConfigError, counted
from kit.files import expanded
from kit.report.eda import boxes, data_set, findings, metadata
from kit.report.page import Page
from kit.stages.examples import check_folds, examples_as_they_are
from kit.tables import is_metadata
from kit.tasks import find_task

log = logging.getLogger(__name__)

SAMPLE = 2000  # images whose pixels are looked at
_VIEW = re.compile(r"view|projection|position", re.IGNORECASE)
_OF_FILES = ("format", "channels", "reason")  # columns that looking at files adds
_FEW = 6  # values of a column, by which boxes are counted
_MOST_PICTURES = 96


def explore(config: Config, data: Path | str, images: int = SAMPLE, edges: bool = False, quick: bool = False) -> Page:
    """The page of a raw folder: every image is decoded for what is odd (`quick`: only the sample), nothing is written.

    Grey levels, colours and mean images are of a random sample of so many `images`; with `edges`, Sobel's too. Raises
    DataError where there is no image, and whatever the folder's reader does.
    """
    data = expanded(data)
    definition = find_competition(config.competition, config)
    examples = examples_as_they_are(config, data)
    task, table = find_task(examples.task), examples.table.reset_index(drop=True)
    log.info(f"{counted(len(table), 'image')}; {examples.task}: {', '.join(examples.labels[:15])}")
    classes = classes_of(table, examples.labels, task.exclusive)
    rows = np.sort(draw(classes, images, config.seed)[0]) if quick else np.arange(len(table))
    looked = looked_at(table.iloc[rows], examples.labels, data, config.image)
    checks = report(examples, looked)
    table = _with_looks(table, looked)
    survey = survey_images(table, classes, data, config.image, images, config.seed, edges)
    fold, doubt = _folds(config, examples)
    shown = _to_show(classes, table, config.seed)
    ids = {name for _, names in findings.duplicates_to_show(checks) for name in names}
    pictured = sorted({*table["path"][np.concatenate(shown)], *table["path"][table["id"].isin(ids)]})
    boxes = boxes_of(table.drop(columns=LABELS, errors="ignore"), examples.labels) if BOXES in table.columns else None
    return data_set.as_page(
        data_set.DataSet(
            title=definition.title,
            subtitle=f"{definition.name}, target {definition.chosen or next(iter(definition.targets))}: "
            f"{examples.task} of {counted(len(examples.labels), 'label')}",
            labels=examples.labels,
            exclusive=task.exclusive,
            table=table,
            side=sides_of(table),
            classes=classes,
            survey=survey,
            fold=fold,
            doubt=doubt,
            checks=checks,
            complete=not quick,
            thumbnails=show(pictured, data, config.image, data_set.SIDE),
            shown=shown,
            metadata=metadata.columns(table, [*filter(is_metadata, examples.table.columns)]),
            boxes=boxes,
            parts=_parts(table, examples.labels) if boxes is not None else None,
        )
    )


def _with_looks(table: pd.DataFrame, looked: pd.DataFrame) -> pd.DataFrame:
    """The example table with what images are; width and height are those that were decoded, where they were."""
    seen = looked.set_index("path")[["format", "channels", "width", "height", "reason"]].reindex(table["path"])
    seen.index = table.index
    seen[["width", "height"]] = seen[["width", "height"]].where(seen["format"].notna())
    known = table.reindex(columns=["width", "height"])
    seen[["width", "height"]] = seen[["width", "height"]].astype(float).fillna(known.astype(float))
    return table.drop(columns=seen.columns, errors="ignore").join(seen)


def _to_show(classes: Classes, table: pd.DataFrame, seed: int) -> list[np.ndarray]:
    """Rows of each class to be shown, drawn at random among those that can be read."""
    count = len(classes.names)
    each = 12 if count <= 3 else max(2, min(6, _MOST_PICTURES // count))
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[table["reason"].isna().to_numpy()[order]]
    return [order[classes.members[order, n]][:each] for n in range(len(classes.names))]


def _folds(config: Config, examples: Examples) -> tuple[np.ndarray | None, str]:
    """The fold of each training row, int, where there can be any; and why training would refuse them, or nothing."""
    train = examples.table[examples.table["split"] == "train"]
    doubt = ""
    try:
        check_folds(config, examples)
    except ConfigError as error:
        doubt = f"A run would be refused: {error}"
    try:
        cell = deal_cells(train)
        dealt = split_folds(int(cell.max()) + 1, config.folds, config.split_seed)
    except ConfigError as error:
        return None, doubt or f"A run would be refused: {error}"
    fold_of = {cell: k for k, cells in enumerate(dealt) for cell in cells}
    return cell.map(fold_of).to_numpy(), doubt


def _parts(table: pd.DataFrame, labels: tuple[str, ...]) -> tuple[list[boxes.Part], list[boxes.Part]]:
    """All boxes in images of known size, with those of each view or label; and those of each value of other columns."""
    sizes = table[["width", "height"]].to_numpy(float)
    has_size = np.isfinite(sizes).all(axis=1)
    own = boxes_of(table, labels) if LABELS in table.columns else boxes_of(table, labels[:1])
    own = own.where(has_size[own.image]).scaled(np.where(has_size[:, None], 1 / sizes, 1))
    known = ((table["split"] == "train") | (np.bincount(own.image, minlength=len(table)) > 0)).to_numpy() & has_size
    shown, others = [boxes.Part("all", known, own)], []
    if LABELS in table.columns:
        shown += [boxes.Part(name, known, own.where(own.label == n)) for n, name in enumerate(labels)]
    for column in metadata.columns(table, [*filter(is_metadata, table.columns)]):
        values = table[column]
        if not 1 < values.nunique() <= _FEW or column in _OF_FILES:
            continue
        parts = []
        for value in sorted(values.dropna().unique(), key=str):
            of = (values == value).to_numpy()
            parts.append(boxes.Part(f"{column}: {value}", known & of, own.where(of[own.image])))
        if _VIEW.search(column) and len(shown) == 1:
            shown += parts
        else:
            others += parts
    return shown, others
