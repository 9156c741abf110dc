"""Your own images in folders by class: `kit run folders --data DIR`.

`train/CLASS/...`, optionally `val/CLASS/...` (folded like train) and `test/CLASS/...`; or `CLASS/...` alone; or
`SITE/CLASS/...`, where each site or patient has the same class folders. The images of a test folder without classes are
predicted. Two classes are one label, the one whose name says so (or `target`); more are one label each. Masks beside
their pictures are left out. `columns.group` is a regular expression for the patient in the path below the class.
With the target `boxes` a file says where in the images something is: kit.data.table.box_examples.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kit import files
from kit.boxes import BOXES
from kit.competition import Competition, Target
from kit.config import Source
from kit.data.table.box_examples import TASK, box_tables, read_box_examples
from kit.data.table.examples import Examples
from kit.data.table.groups import describe_groups, group_by, patient_hint
from kit.data.table.labels import positive_class
from kit.data.table.layout import (
    SPLITS,
    Layout,
    class_depth,
    find_layout,
    refuse_masks_among_classes,
    refuse_patients,
    refuse_splits,
)
from kit.data.table.listing import Listing, found_in, list_folder, require_folder, subfolders
from kit.data.table.masks import are_masks, is_mask_folder, is_picture_folder
from kit.errors import ConfigError, DataError, remarked, some
from kit.tables import one_hot

__all__ = ["COMPETITION", "SPLITS", "examples", "list_classes", "read"]

_LAYOUT = "train/CLASS/* (and val/CLASS/*, test/CLASS/*), or CLASS/*"
_MOST_CLASSES = 100  # more folders than that are something else


def read(root: Path, source: Source) -> Examples:
    """Examples from class folders of any names, or with boxes; raises DataError for fewer than two classes."""
    if source.target == BOXES:
        return read_box_examples(root, source, every_image=True)
    for setting in ("case", "fold"):
        if getattr(source.columns, setting):
            raise ConfigError(f"columns.{setting} names columns of a table, which folders do not have (kit run csv)")
    if source.table is not None:
        raise ConfigError(f"table = {source.table!r}: folders by class need none; boxes do: --set target=boxes")
    rows, remarks = list_classes(root, source.columns.class_folder)
    rows, spellings = _spelled_alike(rows)
    counts = rows["class"][rows["split"] == "train"].value_counts().sort_index()
    classes = list(counts.index)
    refuse_patients(classes, root)
    if len(classes) < 2:
        what = f"only the class {some(classes)}" if classes else "no class folders"
        deeper = rows["inner"][rows["class"].notna()].str.contains("/").all() if classes else False
        remedy = f" (are the folders in {some(classes)}/ the classes? Give that as --data)" if deeper else ""
        if tables := box_tables(root):
            remedy = f" (there are boxes in {some(path.name for path in tables)}: to learn those, --set target=boxes)"
        raise DataError(f"{root} has {what}: expected two or more classes, as {_LAYOUT}{remedy}{_left_out(remarks)}")
    if len(classes) > _MOST_CLASSES:
        raise DataError(
            f"{root} has {len(classes)} folders that would be classes ({some(classes)}), more than {_MOST_CLASSES}: "
            f"expected {_LAYOUT}, or a table of labels (kit run csv)"
        )
    if len(classes) > 2 and source.target is not None:
        what = f"there are {len(classes)} classes ({some(classes)}), and a positive one only of two"
        raise ConfigError(f"target = {source.target!r}: {what}")
    labels, notes = (tuple(classes), ()) if len(classes) > 2 else _positive(counts, source.target)
    groups, hints = _groups(rows, source)
    return examples(rows, classes, labels, groups, {**remarks, **spellings}, (*notes, *hints))


def list_classes(root: Path, class_folder: int | None = None) -> tuple[pd.DataFrame, dict[str, int]]:
    """Columns path, bytes, split, class, part (the folder of the split), folder, name and inner of all images.

    `name` is the path below the folder of the split, `inner` that without the class, `folder` the folders above the
    class, such as the site. The class is missing outside of class folders; so is the split outside of split folders,
    where there are any. Masks are left out. Also returns what else was left out, and how often.
    """
    require_folder(root)
    layout, listing = find_layout(root), list_folder(root)
    has_archives = any(name.lower().endswith(files.ARCHIVES) for name in listing.others)
    if listing.images.empty:
        raise DataError(
            f"{root} holds no image: expected {_LAYOUT}; found {found_in(root)}{_left_out(listing.remarks())}"
            f"{'. Unpack archives first' if has_archives else ''}"
        )
    remarks = listing.remarks()
    top = [files.escaped(part) for part in layout.top.relative_to(root).parts]
    parts = listing.images["path"].str.split("/")
    inside = listing.images["path"].str.startswith("".join(f"{part}/" for part in top))
    images = listing.images[inside].assign(parts=parts[inside].str[len(top) :])
    if not inside.all():
        places = some({f"{path.rpartition('/')[0]}/" for path in listing.images["path"][~inside]}, 2)
        remarks[f"images outside {'/'.join(top)}/, left out ({places})"] = int((~inside).sum())
    images = _with_split(images, layout)
    outside = images["split"].isna()
    beside = images["parts"][outside]
    images = _with_class(images[~outside], layout, class_folder, root)
    if outside.any():
        tops = {parts[0] for parts in beside if len(parts) > 1}
        if doubtful := tops & {*images["class"].dropna()}:
            raise DataError(
                f"{root}: folders of the classes {some(doubtful)} are both in and beside the splits "
                f"({some(layout.splits)}): move them into one of the splits, or out of the data folder"
            )
        places = some({f"{parts[0]}/" if len(parts) > 1 else parts[0] for parts in beside})
        remarks[f"images outside the split folders, left out ({places})"] = int(outside.sum())
    masks = are_masks(images["path"])
    if masks.any():
        what = "masks" if masks.sum() > 1 else "mask"
        remarks[f"{what}, left out ({some(images['path'][masks], 1)})"] = int(masks.sum())
    if empty := _without_image(root, layout, images, listing):
        what = "folders of classes" if len(empty) > 1 else "folder of a class"
        remarks[f"{what} without any image ({some(empty)})"] = len(empty)
    return images[~masks].drop(columns="parts"), remarks


def examples(
    rows: pd.DataFrame,
    classes: Sequence[str],
    labels: tuple[str, ...],
    groups: pd.Series | None = None,
    remarks: dict[str, int] | None = None,
    notes: tuple[str, ...] = (),
) -> Examples:
    """Examples from the rows of `list_classes`; `labels` are all `classes`, or the positive one of two.

    The id is the path below the folder of the split (below the top, where two splits have the same). `groups` are the
    patients; an image without is its own group.
    """
    surplus = rows[rows["class"].isna() & (rows["split"] == "train")]
    rows = rows.drop(index=surplus.index)
    unknown = set(rows["class"].dropna()) - set(classes)
    if unknown:
        raise DataError(f"unknown class folders: {some(unknown)}; expected {', '.join(classes)}")
    ids = rows["name"].where(~rows["name"].duplicated(keep=False), rows["part"] + "/" + rows["name"])
    own = pd.Series(None, rows.index, dtype=object) if groups is None else groups.reindex(rows.index)
    table = pd.concat(
        [
            rows[["path", "bytes", "split", "part", *(["folder"] if rows["folder"].any() else [])]].assign(id=ids),
            own.fillna(ids).rename("group"),
            one_hot(rows["class"], labels),
        ],
        axis=1,
    )
    task = "binary" if len(labels) == 1 else "multiclass"
    return Examples(table, labels, task, surplus=tuple(surplus["path"]), remarks=remarks or {}, notes=notes)


def _with_split(images: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """The images with split and part; `parts` become those below the split folder."""
    if layout.split_at is None:
        return images.assign(split="train", part="train")
    at = layout.split_at
    part = images["parts"].str[at].where(images["parts"].str.len() > at + 1)
    split = part.map(layout.splits)
    below = images["parts"].where(split.isna(), images["parts"].str[:at] + images["parts"].str[at + 1 :])
    return images.assign(split=split, part=part, parts=below)


def _with_class(images: pd.DataFrame, layout: Layout, class_folder: int | None, root: Path) -> pd.DataFrame:
    """The images with class, folder, name and inner, from their `parts`."""
    folders = {tuple(parts[:-1]) for parts in images["parts"][images["split"] == "train"]}
    if not layout.splits:
        refuse_splits({path[0] for path in folders if path}, root)
    at = layout.class_at if layout.class_at is not None else class_depth(folders, class_folder, root)
    if at == 0:
        refuse_masks_among_classes({path[0] for path in folders if path}, root)
    parts = images["parts"]
    has_class = parts.str.len() > at + 1
    above = parts.str[:at].str.join("/").where(has_class, "")
    return images.assign(
        **{"class": parts.str[at].where(has_class)},
        folder=above.where(~above.map(is_picture_folder), ""),
        name=parts.str.join("/"),
        inner=(parts.str[:at] + parts.str[at + 1 :]).where(has_class, parts).str.join("/"),
    )


def _spelled_alike(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows with class names that differ in case and spaces alone taken as one, and a remark for each."""
    counts = rows.assign(train=rows["split"] == "train").groupby("class")["train"].agg(["sum", "size"])
    counts = counts.sort_values(["sum", "size"], ascending=False)
    spellings: dict[str, list[str]] = {}
    for name in counts.index:  # the one of most training images first
        spellings.setdefault(" ".join(name.split()).casefold(), []).append(name)
    several = [names for names in spellings.values() if len(names) > 1]
    first = {name: names[0].strip() for names in spellings.values() for name in names}
    remarks = {
        f"spellings of the class {some(names[:1]).strip()} taken as one ({some(map(repr, names))})": len(names)
        for names in several
    }
    return rows.assign(**{"class": rows["class"].replace(first)}), remarks


