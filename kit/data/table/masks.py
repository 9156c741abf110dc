"""Masks of a segmentation data set lie beside the pictures of lesions or organs: nothing to train a class on."""

import re

import pandas as pd

_NOUNS = "masks?|seg|segm|segmentations?|gt|ground[ _-]?truth|labels?|annotations?"
_SUFFIX = re.compile(rf"(?P<stem>.+?)[ _.-]+(?:{_NOUNS})(?:[ _.-]*\(?\d+\)?)?", re.IGNORECASE)
_PREFIX = re.compile(rf"(?:{_NOUNS})[ _.-]+(?P<stem>.+)", re.IGNORECASE)
_MAYBE = r"(?i)mask|seg|gt|truth|label|annotation"
_MASKS = re.compile(rf"(?:binary[ _-]?)?(?:{_NOUNS})", re.IGNORECASE)
_PICTURES = re.compile(
    r"(?:images?|imgs?|pictures?|photos?|originals?|raw|scans?|frames?|slices?|x-?rays?|cxr|inputs?)", re.IGNORECASE
)


def is_mask_folder(name: str) -> bool:
    """Whether a folder is called as those of masks are: masks, labels, ground_truth."""
    return _MASKS.fullmatch(name) is not None


def is_picture_folder(name: str) -> bool:
    """Whether a folder is called as those of the pictures beside masks are: images, photos, scans."""
    return _PICTURES.fullmatch(name) is not None


def are_masks(paths: pd.Series) -> pd.Series:
    """Which of the paths of images are masks of others: bool, with the index of `paths`.

    A mask has the name of a picture beside it (`1_mask.png`, `1_seg_2.png`), or lies in a folder `masks` beside
    a folder `images`, or below the pictures that have its name.
    """
    masks = paths.str.contains(_MAYBE, regex=True)
    if not masks.any():
        return masks
    stems = {_stem(path) for path in paths}
    folders = {path.lower().rpartition("/")[0] for path in paths}
    parents = _parents_of_pictures(folders)
    return pd.Series(
        [may and _is_mask(path, stems, parents) for path, may in zip(paths, masks, strict=True)], paths.index
    )


def _is_mask(path: str, stems: set[str], parents: set[str]) -> bool:
    folder, _, name = _stem(path).rpartition("/")
    if any(f"{folder}/{picture}".lstrip("/") in stems for picture in _pictures_of(name)):
        return True
    parts = folder.split("/")
    for depth, part in enumerate(parts):
        if is_mask_folder(part):
            above = "/".join(parts[:depth])
            beside = "/".join([*parts[:depth], *parts[depth + 1 :]])
            if above in parents or any(
                f"{beside}/{picture}".lstrip("/") in stems for picture in [name, *_pictures_of(name)]
            ):
                return True
    return False


def _pictures_of(name: str) -> list[str]:
    """The names that the picture of a mask can have: without `_mask` at its end, or at its beginning."""
    matches = (pattern.fullmatch(name) for pattern in (_SUFFIX, _PREFIX))
    return [match["stem"].rstrip(" _.-") for match in matches if match]


def _parents_of_pictures(folders: set[str]) -> set[str]:
    """The folders that hold a folder of pictures, by its name."""
    parents = set()
    for folder in folders:
        parts = folder.split("/")
        parents |= {"/".join(parts[:depth]) for depth, part in enumerate(parts) if is_picture_folder(part)}
    return parents


def _stem(path: str) -> str:
    """The path in lower case, without the ending of its file name."""
    folder, slash, name = path.lower().rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)
