"""Your own images with boxes: a file of boxes, CSV or COCO JSON, and the images below the same folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.config.source import ColumnSettings, Source
from kit.data.pixels.sizes import sizes_of
from kit.data.table.box_table import read_box_table, refuse_label_settings
from kit.data.table.boxes import CORNER, Annotations, inside, listed
from kit.data.table.coco import is_coco, read_coco
from kit.data.table.examples import Examples
from kit.data.table.grouped import groups_of
from kit.data.table.groups import describe_groups, patient_hint
from kit.data.table.ids import name_images
from kit.data.table.layout import SPLITS, find_layout, splits_of
from kit.data.table.listing import found_in, is_junk, list_folder, require_folder, subfolders
from kit.data.table.masks import are_masks
from kit.data.table.raw import refuse_rows
from kit.data.table.unused import patient_column_hint, split_column_hint
from kit.data.table.vocabulary import NOTHING
from kit.delimited import read_delimited
from kit.errors import DataError, counted, some

TASK = "detection"
_TABLES = (".csv", ".tsv", ".txt", ".gz")
_EXPECTED = "a CSV with the columns image, x, y, width and height (pixels), or COCO JSON"


def read_box_examples(root: Path, source: Source, every_image: bool) -> Examples:
    """Examples of a folder with a file of boxes: `source.table`, or the only one that lies in the folder itself.

    With `every_image`, training images that the file does not name are images without a box, else they are surplus.
    The test set are images of a test folder, or whose `columns.split` is test. Raises DataError for files of another
    kind, boxes that are wrong, and images of another size than the file says.
    """
    refuse_label_settings(source.columns)
    require_folder(root)
    path = _find_table(root, source.table)
    annotations = read_coco(path) if path.suffix.lower() == ".json" else read_box_table(path, source.columns)
    images, odd = _images(root, path, annotations.ids)
    naming = name_images(path, annotations.id_column, annotations.ids, images, source.columns.loose_ids)
    images["row"] = naming.ids.where(naming.ids.isin(annotations.ids), None)
    missing = tuple(sorted({*annotations.ids} - {*images["row"]}))
    images, surplus, remarks = _chosen(path, images, every_image)
    images["id"] = _ids(images, every_image)
    if source.columns.split is not None:
        images["split"] = _column_of_splits(annotations, images, source.columns.split)
        images = images.drop(columns="part")
    images = images.reset_index(drop=True)
    images[["width", "height"]] = _sizes(root, images, annotations)
    boxes, cut = _boxes(annotations, images)
    has_truth = images["row"].notna() | (images["split"] == "train")
    images["group"], notes = _groups(annotations, images, source.columns)
    table = pd.concat([images, listed(boxes, images["row"], annotations.labels, has_truth)], axis=1)
    remarks = {**annotations.remarks, **cut, **remarks, **naming.remarks, **odd}
    return Examples(table.drop(columns=["row", "name"]), annotations.labels, TASK, missing, surplus, remarks, notes)


def box_tables(root: Path) -> list[Path]:
    """The files in a folder that look like files of boxes: CSV with their columns, or COCO JSON."""
    return [path for path in sorted(root.iterdir()) if path.is_file() and not is_junk(path.name) and _holds(path)]


def _find_table(root: Path, name: str | None) -> Path:
    if name is not None:
        if not (root / name).is_file():
            raise DataError(f"{root} has no {name}: give {_EXPECTED}, with --set table=FILE; found {found_in(root)}")
        return root / name
    tables = box_tables(root)
    if len(tables) > 1:
        names = some(path.name for path in tables)
        raise DataError(f"{root} has {len(tables)} files of boxes ({names}): choose with --set table=FILE")
    if not tables:
        alike = [
            path for path in sorted(root.iterdir()) if path.is_file() and not is_junk(path.name) and _may_hold(path)
        ]
        if len(alike) == 1:
            return alike[0]  # reading it says what is wrong with it
        raise DataError(
            f"{root} has no file of boxes: expected {_EXPECTED}, in the folder itself or named by --set table=FILE; "
            f"found {found_in(root)}"
        )
    return tables[0]


def _may_hold(path: Path) -> bool:
    return path.name.lower().endswith((*_TABLES, ".json"))


def _holds(path: Path) -> bool:
    """Whether a file looks like one of boxes."""
    if not path.name.lower().endswith(_TABLES):
        return is_coco(path)
    try:
        return {*CORNER} <= {*read_delimited(path, CORNER).table.columns}
    except DataError:
        return False


def _images(root: Path, table: Path, ids: pd.Series) -> tuple[pd.DataFrame, dict[str, int]]:
    """The images without masks (path, bytes, split, part, name), and what is odd about the folder.

    `name` is the path below the folder of the split; `split` is missing outside of such folders.
    """
    listing = list_folder(root)
    others = tuple(path for path in listing.others if root / path != table)
    masks = are_masks(listing.images["path"]) & ~listing.images["path"].isin(ids)
    images, remarks = listing.images[~masks].reset_index(drop=True), replace(listing, others=others).remarks()
    if images.empty:
        raise DataError(f"{root} holds no image; found {found_in(root)}")
    if masks.any():
        remarks["masks beside their pictures, left out"] = int(masks.sum())
    layout = find_layout(root)
    splits = layout.splits or splits_of(files.escaped(folder.name) for folder in subfolders(layout.top))
    top, at = [files.escaped(part) for part in layout.top.relative_to(root).parts], layout.split_at or 0
    outside = None if "train" in splits.values() else "train"
    rows = []
    for path in images["path"]:
        parts = path.split("/")
        inner = parts[len(top) :] if parts[: len(top)] == top else []
        part = inner[at] if len(inner) > at + 1 and inner[at] in splits else None
        name = "/".join(inner[:at] + inner[at + 1 :]) if part else path
        rows.append((splits[part] if part else outside, part or "train", name))
    columns = pd.DataFrame(rows, images.index, ["split", "part", "name"], dtype=object)
    return pd.concat([images, columns], axis=1), remarks


def _chosen(
    path: Path, images: pd.DataFrame, every_image: bool
) -> tuple[pd.DataFrame, tuple[str, ...], dict[str, int]]:
    """The images of the data set, the paths of those that the file should name, and remarks on others."""
    named, outside = images["row"].notna(), images["split"].isna()
    images = images.assign(split=images["split"].fillna("train"))
    bare = ~named & (images["split"] == "train")
    if not every_image:
        return images[~bare], tuple(images["path"][bare]), {}
    remarks = {}
    if (away := bare & outside).any():
        remarks[f"images outside the split folders, left out ({some(images['path'][away], 1)})"] = int(away.sum())
    bare &= ~outside
    for part, rows in images[~outside].groupby("part"):
        if rows["row"].isna().all() and (rows["split"] == "train").all():
            raise DataError(
                f"{path} names no image of {part}/, which has {counted(len(rows), 'image')} ({some(rows['path'], 1)}): "
                "give a file that has their boxes too, or move the folder elsewhere"
            )
    if bare.any():
        names = some(images["path"][bare], 1)
        remarks[f"images for training that {path.name} does not name, taken as images without a box ({names})"] = int(
            bare.sum()
        )
    return images[~away], (), remarks


def _ids(images: pd.DataFrame, every_image: bool) -> pd.Series:
    """The path below the folder of the split (with it, where two have the same); else what the file calls an image."""
    if every_image:
        return images["name"].where(~images["name"].duplicated(keep=False), images["path"])
    return images["row"].where(images["row"].notna(), images["path"])


def _column_of_splits(annotations: Annotations, images: pd.DataFrame, column: str) -> pd.Series:
    """The split of each image: that of the file, where it names the image."""
    raw = annotations.images
    if column not in raw.columns:
        raise DataError(f"{annotations.path} has no column {column!r} (columns.split); it has {some(raw.columns, 6)}")
    split = raw[column].str.strip().str.lower().map(SPLITS)
    refuse_rows(annotations.path, raw, split.isna(), column, "train, val or test")
    return images["row"].map(dict(zip(annotations.ids, split, strict=True))).fillna(images["split"])


def _sizes(root: Path, images: pd.DataFrame, annotations: Annotations) -> np.ndarray:
    """Width and height of the images, [images, 2]: int64, or float64 with NaN where some cannot be read."""
    sizes = sizes_of([files.below(root, path) for path in images["path"]])
    for row, path, size in zip(images["row"], images["path"], sizes, strict=True):
        expected = annotations.sizes.get(row, size)
        if size is not None and expected is not None and (*expected,) != size:
            turned = "turned as its EXIF says, " if (*expected,) == size[::-1] else ""
            raise DataError(
                f"{annotations.path}: the image {row} is {expected[0]:g} x {expected[1]:g} pixels there, but the "
                f"file {path} has {turned}{size[0]} x {size[1]}: boxes must be in pixels of the image as it is shown"
            )
    unknown = (np.nan, np.nan)
    return np.array([size or unknown for size in sizes]).reshape(-1, 2)


def _boxes(annotations: Annotations, images: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The boxes, checked against the sizes of their images and the folders that these are in, and remarks on them."""
    path, boxes = annotations.path, annotations.boxes
    of_row = images[images["row"].notna()].set_index("row")
    folders = of_row["path"].str.casefold().str.split("/").str[:-1]
    healthy = {row for row, parts in folders.items() if not NOTHING.isdisjoint(parts)}
    if (contrary := boxes["id"].isin(healthy)).any():
        row = boxes["id"][contrary].iloc[0]
        more = f" ({contrary.sum()} boxes are like this)" if contrary.sum() > 1 else ""
        raise DataError(
            f"{path}, {boxes.index.name} {boxes.index[contrary][0]}: a box of {row}, whose folder says that nothing is "
            f"found ({of_row['path'][row]}){more}: delete the box, or move the image"
        )
    sizes = of_row[["width", "height"]].reindex(boxes["id"]).set_axis(boxes.index)
    return inside(path, boxes, sizes)


def _groups(
    annotations: Annotations, images: pd.DataFrame, columns: ColumnSettings
) -> tuple[pd.Series, tuple[str, ...]]:
    """The group of each image, the id where it has none, and what to say about groups and splits."""
    raw, path = annotations.images, annotations.path
    used = [annotations.id_column, *CORNER, *columns.label, *filter(None, [columns.split])]
    groups = groups_of(path, raw, annotations.ids, images, images["row"], columns)
    if columns.group is None:
        note = patient_column_hint(raw, used) or patient_hint(images["id"])
    else:
        note = describe_groups(groups)
    of_split = split_column_hint(raw, used) if columns.split is None else None
    return groups.fillna(images["id"]), tuple(filter(None, (note, of_split)))
