"""Groups by name: which patient an image belongs to, read from its path or id by a regular expression."""

import re

import pandas as pd

from kit.errors import ConfigError, DataError, share_to_allow, some

_FEWEST = 3  # groups that a hint needs: fewer may be anything
_SHARED = 0.2  # share of the images that a hint needs to see together with another one of their group
_MANY = 8  # folders without a digit in their names that are more likely patients than classes or hospitals
_WORDS = ("patient", "pat", "pt", "subject", "subj", "sub", "case", "person", "pid", "mouse", "animal", "donor")
_SPELLINGS = [spelling for word in _WORDS for spelling in (word, word.capitalize(), word.upper())]
# What names patients, most telling first: a word with a number, a folder, the file name up to the `_` after a number.
_FOLDERS = (r"([^/]+)/[^/]+$", r"([^/]+)/[^/]+/[^/]+$")
_PATIENTS = (
    *(rf"({spelling}[-_ ]?\d+)" for spelling in _SPELLINGS),
    r"(sub-[A-Za-z0-9]+)",
    *_FOLDERS,
    r"([^/]*?\d[^/_-]*)[_-][^/]*$",
)
_BATCH = re.compile(r"(?i)(images?|img|imgs|pictures|photos|files|part|batch|chunk|fold|train|test|val)[-_ ]?\d{0,3}")


def group_by(paths: pd.Series, pattern: str, ungrouped: float) -> pd.Series:
    """The group of each path (or id): what a regular expression finds in it, with the index of `paths`.

    That is its named group `group`, or the first named one, or the first capture group, or the whole match. None where
    nothing, or an empty text, is matched: a share of up to `ungrouped` (0..1) may be. Raises ConfigError for a pattern
    that is no regular expression, DataError for more unmatched paths and for one group of all.
    """
    compiled = compile_pattern(pattern)
    names = list(compiled.groupindex)
    which: str | int = "group" if "group" in names else names[0] if names else min(compiled.groups, 1)
    matches = [compiled.search(path) for path in paths]
    groups = pd.Series([(match[which] or None) if match else None for match in matches], paths.index, dtype=object)
    absent = groups.isna()
    if absent.mean() > ungrouped:
        share = share_to_allow(absent.sum(), len(paths))
        remedy = f"or let these be groups of their own with --set columns.ungrouped={share:g}"
        raise DataError(
            f"columns.group = '{pattern}' finds no group in {absent.sum()} of {len(paths)} images "
            f"({absent.mean():.0%}): {some(paths[absent])}. Give a pattern that matches "
            + ("them" if absent.all() else f"all, {remedy}")
        )
    if len(groups) > 1 and groups.nunique() == 1 and not absent.any():
        raise DataError(
            f"columns.group = '{pattern}' finds the same group, {groups.iloc[0]!r}, in all {len(groups)} images: give "
            "a pattern that tells patients apart"
        )
    return groups


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled; raises ConfigError when it is no regular expression."""
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"columns.group = '{pattern}' is not a regular expression: {error}") from error


def describe_groups(groups: pd.Series) -> str:
    """One line on the groups: how many, of how many images, the three first with their sizes, and images without."""
    sizes = groups.value_counts().sort_index()
    alone = int(groups.isna().sum())
    if sizes.empty:
        return f"groups: none; each of {alone} images is a group of its own"
    least, most = int(sizes.min()), int(sizes.max())
    images = f"{least} to {most} images" if least != most else f"{most} image{'s' * (most > 1)}"
    examples = ", ".join(f"{name} ({size})" for name, size in sizes.head(3).items())
    line = f"groups: {len(sizes)} of {images}{' each' * (least == most and len(sizes) > 1)}, such as {examples}"
    return line + (f"; {alone} more images are groups of their own" if alone else "")


def patient_hint(paths: pd.Series) -> str | None:
    """A remark when paths (or ids) look like several images of each patient, with the pattern that groups by them.

    None where no pattern tells at least three patients of several images apart.
    """
    for pattern in _PATIENTS:
        if not re.search(pattern, next(iter(paths), "")):
            continue
        groups = paths.str.extract(pattern, expand=False)
        if groups.isna().any():
            continue
        sizes = groups.value_counts()
        numbered = sizes.index.str.contains(r"\d").mean() > 0.5
        if pattern in _FOLDERS and not numbered and len(sizes) < _MANY:
            continue
        if not has_patients(groups) or all(_BATCH.fullmatch(name) for name in sizes.index):
            continue
        line = describe_groups(groups).removeprefix("groups: ")
        return (
            f"names look like patients: {line}. Each image is taken as a patient of its own, so images of one patient "
            f"can be on both sides of a fold, and scores too good: --set columns.group='{pattern}'"
        )
    return None


def has_patients(groups: pd.Series) -> bool:
    """Whether groups (None where an image has none) are at least three, and several images have one in common."""
    sizes = groups.value_counts()
    return len(sizes) >= _FEWEST and sizes[sizes > 1].sum() >= _SHARED * len(groups)
