"""Looking at the data before anything is trained: what is there, what is odd. Every image is decoded, none is kept.

Images are duplicates when their pixels are equal, whatever their files are: the hash is that of the decoded image, with
grey in three channels taken as grey.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from kit.boxes import BOXES
from kit.config import ImageSettings
from kit.data.pixels.arrays import unpacked
from kit.data.pixels.look import Look, look
from kit.data.table.counts import as_dict, count_examples, counts_of_splits, images_per_group, named, sides_of
from kit.data.table.examples import Examples
from kit.errors import WorkerDied, counted, remarked, some
from kit.parallel import count_workers, in_processes, progress_bar
from kit.tables import truth_columns

_AT_ONCE = 50  # images per call of a worker


def check_images(examples: Examples, root: Path, settings: ImageSettings, workers: int | None = None) -> dict[str, Any]:
    """Counts, sizes, formats; missing, surplus and unreadable files; duplicates and groups on two sides. Fit for JSON.

    Sides are the official ones: the folders or lists of the data (column `part`), else train and test.
    """
    return report(examples, looked_at(examples.table, examples.labels, root, settings, workers))


def looked_at(
    table: pd.DataFrame, labels: Sequence[str], root: Path, settings: ImageSettings, workers: int | None = None
) -> pd.DataFrame:
    """The rows of an example table, every image decoded: the columns that `report` takes, and those of a `Look`."""
    kept = ["id", "path", "group", "split", "part", BOXES, *truth_columns(labels)]
    rows = table[[column for column in kept if column in table.columns]].reset_index(drop=True)
    seen = pd.DataFrame(look_at([*rows["path"]], root, settings, workers), columns=Look._fields)
    return rows.merge(seen, on="path", how="left", validate="one_to_one")


def report(examples: Examples, table: pd.DataFrame) -> dict[str, Any]:
    """What `check_images` returns, of examples that were looked at."""
    side = sides_of(table)
    readable = table[table["reason"].isna()]
    sizes = (readable["width"].astype(str) + "x" + readable["height"].astype(str)).value_counts()
    between = pd.concat([readable["width"], readable["height"]])
    return {
        **count_examples(examples),
        "sizes": {"count": len(sizes), "pixels": _range(between), "most": as_dict(sizes.head(5))},
        "formats": as_dict(readable["format"].value_counts()),
        "channels": as_dict(readable["channels"].value_counts()),
        "with_alpha": sorted(readable["path"][readable["channels"].isin(["RGBA", "LA", "PA"])]),
        "unreadable": table[table["reason"].notna()][["path", "reason"]].to_dict("records"),
        "remarks": dict(Counter(examples.remarks) + Counter(chain.from_iterable(table["remarks"]))),
        "duplicates": _duplicates(readable, side, examples),
    }


def look_at(paths: list[str], root: Path, settings: ImageSettings, workers: int | None = None) -> list[Look]:
    """A `Look` at each of some paths below `root`, in any order."""
    chunks = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    seen: list[Look] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        unpacked(root, paths, Path(scratch)) as arrays,
        progress_bar("look", "image", len(paths)) as bar,
    ):
        calls = ((chunk, root, arrays, settings) for chunk in chunks)
        processes = count_workers(len(paths), workers)
        try:
            for looks in in_processes(look, calls, processes):
                seen += looks
                bar.update(len(looks))
        except WorkerDied as error:
            done = {look.path for look in seen}
            begun = [f"{chunk[0]} to {chunk[-1]}" for chunk in chunks if chunk[0] not in done][:processes]
            raise WorkerDied(f"{error}; being read: one of {' or '.join(begun)}") from error
    return seen


def as_text(report: dict[str, Any]) -> str:
    """The report of `check_images` as one screen of text; only the JSON has all names."""
    lines = counts_of_splits(report)
    sizes = report["sizes"]
    lines += [
        f"sizes      {sizes['count']} different, sides {sizes['pixels']} pixels; most: {_listed(sizes['most'])}",
        f"formats    {_listed(report['formats'])}",
        f"channels   {_listed(report['channels'])}",
        f"per group  {images_per_group(report['images_per_group'])}",
    ]
    for what in ("missing", "surplus"):
        lines.append(f"{what:10} {named(report[what])}")
    lines.append("unreadable " + named(["{path} ({reason})".format(**bad) for bad in report["unreadable"]]))
    if report["with_alpha"]:
        lines.append(f"alpha      {named(report['with_alpha'])} (transparency is not used)")
    lines += [f"noticed    {remarked(count, what)}" for what, count in report["remarks"].items()]
    lines += report["notes"]
    duplicates = report["duplicates"]
    lines.append(f"duplicates {counted(duplicates['images'], 'image has', 'images have')} the same pixels as another")
    for kind, words in (
        ("within_class", "of one class"),
        ("across_classes", "IN SEVERAL CLASSES: one of the labels is wrong"),
        ("across_boxes", "WITH DIFFERENT BOXES"),
        ("across_groups", "in several groups: one can be on each side of a fold"),
        ("across_splits", "IN SEVERAL SPLITS"),
    ):
        sets = duplicates[kind]
        if sets:
            examples = some([" = ".join(same) for same in sets], 2)
            lines.append(f"  {len(sets)} set{'s' * (len(sets) > 1)} {words}: {examples}")
    shared = report["groups_in_several_splits"]
    lines.append(f"groups in several splits: {named(shared)}")
    return "\n".join(lines)


def _duplicates(table: pd.DataFrame, side: pd.Series, examples: Examples) -> dict[str, Any]:
    """Sets of ids whose images are equal, by what else they share; a set can be in several lists."""
    equal = table[table["pixels"].duplicated(keep=False)]
    kinds: dict[str, Any] = {"images": len(equal)}
    kinds |= {kind: [] for kind in ("within_class", "across_classes", "across_boxes", "across_groups", "across_splits")}
    labels = truth_columns(examples.labels)
    for _, rows in equal.groupby("pixels", sort=False):
        ids = sorted(rows["id"])
        truths = rows[labels].dropna(how="all").drop_duplicates()
        kinds["across_classes" if len(truths) > 1 else "within_class"].append(ids)
        if BOXES in rows.columns and rows[BOXES][rows[labels].notna().any(axis=1)].map(repr).nunique() > 1:
            kinds["across_boxes"].append(ids)
        if rows["group"].nunique() > 1:
            kinds["across_groups"].append(ids)
        if side[rows.index].nunique() > 1:
            kinds["across_splits"].append(ids)
    return {kind: sets if kind == "images" else sorted(sets) for kind, sets in kinds.items()}


def _range(values: pd.Series) -> str:
    if values.empty:
        return "no"
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
