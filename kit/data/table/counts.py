"""What an example table holds: images, groups, labels and boxes of each side. No image is decoded."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kit.boxes import BOXES, LABELS, boxes_of
from kit.data.table.examples import Examples
from kit.errors import counted, remarked, some
from kit.tables import truth

_ORDER = "train val test"  # others come first
_MANY = 6  # boxes in an image, from which they are counted together


def count_examples(examples: Examples) -> dict[str, Any]:
    """Counts by side and label; missing and surplus files; groups on two sides. Fit for JSON."""
    table = examples.table.reset_index(drop=True)
    side = sides_of(table)
    sides = side.groupby(table["group"]).unique()
    return {
        "task": examples.task,
        "images": len(table),
        "groups": int(table["group"].nunique()),
        "splits": {name: _counts(table[side == name], examples) for name in sorted(side.unique(), key=_ORDER.find)},
        **({"boxes": _box_counts(table, examples.labels)} if BOXES in table.columns else {}),
        "images_per_group": as_dict(table.groupby("group").size().value_counts().sort_index()),
        "missing": [*examples.missing],
        "surplus": [*examples.surplus],
        "remarks": examples.remarks,
        "notes": [*examples.notes],
        "groups_in_several_splits": sorted(sides.index[sides.map(len) > 1]),
    }


def sides_of(table: pd.DataFrame) -> pd.Series:
    """The official side of each image: the folder or list of the data (column `part`), else train or test."""
    return table["part"] if "part" in table.columns else table["split"]


def as_text(report: dict[str, Any]) -> str:
    """The counts as text: what `kit examples` prints without further options."""
    lines = [*counts_of_splits(report), f"per group  {images_per_group(report['images_per_group'])}"]
    lines += [f"{what:10} {named(report[what])}" for what in ("missing", "surplus")]
    lines += [f"noticed    {remarked(count, what)}" for what, count in report["remarks"].items()]
    lines += report["notes"]
    return "\n".join([*lines, f"groups in several splits: {named(report['groups_in_several_splits'])}"])


def counts_of_splits(report: dict[str, Any]) -> list[str]:
    """A line for all images, and one for each side with the counts of its labels."""
    lines = [f"{counted(report['images'], 'image')}, {counted(report['groups'], 'group')}, {report['task']}"]
    for name, counts in report["splits"].items():
        labels = "  ".join(f"{label} {count}" for label, count in counts["labels"].items())
        unlabelled = f"  (unlabelled {counts['unlabelled']})" if counts["unlabelled"] else ""
        size = f"{counted(counts['images'], 'image')}, {counted(counts['groups'], 'group')}"
        lines.append(f"  {name}: {size}   {labels}{unlabelled}")
    return lines + (_lines_of_boxes(report["boxes"]) if "boxes" in report else [])


def _lines_of_boxes(boxes: dict[str, Any]) -> list[str]:
    """How many boxes, in how many images; how large they are."""
    few = {number: images for number, images in boxes["per_image"].items() if int(number) < _MANY}
    many = sum(images for number, images in boxes["per_image"].items() if int(number) >= _MANY)
    of_images = [f"{number} in {counted(images, 'image')}" for number, images in few.items()]
    of_images += [f"{_MANY} or more in {counted(many, 'image')}"] * (many > 0)
    lines = [f"boxes      {boxes['boxes']}: {', '.join(of_images) or 'no image has a known truth'}"]
    if boxes["labels"]:
        lines.append("  of " + "  ".join(f"{label} {count}" for label, count in boxes["labels"].items()))
    sizes = [f"{side} {low:g} to {high:g} (median {mid:g}) pixels" for side, (low, mid, high) in boxes["sides"].items()]
    sizes += [f"area {low:.2%} to {high:.2%} (median {mid:.2%}) of the image" for low, mid, high in boxes["area"]]
    return lines + [f"  {', '.join(sizes)}"] * bool(sizes)


def _box_counts(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """How many boxes images with a known truth have, and how large they are: least, median, largest."""
    rows = table[~np.isnan(truth(table, labels)).all(axis=1)]
    boxes = boxes_of(rows.drop(columns=LABELS, errors="ignore"), labels)
    per_image = pd.Series(np.bincount(boxes.image, minlength=boxes.images)).value_counts().sort_index()
    names = Counter(name for cell in rows.get(LABELS, []) for name in cell)
    width, height = boxes.xywh[:, 2:].T
    sizes = rows.reindex(columns=["width", "height"]).to_numpy(np.float64, na_value=np.nan)
    shares = width * height / sizes.prod(axis=1)[boxes.image]
    return {
        "boxes": len(boxes),
        "per_image": as_dict(per_image[per_image > 0]),
        "labels": {label: names[label] for label in labels} if names else {},
        "sides": {"width": _spread(width), "height": _spread(height)} if len(boxes) else {},
        "area": [_spread(shares[shares > 0])] if (shares > 0).any() else [],
    }


def _spread(values: np.ndarray) -> list[float]:
    """The least, the median and the largest value, to six digits."""
    return [float(f"{value:.6g}") for value in np.quantile(values, [0, 0.5, 1])]


def images_per_group(counts: dict[str, int]) -> str:
    """Such as `1 image: 150 groups, 2 images: 12 groups, 3 to 9 images: 4 groups`."""
    most = max(map(int, counts), default=0)
    binned: Counter[str] = Counter()
    for images, groups in counts.items():
        first = int(images)
        key = images if first < 3 else _range(3, min(9, most)) if first < 10 else _range(10, most)
        binned[key] += groups
    return ", ".join(f"{key} image{'s' * (key != '1')}: {counted(groups, 'group')}" for key, groups in binned.items())


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def named(names: list[str]) -> str:
    """How many, and the first few of them."""
    return f"{len(names)}: {some(names)}" if names else "0"


def as_dict(counts: pd.Series) -> dict[str, int]:
    """Counts with names and whole numbers that JSON has."""
    return {str(key): int(count) for key, count in counts.items()}


def _counts(rows: pd.DataFrame, examples: Examples) -> dict[str, Any]:
    y = truth(rows, examples.labels)
    labels = dict(zip(examples.labels, (y > 0.5).sum(axis=0).tolist(), strict=True))
    if len(examples.labels) == 1:
        labels[f"not {examples.labels[0]}"] = int((y < 0.5).sum())
    labelled = ~np.isnan(y).all(axis=1)
    return {
        "images": len(rows),
        "groups": int(rows["group"].nunique()),
        "labels": labels if labelled.any() else {},
        "unlabelled": int((~labelled).sum()),
    }
