"""Raw folder -> example table, or what is odd about the folder."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit.competition import Competition
from kit.competitions import find_competition
from kit.config import Config
from kit.data.records.targets import target_format
from kit.data.table import folds
from kit.data.table.check import check_images
from kit.data.table.counts import count_examples
from kit.data.table.examples import Examples, read_examples, validate
from kit.data.table.exclude import without
from kit.data.table.fold_columns import deal_by, require_dealt, require_folds
from kit.data.table.listing import require_folder
from kit.errors import ConfigError, DataError, counted, remarked, some
from kit.files import PART, expanded
from kit.runtime.session import find_mount
from kit.stages.fold import least_rows
from kit.tables import FOLD_OF

log = logging.getLogger(__name__)


def list_examples(config: Config, data: Path | str) -> Examples:
    """The example table of a raw folder, one row per image, checked. Lists files and reads tables, decodes no image."""
    examples = validate(_read(config, expanded(data)), config.data.max_missing)
    for names, what in (
        (examples.missing, ("expected image has no file", "expected images have no file")),
        (examples.surplus, ("image is unlabelled", "images are unlabelled")),
    ):
        if names:
            log.info(f"left out, as data.max_missing allows: {counted(len(names), *what)}: {some(names)}")
    for remark, count in examples.remarks.items():
        log.info(f"noticed: {remarked(count, remark)}")
    for note in examples.notes:
        log.info(note)
    splits = examples.table["split"].value_counts(sort=False).items()
    sizes = ", ".join(f"{count} {split}" for split, count in sorted(splits, key=lambda each: each[0] != "train"))
    log.info(f"images: {sizes}; {examples.task}: {some(examples.labels, 15)}")
    return examples


def examples_in(config: Config, file: Path) -> Examples:
    """The examples in a file that `kit examples` wrote, checked, without those that `data.exclude` names."""
    examples = _dealt(config, _leave_out(config, read_examples(file)))
    for note in examples.notes:
        log.info(note)
    return validate(examples, config.data.max_missing)


def _read(config: Config, data: Path) -> Examples:
    """The examples of a raw folder without those that `data.exclude` names, not yet checked."""
    return _dealt(config, _leave_out(config, find_competition(config.competition, config).read(data, config)))


def _leave_out(config: Config, examples: Examples) -> Examples:
    return without(examples, Path(config.data.exclude)) if config.data.exclude else examples


def _dealt(config: Config, examples: Examples) -> Examples:
    """The examples with the column that deals folds, where the settings name one."""
    if config.fold_by and config.columns.fold:
        raise ConfigError("fold_by and columns.fold both say how folds are dealt: give one of them")
    if config.fold_by:
        return deal_by(examples, config.fold_by)
    if config.columns.fold and FOLD_OF in examples.table.columns:
        require_dealt(examples, "columns.fold")
    return examples


def check_folds(config: Config, examples: Examples) -> None:
    """Say what the folds of a run on these examples will lack; raises ConfigError where they cannot be."""
    train = examples.table[examples.table["split"] == "train"]
    require_folds(train, config.folds, fixed=config.columns.fold is not None)
    target_format(examples.task).padding(train, config.input.most_boxes)  # raises where boxes have no room
    for note in folds.check_folds(train, examples.labels, config.folds, config.split_seed, least_rows(config)):
        log.info(note)


def check_folder(config: Config, data: Path | str) -> dict[str, Any]:
    """What is in a raw folder and what is odd about it; decodes every image and writes nothing.

    Raises DataError when there is no image.
    """
    data = expanded(data)
    return check_images(examples_as_they_are(config, data), data, config.image)


def examples_as_they_are(config: Config, data: Path) -> Examples:
    """The examples of a raw folder, even those that a run would refuse, which a note then says.

    Raises DataError when there is no image.
    """
    examples = _read(config, data)
    if examples.table.empty:
        missing = (
            f": {len(examples.missing)} are expected, such as {some(examples.missing)}" if examples.missing else ""
        )
        surplus = f"; the files there are named otherwise: {some(examples.surplus)}" if examples.surplus else ""
        raise DataError(f"{data} holds no image of the competition {config.competition_name}{missing}{surplus}")
    try:
        validate(examples, config.data.max_missing)
    except DataError as error:
        return replace(examples, notes=(*examples.notes, f"a run would be refused: {error}"))
    return examples


def count_folder(config: Config, data: Path | str) -> dict[str, Any]:
    """How many images, groups and labels a raw folder has, and what is missing; decodes no image."""
    return count_examples(_read(config, expanded(data)))


def raw_folder(competition: Competition, data: Path | None, default: Path) -> Path:
    """`data`, or Kaggle's mount, or `default`: the folder of a synthetic competition, written now if need be.

    Raises DataError when there is none of them.
    """
    mount = find_mount(competition.slug) if competition.slug else None
    if data is None and mount is None and competition.make is None:
        raise DataError(f"where are the raw files of {competition.name}? Give --data DIR")
    folder = data or mount or default
    if competition.make and not folder.exists():
        part = folder.with_name(f"{PART}{folder.name}")
        shutil.rmtree(part, ignore_errors=True)
        competition.make(part)
        part.rename(folder)
    if data is not None:
        require_folder(data)
    return folder
