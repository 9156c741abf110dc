"""A data set on one page: what there is, what it looks like, what is odd about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kit.boxes import Boxes
from kit.errors import counted
from kit.report import page, pictures
from kit.report.eda import boxes, findings, labels, metadata, pixels
from kit.report.eda.boxes import Part

if TYPE_CHECKING:
    from kit.data.table.survey import Classes, Survey, Thumbnail

SIDE = 224  # pixels of a picture


@dataclass(frozen=True)
class DataSet:
    """What a page is made of.

    `table` is the example table, with what every image that was looked at is (columns format, channels, width, height,
    reason); `side` the official side of each row. `fold` int [training rows] is how folds will be dealt, where they can
    be, and `doubt` why training would refuse them. `checks` is what kit.data.table.check reports, of every image or
    not (`complete`). `thumbnails` are by path; `shown` are rows of each class; `metadata` names of columns; `boxes`
    those of all rows, in pixels of the source, and `parts` what `boxes.blocks` takes, where there are boxes.
    """

    title: str
    subtitle: str
    labels: tuple[str, ...]
    exclusive: bool
    table: pd.DataFrame
    side: pd.Series
    classes: "Classes"
    survey: "Survey"
    fold: np.ndarray | None
    doubt: str
    checks: Mapping[str, Any]
    complete: bool
    thumbnails: "Mapping[str, Thumbnail]"
    shown: Sequence[np.ndarray]
    metadata: Sequence[str]
    boxes: Boxes | None
    parts: tuple[Sequence[Part], Sequence[Part]] | None


def as_page(data: DataSet) -> page.Page:
    """The page."""
    sections = [
        page.Section("Overview", "overview", _overview(data)),
        page.Section("Findings", "findings", _findings(data)),
        page.Section("Labels", "labels", _labels(data)),
        page.Section("Images", "images", _images(data)),
        page.Section("Files", "files", _files(data)),
        page.Section("Pixels", "pixels", _pixels(data)),
        page.Section("Metadata", "metadata", _metadata(data)),
        page.Section("Boxes", "boxes", boxes.blocks(*data.parts) if data.parts else []),
    ]
    return page.Page(data.title, data.subtitle, sections)


def _overview(data: DataSet) -> list[page.Block]:
    images, groups = len(data.table), data.table["group"].nunique()
    grouped = "each a group of its own" if groups == images else f"of {groups:,} groups (patients)"
    text = f"{images:,} images, {grouped}. {'Classes' if data.exclusive else 'Labels'}: {', '.join(data.labels)}."
    return [page.Text(text, "lead"), *labels.splits(data.table, data.side, data.labels)]


def _findings(data: DataSet) -> list[page.Block]:
    path_of = dict(zip(data.table["id"], data.table["path"], strict=True))
    ids = [name for _, names in findings.duplicates_to_show(data.checks) for name in names]
    side = dict(zip(data.table["id"], data.side, strict=True))
    number = {name: n for n, name in enumerate(data.table["id"])} if ids else {}
    images, texts = {}, {}
    for name in ids:
        thumbnail = data.thumbnails.get(path_of[name])
        if thumbnail is not None:
            images[name] = pictures.jpeg(thumbnail.image, SIDE)
            texts[name] = f"{name}\n{side[name]}: {_label_text(data, number[name])}"
    return findings.blocks(data.checks, images, texts, data.complete)


def _label_text(data: DataSet, row: int) -> str:
    names = [name for name, inside in zip(data.classes.names, data.classes.members[row], strict=True) if inside]
    return ", ".join(names) or "label unknown"


def _labels(data: DataSet) -> list[page.Block]:
    blocks: list[page.Block] = [labels.frequencies(data.classes.names, data.classes.members)]
    if len(data.labels) > 1 and not data.exclusive:
        blocks.append(labels.together(data.table, data.labels))
    blocks += [page.Text(data.doubt, "warning")] if data.doubt else []
    if data.fold is None:
        return blocks
    train = data.table[data.table["split"] == "train"]
    return [*blocks, *labels.folds(train, data.fold, data.labels)]


def _images(data: DataSet) -> list[page.Block]:
    blocks: list[page.Block] = []
    for name, rows in zip(data.classes.names, data.shown, strict=True):
        shown = [picture for row in rows if (picture := _picture(data, int(row))) is not None]
        if shown:
            blocks.append(page.Gallery(shown, f"{name}: {len(shown)} images drawn at random."))
    if data.boxes is not None and blocks:
        blocks.insert(0, page.Text("Boxes are drawn in green.", "note"))
    return blocks


def _picture(data: DataSet, row: int) -> page.Picture | None:
    name, path = data.table["id"].iloc[row], data.table["path"].iloc[row]
    thumbnail = data.thumbnails.get(path)
    if thumbnail is None:
        return None
    image = thumbnail.image
    if data.boxes is not None:
        own = data.boxes.xywh[data.boxes.image == row] / np.tile([thumbnail.width, thumbnail.height], 2)
        image = pictures.with_boxes(image, own, pictures.TRUE, side=SIDE) if len(own) else image
    text = f"{name}\n{_label_text(data, row)}" if len(data.labels) > 1 and not data.exclusive else name
    return page.Picture(pictures.jpeg(image, SIDE), f"{name}: {_label_text(data, row)}", text)


def _files(data: DataSet) -> list[page.Block]:
    readable = data.table["format"].notna().to_numpy()
    table, members = data.table[readable], data.classes.members[readable]
    if table.empty:
        return []
    return [
        *pixels.kinds(table, data.classes.names, members),
        *pixels.sizes(table, data.classes.names, members),
    ]


def _pixels(data: DataSet) -> list[page.Block]:
    survey, rows = data.survey, data.survey.rows
    if not len(rows):
        return []
    few = data.classes.largest(pixels.LINES)
    members = few.members[rows]
    added = int((~survey.random).sum())
    more = f", and {counted(added, 'image')} more of classes that it has few of" if added else ""
    note = f"From {int(survey.random.sum()):,} images drawn at random{more}."
    blocks: list[page.Block] = [page.Text(note, "note")]
    if remark := pixels.remark_on_classes(few.names, len(data.classes.names)):
        blocks.append(remark)
    blocks.append(pixels.grey_levels(few.names, members, survey.grey))
    is_test = (data.table["split"].to_numpy() == "test")[rows]
    train, test = (survey.grey[survey.random & (is_test == side)] for side in (False, True))
    if len(train) and len(test):
        blocks.append(pixels.grey_by_split(train, test))
    blocks += pixels.colours(few.names, members, survey.colour)
    return blocks + pixels.mean_images(data.classes.names, survey.means, survey.edges)


def _metadata(data: DataSet) -> list[page.Block]:
    return metadata.blocks(data.table, data.classes.names, data.classes.members, data.metadata)
