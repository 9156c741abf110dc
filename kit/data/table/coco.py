"""Boxes in COCO JSON (https://cocodataset.org/#format-data): images, annotations, categories."""

import json
import mmap
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from kit.data.table.boxes import CORNER, Annotations
from kit.data.table.labels import MOST_CLASSES, name_key
from kit.errors import DataError, some

_PARTS = ("images", "annotations", "categories")
ID = "file_name"
_LARGEST = 2**31  # pixels


def is_coco(path: Path) -> bool:
    """Whether a file looks like COCO JSON: it names images and annotations. It is not parsed."""
    if path.suffix.lower() != ".json" or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return all(data.find(f'"{part}"'.encode()) >= 0 for part in _PARTS[:2])


def read_coco(path: Path) -> Annotations:
    """The images and boxes of a COCO file; an image without annotations is one without a box.

    Crowds (`iscrowd`) are left out, with a remark, as are categories without a box. Raises DataError, with the id of
    the annotation, for a box that is not four numbers, a mask (RLE) of another size than its image's, images and
    categories that do not exist or exist twice, and for a file without any box.
    """
    images, annotations, categories = _parts(path)
    sizes = _sizes(path, images)
    file_of = {image["id"]: image[ID] for image in images}
    name_of = _categories(path, categories)
    boxes, places, crowds = [], [], []
    for n, annotation in enumerate(annotations):
        place = annotation.get("id", f"[{n}]")
        where = f"{path}, annotation {place}"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        _require(where, "image_id", image, file_of, "images")
        _require(where, "category_id", category, name_of, "categories")
        _require_mask(where, annotation.get("segmentation"), file_of[image], sizes.get(file_of[image]))
        if annotation.get("iscrowd"):
            crowds.append(file_of[image])
            continue
        boxes.append([file_of[image], *_box(where, annotation), name_of[category]])
        places.append(place)
    if not boxes:
        raise DataError(f"{path}: no image has a box: there is nothing to learn")
    table = pd.DataFrame(boxes, pd.Index(places, name="annotation", dtype=object), ["id", *CORNER, "label"])
    with_boxes = {*table["label"]}
    labels = tuple(name for name in name_of.values() if name in with_boxes)
    if len(labels) > MOST_CLASSES:
        raise DataError(f"{path}: boxes are of {len(labels)} categories, more than {MOST_CLASSES}")
    remarks = {"crowds (iscrowd), left out": len(crowds)} if crowds else {}
    if alone := {*crowds} - {*table["id"]}:
        remarks[f"images with nothing but crowds, taken as images without a box ({some(alone)})"] = len(alone)
    if empty := [name for name in name_of.values() if name not in with_boxes]:
        remarks[f"categories without a box, left out ({some(empty)})"] = len(empty)
    return Annotations(path, ID, _texts(images), table, labels, sizes, remarks)


def _parts(path: Path) -> list[list[dict[str, Any]]]:
    """Images, annotations and categories: lists of objects, of which images and categories have ids and names."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path} as JSON: {error}") from error
    if isinstance(content, list) and content and isinstance(content[0], dict) and "bbox" in content[0]:
        raise DataError(f"{path} is a list of results, not a COCO data set: it has no images and categories")
    parts = []
    for part in _PARTS:
        items = content.get(part) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{path} has no list of objects {part!r}: COCO JSON has {', '.join(_PARTS)}")
        parts.append(items)
    for part, items, name in (("images", parts[0], ID), ("categories", parts[2], "name")):
        for n, item in enumerate(items):
            if not isinstance(item.get("id"), int | str) or not isinstance(item.get(name), str) or not item[name]:
                raise DataError(f"{path}: {part}[{n}] has no id, or no {name}")
        for key in ("id", name):
            _refuse_repeated(path, part, key, [item[key] for item in items])
    return parts


def _refuse_repeated(path: Path, part: str, key: str, values: list[Any]) -> None:
    twice, count = Counter(values).most_common(1)[0] if values else ("", 1)
    if count > 1:
        raise DataError(f"{path}: two {part} have the {key} {twice!r}: each needs its own")


def _categories(path: Path, categories: list[dict[str, Any]]) -> dict[Any, str]:
    """Id -> name, in the order of the file; raises DataError for names that differ in case and spaces alone."""
    names: dict[str, str] = {}
    for category in categories:
        name = category["name"].strip()
        if (key := name_key(name)) in names:
            raise DataError(f"{path}: the categories {names[key]!r} and {name!r} are one name: merge or rename them")
        names[key] = name
    return {category["id"]: category["name"].strip() for category in categories}


def _sizes(path: Path, images: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Width and height of the images that say so, by file name."""
    sizes = {}
    for image in images:
        values = [image[key] for key in ("width", "height") if image.get(key) is not None]
        if not values:
            continue
        if len(values) < 2 or not all(_is_number(value) and value > 0 for value in values):
            raise DataError(f"{path}, image {image['id']} ({image[ID]}): width and height are not both numbers above 0")
        sizes[image[ID]] = (float(values[0]), float(values[1]))
    return sizes


def _box(where: str, annotation: dict[str, Any]) -> list[float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        what = "has no bbox" if box is None or box == [] else f"has the bbox {str(box)[:60]}"
        raise DataError(f"{where} {what}, where [x, y, width, height] is expected")
    return [float(value) for value in box]


def _require(where: str, key: str, value: Any, values: dict[Any, str], part: str) -> None:
    if isinstance(value, list | dict) or value not in values:
        raise DataError(f"{where} has {key} {value!r}, which none of the {part} has: complete or correct the file")


def _require_mask(where: str, mask: Any, name: str, size: tuple[float, float] | None) -> None:
    """Raise DataError for a run-length mask whose size, [height, width], is not the image's."""
    if size is None or not isinstance(mask, dict) or not isinstance(mask.get("size"), list):
        return
    if mask["size"] != [size[1], size[0]]:
        expected = f"[{size[1]:g}, {size[0]:g}]"
        raise DataError(f"{where} has a mask of another size, {mask['size']}, than its image {name}: {expected}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST  # not NaN


def _texts(images: list[dict[str, Any]]) -> pd.DataFrame:
    """What is said of images (patients, splits, ...), as texts; empty where there is nothing."""
    names = dict.fromkeys(key for image in images for key in image)
    plain = [
        [str(value) if isinstance(value := image.get(name), int | float | str) else "" for name in names]
        for image in images
    ]
    return pd.DataFrame(plain, pd.Index([image["id"] for image in images], name="image", dtype=object), [*names], str)