def _positive(counts: pd.Series, target: str | None) -> tuple[tuple[str], tuple[str, ...]]:
    """The positive one of two classes, and what to say about it; raises ConfigError, with sizes, where it is open.

    Of names that say nothing but their order, such as a and b or grade1 and grade2, it is the second.
    """
    try:
        return (positive_class(list(counts.index), target),), ()
    except ConfigError as error:
        if target is not None:
            raise
        in_order = _in_order(*counts.index)
        if in_order is None:
            raise ConfigError(f"{error} (there are {' and '.join(map(str, counts))} images)") from error
    first, second = in_order
    note = f"the folders {first} and {second} do not say which class is the positive one: {second} is taken"
    return (second,), (f"{note}. For the other: --set target={first}",)


def _in_order(*names: str) -> tuple[str, str] | None:
    """Two names that differ in their last letter, or number, alone, one of which is the next; None for others."""
    ends = [match for name in names if (match := re.fullmatch(r"(.*?)(\d+|[A-Za-z])", name))]
    if len(ends) < 2 or ends[0][1] != ends[1][1] or (not ends[0][1] and ends[0][2].isdigit()):
        return None  # 1 and 2 alone may be yes and no
    places = [int(end[2]) if end[2].isdigit() else ord(end[2]) for end in ends]
    alike = ends[0][2].isdigit() == ends[1][2].isdigit()
    first, second = sorted(zip(places, names, strict=True))
    return (first[1], second[1]) if alike and second[0] == first[0] + 1 else None


