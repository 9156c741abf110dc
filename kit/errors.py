"""What can go wrong through no fault of the kit: one clear message each, exit code 2."""

import math
import re
from collections.abc import Iterable
from difflib import get_close_matches

_SINGULAR = {"are": "is", "have": "has", "their": "its"}
_NOUNS = {"class": "class", "classes": "class", "boxes": "box", "categories": "category"}


class KitError(Exception):
    """What is wrong, where (file or row), and what to do about it; printed as it is, without a traceback."""


class ConfigError(KitError):
    """A setting, a model or a competition that does not exist, or a value that a setting cannot take."""


class DataError(KitError):
    """Raw files, tables or records that are missing, broken or contradict each other."""


class WorkerDied(DataError):
    """A worker process that ended before its work was done."""


class UnreadableImage(Exception):
    """Why one file is not an image; the records build notes it and goes on."""


class FullDisk(DataError):
    """A file that could not be written because the disk, or the user's quota, is full."""


class TrainingError(KitError):
    """Training that cannot continue: the loss is NaN, or even half a batch does not fit in memory."""


class LeakError(KitError):
    """A group (patient, slide) stands on both sides of a split."""


class SubmissionError(KitError):
    """A submission that the competition would refuse or score wrongly."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`"; did you mean 'size'?"` for those of `names` closest to `name`, else the list of them all.

    Case and marks do not count. Names that begin with `name` come first, in the order of `names` if that is a list
    (the likeliest first) and else the shortest first.
    """
    names = names if isinstance(names, list) else sorted(names, key=lambda each: (len(each), each))
    close = close_names(name, names)
    if close:
        return "; did you mean " + " or ".join(map(repr, close)) + "?"
    return "; known: " + (", ".join(sorted(names)) or "none")


def close_names(name: str, names: Iterable[str], at_most: int = 3) -> list[str]:
    """Those of `names` that are most like `name`, the likeliest first; none where all are very different."""
    plain: dict[str, list[str]] = {}
    for each in names:
        plain.setdefault(_plain(each), []).append(each)
    sought = _plain(name)
    begin = [each for each in plain if sought and each.startswith(sought)]
    like = [each for each in get_close_matches(sought, plain, n=at_most, cutoff=0.5) if each not in begin]
    almost = get_close_matches(sought, like, n=at_most, cutoff=0.88)  # a letter too many, as in pcamm
    exact = [each for each in begin if each == sought]
    return [each for key in dict.fromkeys([*exact, *almost, *begin, *like]) for each in plain[key]][:at_most]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter == ".")


def some(names: Iterable[str], at_most: int = 3) -> str:
    """The first few of `names`, sorted, and how many more there are: `a, b, c and 12 more`."""
    names = sorted(names)
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")


def share_to_allow(count: int, total: int) -> float:
    """`count` of `total` as the value of a setting that allows it: rounded up to a tenth of a percent."""
    return math.ceil(1000 * count / total) / 1000


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 image`, `2 images`; `nouns` is the plural where that is not an s more."""
    return f"{count} {noun if count == 1 else nouns or f'{noun}s'}"


def remarked(count: int, remark: str) -> str:
    """A remark with how often it holds; of one thing in the singular: `1 file that is no image, left out`."""
    if count != 1:
        return f"{count} {remark}"
    clause, mark, rest = re.split(r"([:,('\"]|$)", remark, maxsplit=1)
    noun, *others = clause.replace("no images", "no image").split(" ")
    noun = _NOUNS.get(noun, noun.removesuffix("s"))
    return f"1 {' '.join([noun, *(_SINGULAR.get(word, word) for word in others)])}{mark}{rest}"
