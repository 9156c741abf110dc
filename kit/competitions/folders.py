"""Your own images in folders by class: `kit run folders --data DIR`.

`train/CLASS/...`, optionally `val/CLASS/...` (folded like train) and `test/CLASS/...`; or `CLASS/...` alone. The images
of a test folder without classes are predicted. Two classes are one label, the later name (or `target`); more are one
label each. `columns.group` is a regular expression: its match in the path below the class is the patient.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from kit.competition import Competition, Target
from kit.config import Source
from kit.data.table.examples import Examples
from kit.data.table.listing import folder_with, found_in, list_images, require_folder, subfolders
from kit.errors import ConfigError, DataError, nearest, some
from kit.tables import one_hot

SPLITS = {"train": "train", "training": "train", "val": "train", "valid": "train", "validation": "train"}
SPLITS |= {"test": "test", "testing": "test"}
_LAYOUT = "train/CLASS/* (and val/CLASS/*, test/CLASS/*), or CLASS/*"


def read(root: Path, source: Source) -> Examples:
    """Examples from class folders of any names; raises DataError for fewer than two classes."""
    rows = list_classes(root)
    classes = sorted(rows["class"][rows["split"] == "train"].dropna().unique())
    if len(classes) < 2:
        what = f"only the class {classes[0]}" if classes else "no class folders"
        raise DataError(f"{root} has {what}: expected two or more classes, as {_LAYOUT}")
    if source.target is not None and (len(classes) > 2 or source.target not in classes):
        what = "the positive one of two classes" if len(classes) > 2 else "one of the classes"
        raise ConfigError(f"target = {source.target!r} is not {what}{nearest(source.target, classes)}")
    labels = (source.target or classes[-1],) if len(classes) == 2 else tuple(classes)
    return examples(rows, classes, labels, _group_by(source.columns.group))


def list_classes(root: Path) -> pd.DataFrame:
    """Columns path, bytes, split, class, part (the folder of the split) and name (the path below it) of all images.

    The class is missing outside of class folders; so is the split outside of split folders, where there are any.
    """
    require_folder(root)
    top = _top(root)
    splits = {folder.name: SPLITS[folder.name.lower()] for folder in subfolders(top) if folder.name.lower() in SPLITS}
    images = list_images(root, top.relative_to(root).as_posix())
    if images.empty:
        raise DataError(f"{root} holds no image: expected {_LAYOUT}; found {found_in(root)}")
    below = images["path"].str.split("/").str[len(top.relative_to(root).parts) :]
    deep = 1 if splits else 0
    return images.assign(
        split=below.str[0].map(splits) if splits else "train",
        part=below.str[0] if splits else "train",
        **{"class": below.str[deep].where(below.str.len() > deep + 1)},
        name=below.str[deep:].str.join("/"),
    )


def examples(
    rows: pd.DataFrame, classes: Sequence[str], labels: tuple[str, ...], group_of: Callable[[str], str | None]
) -> Examples:
    """Examples from the rows of `list_classes`; `labels` are all `classes`, or the positive one of two.

    The id is the path below the folder of the split (below the top, where two splits have the same). `group_of` returns
    the patient from the path of an image below its class, or None, which makes the image its own group.
    """
    outside = rows["split"].isna()
    rows = rows[~outside]
    surplus = rows[rows["class"].isna() & (rows["split"] == "train")]
    rows = rows.drop(index=surplus.index)
    unknown = set(rows["class"].dropna()) - set(classes)
    if unknown:
        raise DataError(f"unknown class folders: {some(unknown)}; expected {', '.join(classes)}")
    ids = rows["name"].where(~rows["name"].duplicated(keep=False), rows["part"] + "/" + rows["name"])
    groups = [group_of(name.split("/", 1)[-1]) for name in rows["name"]]
    table = pd.concat(
        [
            rows[["path", "bytes", "split", "part"]].assign(id=ids),
            pd.Series(groups, rows.index, dtype=object).fillna(ids).rename("group"),
            one_hot(rows["class"], labels),
        ],
        axis=1,
    )
    task = "binary" if len(labels) == 1 else "multiclass"
    remarks = {"images outside the split folders, left out": int(outside.sum())} if outside.any() else {}
    return Examples(table, labels, task, surplus=tuple(surplus["path"]), remarks=remarks)


def _top(root: Path) -> Path:
    """The folder of splits or classes: the first with a `train` up to three levels below, else below lone folders."""
    if (folder := folder_with(root, ["train"]) or folder_with(root, ["training"])) is not None:
        return folder
    while len(children := subfolders(root)) == 1 and subfolders(children[0]):
        root = children[0]
    return root


def _group_by(pattern: str | None) -> Callable[[str], str | None]:
    if pattern is None:
        return lambda path: None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"columns.group = {pattern!r} is not a regular expression: {error}") from error

    def group(path: str) -> str | None:
        match = compiled.search(path)
        return match[0] if match else None

    return group


COMPETITION = Competition(
    name="folders",
    title="Your own images in folders by class",
    slug=None,
    targets={"classes": Target("", (), "roc_auc")},
    read=read,
    settings=("target", "columns"),
)