def _groups(rows: pd.DataFrame, source: Source) -> tuple[pd.Series | None, tuple[str, ...]]:
    """The patients of the images, None where unknown, and what to say about them."""
    names = rows["inner"][rows["class"].notna()]
    if source.columns.group is not None:
        groups = group_by(names, source.columns.group, source.columns.ungrouped)
        return groups, (describe_groups(groups),)
    hint = patient_hint(names)
    if hint is None and rows["folder"].any():
        tops = {*rows["folder"]} - {""}
        hint = (
            f"{some(tops)} have the same class folders, and are taken as sites, not classes (column folder). To keep "
            "the images of each on one side of a fold: --set columns.group='^[^/]+'"
        )
    return None, (hint,) if hint else ()


def _without_image(root: Path, layout: Layout, images: pd.DataFrame, listing: Listing) -> list[str]:
    """The folders where classes are expected that hold no image, such as one whose files are of another kind."""
    if images["folder"].any() or layout.class_at is not None:
        return []
    parents = [files.below(layout.top, name) for name in layout.splits] or [layout.top]
    parts = [files.escaped(parent.relative_to(root).as_posix()) for parent in parents]
    prefixes = ["" if part == "." else f"{part}/" for part in parts]
    children = [
        prefix + files.escaped(child.name)
        for prefix, parent in zip(prefixes, parents, strict=True)
        for child in subfolders(parent)
    ]
    held = {f"{path}/" for path in listing.closed}
    for prefix in prefixes:
        held |= {f"{prefix}{name}/" for name in images["path"].str.removeprefix(prefix).str.split("/").str[0].unique()}
    return [f"{name}/" for name in children if f"{name}/" not in held and not is_mask_folder(name.rpartition("/")[2])]


def _left_out(remarks: dict[str, int]) -> str:
    return "".join(f"; {remarked(count, what)}" for what, count in remarks.items())


COMPETITION = Competition(
    name="folders",
    title="Your own images in folders by class",
    slug=None,
    targets={"classes": Target("", (), "roc_auc"), BOXES: Target(TASK, (), "box_ap50")},
    read=read,
    settings=("target", "table", "columns"),
)
