"""Where in a tree of folders the splits are and where the classes, seen from the names of folders."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kit import files
from kit.data.table.listing import subfolders
from kit.data.table.masks import is_mask_folder, is_picture_folder
from kit.data.table.vocabulary import side
from kit.errors import ConfigError, DataError, some

SPLITS = dict.fromkeys(("train", "training", "val", "valid", "validation", "dev", "development"), "train")
SPLITS |= dict.fromkeys(("test", "testing", "holdout", "eval", "evaluation"), "test")
_FILLERS = {"set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "split", "splits", "folder"}
_FILLERS |= {"sample", "samples", "file", "files", "picture", "pictures", "photo", "photos", "stage"}
_TOKENS = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+")
_FOLD = re.compile(r"(?:cv[ _-]?)?fold[ _-]?\d+", re.IGNORECASE)
_DEEP = 3  # levels below the data folder where splits are looked for
_REPEATED = 0.8  # of the folders of a lower level have a namesake, where they are the classes
_SITE = re.compile(
    r"(?:hospital|site|cent(?:er|re)|clinic|institute|institution|university|cohort|source|scanner|vendor|study|country|"
    r"batch|patient|subject|person|participant)(?:[ _-]?[A-Z]|[ _-]?\d+|[ _-]\w+)?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[A-Z]|.*\d.*", re.IGNORECASE)  # of sites, patients or grades
_PATIENT = re.compile(r"(?:patient|pat|pt|subject|subj|sub|case|person|participant|pid|p)[ _-]?\d+", re.IGNORECASE)
_PATIENTS = 3  # such names are no longer a coincidence


@dataclass(frozen=True)
class Layout:
    """The folder below which the splits or classes are, and how deep below it: 0 is right below.

    `splits` are the names of split folders with the split of each; `split_at` is their depth, None where there are
    none. `class_at` is the depth of the classes where splits lie below them, else None (seen from the images).
    """

    top: Path
    splits: dict[str, str] = field(default_factory=dict)
    split_at: int | None = None
    class_at: int | None = None


def find_layout(root: Path) -> Layout:
    """The layout of a folder: the shallowest folder that holds a training split, else below lone folders.

    Raises DataError where several folders hold splits, and are no classes.
    """
    level = [root]
    for _ in range(_DEEP + 1):
        children = {folder: subfolders(folder) for folder in level}
        tops = {folder: splits_of(files.escaped(path.name) for path in below) for folder, below in children.items()}
        tops = {folder: splits for folder, splits in tops.items() if "train" in splits.values()}
        if len(tops) == 1:
            return Layout(*next(iter(tops.items())), split_at=0)
        if tops:
            return _classes_with_splits(root, tops)
        level = [child for below in children.values() for child in below]
    top = root
    while len(below := subfolders(top)) == 1 and subfolders(below[0]):
        top = below[0]
    return Layout(top)


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """The split, train or test, of those folders that are called as splits: `Train_data`, `test-images`, `fold0`.

    So are `chest_train` and `chest_test`, where all folders are called so.
    """
    names = list(names)
    words = {name: _words(name) for name in names}
    splits = {name: "train" if _FOLD.fullmatch(name) else SPLITS.get("".join(words[name]), "") for name in names}
    if not any(splits.values()) and len(names) > 1:
        told = {name: [word for word in words[name] if word in SPLITS] for name in names}
        others = {tuple(word for word in words[name] if word not in SPLITS) for name in names}
        if len(others) == 1 and all(len(split) == 1 for split in told.values()):
            splits = {name: SPLITS[split[0]] for name, split in told.items()}
            if len({*splits.values()}) == 1:  # of one split each: more likely classes, such as two tests
                return {}
    return {name: split for name, split in splits.items() if split}


def class_depth(folders: Collection[tuple[str, ...]], choice: int | None, root: Path) -> int:
    """How deep the class folders are in the folders of images (below the split): 0 is right below.

    That is `choice` - 1 (`columns.class_folder`), where there is one. Else: classes lie below a folder `images`, or
    below hospitals, sites or patients that each have the same folders. Raises ConfigError where that cannot be told.
    """
    if choice is not None:
        return choice - 1
    folders = [path for path in folders if path and not any(map(is_mask_folder, path[:1]))]
    tops = {path[0] for path in folders}
    pairs = {path[:2] for path in folders if len(path) > 1}
    if tops and all(map(is_picture_folder, tops)) and {top for top, _ in pairs} == tops:
        return 1
    if len(tops) < 2 or any(len(path) == 1 for path in folders):
        return 0
    lower = [name for _, name in pairs]
    shared = {name for name in lower if lower.count(name) > 1}
    generic = all(is_picture_folder(name) or is_mask_folder(name) for name in lower)
    if generic or len(shared) < 2 or sum(name in shared for name in lower) < _REPEATED * len(lower):
        return 0
    return _depth_by_names(tops, shared, root)


def refuse_splits(names: Iterable[str], root: Path) -> None:
    """Raise DataError when some of the folders that would be classes are named like splits."""
    names = {*names}
    if splits := splits_of(names).keys():
        others = f" beside others ({some(names - splits)})" if names - splits else ""
        raise DataError(
            f"{root} has folders named like splits ({some(splits)}){others}, but no training split: expected "
            "train/CLASS/* and test/CLASS/*, or CLASS/* alone. Rename or move them"
        )


def refuse_patients(names: Iterable[str], root: Path) -> None:
    """Raise DataError when the folders that would be classes are named like patients."""
    names = {*names}
    if len(names) >= _PATIENTS and all(map(_PATIENT.fullmatch, names)):
        raise DataError(
            f"{root}: the folders {some(names)} look like patients, not classes: expected CLASS/PATIENT/*, "
            "PATIENT/CLASS/*, or a table of labels (kit run csv)"
        )


def refuse_masks_among_classes(classes: Iterable[str], root: Path) -> None:
    """Raise DataError when folders that would be classes are pictures and their masks."""
    names = sorted(classes)
    pictures, masks = ([name for name in names if is_kind(name)] for is_kind in (is_picture_folder, is_mask_folder))
    if pictures and masks:
        raise DataError(
            f"{root}: {some(pictures)} and {some(masks)} are pictures and their masks, not classes, which kit learns: "
            "put the pictures into a folder for each class, or give a table of labels (kit run csv)"
        )


def _classes_with_splits(root: Path, tops: dict[Path, dict[str, str]]) -> Layout:
    """The layout CLASS/SPLIT/*: several folders beside each other, with splits that hold no folders."""
    parents = {folder.parent for folder in tops}
    flat = all(not subfolders(files.below(folder, name)) for folder, splits in tops.items() for name in splits)
    if len(parents) == 1 and flat:
        splits = {name: split for found in tops.values() for name, split in found.items()}
        return Layout(parents.pop(), splits, split_at=1, class_at=0)
    names = some(f"{folder.relative_to(root).as_posix()}/" for folder in tops)
    raise DataError(f"{root}: {len(tops)} folders have splits of their own ({names}): give one of them with --data")


def _depth_by_names(tops: set[str], lower: set[str], root: Path) -> int:
    """Which of two levels are the classes, where the lower one has the same names everywhere."""
    sites, parts = (all(map(_SITE.fullmatch, level)) for level in (tops, lower))
    if sites != parts:
        return int(sites)
    above, below = (any(map(_means_a_class, level)) for level in (tops, lower))
    tops_numbered, lower_numbered = (all(map(_NUMBERED.fullmatch, level)) for level in (tops, lower))
    if below and not above and (tops_numbered or not lower_numbered):
        return 1
    if above and (not below or lower_numbered):
        return 0
    if tops_numbered != lower_numbered:
        return int(tops_numbered)
    raise ConfigError(
        f"{root}: the folders {some(lower)} are in each of {some(tops)}: which are the classes? Say "
        f"--set columns.class_folder=1 for {some(tops, 2)}, or columns.class_folder=2 for {some(lower, 2)}"
    )


def _means_a_class(name: str) -> bool:
    """Whether a name is 0 or 1, or has a word such as "normal" (not a letter: A and N may be sites)."""
    word = re.sub(r"[\W_]*\d+", "", name)
    return (len(word) > 1 or name.isdigit()) and side(word or name) != 0


def _words(name: str) -> list[str]:
    """The words of a name, lower case, without those that any set of images may have in its name."""
    words = []
    for token in _TOKENS.findall(name):
        word = token.lower()
        for filler in _FILLERS:
            for short in (word.removesuffix(filler), word.removeprefix(filler)):
                word = short if short in SPLITS else word
        words.append(word)
    return [word for word in words if word not in _FILLERS]
