"""Which image an id of a table names: its path, its file name or its stem, however each side writes it.

What is safe is matched, and said: another form of Unicode, backslashes, `./`, folders that all ids or all images begin
with. What is a guess (case, ending, folders, lost zeros, `1.0`) is matched only where `columns.loose_ids` says so.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kit.errors import DataError, some

_DEEPEST = 12  # folders that are cut at most
_ENDING = re.compile(r"\.(?=[^.]*[a-z])[a-z0-9]{2,5}$")
_FLOAT = re.compile(r"(\d+)\.0+")
_ZEROS = re.compile(r"(^|/)0+(?=\d+$)")

Matches = dict[int, int]  # place of an id -> place of its image


class Naming(NamedTuple):
    """The id of each image as the table writes it (its path, if no row names it), and what is odd."""

    ids: pd.Series
    remarks: dict[str, int]


def name_images(table: Path, column: str, ids: pd.Series, images: pd.DataFrame, loose: bool) -> Naming:
    """The images (path, bytes) by the ids of a table (unique, its column `column`).

    An id is a path, a file name, or one of them without its ending: as it is; else as `plain`; else below the folders
    that all ids, or all images, are in; else, if `loose`, by `_loosely`. The first way of those that match most is
    taken. Raises DataError when nothing matches, an id names several images, or only a loose way matches most.
    """
    rows, paths = [*ids], [*images["path"]]
    best, how = _exactly(rows, paths), ""
    if len(best) < len(rows):
        plain_rows, plain_paths = [*map(plain, rows)], [*map(plain, paths)]
        for matches, words in (
            (_exactly(plain_rows, plain_paths), "without ./, backslashes, forms of Unicode and spaces around them"),
            (_below(plain_rows, plain_paths), "below the folders that all are in"),
        ):
            if len(matches) > len(best):
                best, how = matches, words
    if len(best) < len(rows):
        matches = _loosely(rows, paths)
        if len(matches) > len(best) and not loose:
            row = min(matches.keys() - best.keys())
            raise DataError(
                f"{table}: {len(rows) - len(best)} of {len(rows)} ids name no image: the ids of column {column} are "
                f"like {rows[row]!r}, the files like {paths[matches[row]]!r}. Correct them (in pandas, "
                "read_csv(..., dtype=str) keeps ids as they are), or compare them without case, endings, folders, "
                "leading zeros and .0: --set columns.loose_ids=true"
            )
        if len(matches) > len(best):
            best, how = matches, "without case, endings, folders, leading zeros and .0"
    if not best:
        raise DataError(
            f"{table}: no id of the column {column} ({_few(rows)}) names an image ({_few(paths)}): choose another "
            "column with --set columns.id=..., or the folder that the ids begin in with --data"
        )
    names = {image: rows[row] for row, image in best.items()}
    first = min(best)
    remark = f"ids are compared {how}, such as {rows[first]!r} for {paths[best[first]]!r}"
    result = pd.Series([names.get(n, path) for n, path in enumerate(paths)], images.index, dtype=object)
    return Naming(result, {remark: len(best)} if how else {})


def plain(text: str) -> str:
    """A path with /, without spaces around it, `.` and empty parts, in Unicode's composed form."""
    parts = unicodedata.normalize("NFC", text).replace("\\", "/").strip().split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _exactly(ids: list[str], paths: list[str]) -> Matches:
    """Ids that are paths, names, paths without ending, or stems, whichever most of them are.

    Raises DataError when an id names several images, or an image is named by several ids.
    """
    names = max(_kinds(paths), key=lambda names: len({*ids} & {*names}))
    images: dict[str, list[int]] = {}
    for image, name in enumerate(names):
        images.setdefault(name, []).append(image)
    matches = {row: images[name][0] for row, name in enumerate(ids) if name in images}
    several = [ids[row] for row in matches if len(images[ids[row]]) > 1]
    if several:
        files = some([paths[image] for image in images[several[0]]], 2)
        raise DataError(f"{several[0]!r} is the name of several files: {files}. Name images by their paths")
    if len({*matches.values()}) < len(matches):
        twice = next(name for row, name in enumerate(ids) if name in ids[:row])
        raise DataError(f"{twice!r} is in two lines, written in two ways: keep one of them")
    return matches


def _kinds(paths: list[str]) -> Iterable[list[str]]:
    yield paths
    yield [_last(path) for path in paths]
    yield [_stem(path) for path in paths]
    yield [_stem(_last(path)) for path in paths]


def _below(ids: list[str], paths: list[str]) -> Matches:
    """Ids without folders that all of them begin with, and paths without folders that all matched ones begin with."""
    best: Matches = {}
    for cut in range(_common_folders(ids) + 1):
        rows = [_without(text, cut) for text in ids]
        for above in range(min(max(path.count("/") for path in paths), _DEEPEST) + 1):
            inner = [_without(path, above) for path in paths]
            for names in _kinds(inner) if not above else (inner, [_stem(path) for path in inner]):
                if len({*rows} & {*names}) <= len(best):
                    continue
                matches = _one_to_one(rows, names)
                folders = {"/".join(paths[image].split("/")[:above]) for image in matches.values()}
                if len(matches) > len(best) and len(folders) == 1:
                    best = matches
            if len(best) == len(ids):
                return best
    return best


def _loosely(ids: list[str], paths: list[str]) -> Matches:
    """Ids and paths, or their last parts, as `_loose`."""
    rows, names = [_loose(text) for text in ids], [_loose(path) for path in paths]
    last_rows, last_names = [_last(row) for row in rows], [_last(name) for name in names]
    ways = (_one_to_one(rows, names), _one_to_one(rows, last_names), _one_to_one(last_rows, last_names))
    return max(ways, key=len)


def _loose(text: str) -> str:
    text = plain(text).casefold()
    whole = _FLOAT.fullmatch(text)
    return _ZEROS.sub(r"\1", whole[1] if whole else _ENDING.sub("", text))


def _one_to_one(ids: list[str], names: list[str]) -> Matches:
    """The ids that are names; none at all if two ids or two of the matched names are the same."""
    count = Counter(names)
    if len({*ids}) < len(ids) or any(count[name] > 1 for name in ids):
        return {}
    image_of = {name: image for image, name in enumerate(names) if name}
    return {row: image_of[name] for row, name in enumerate(ids) if name in image_of}


def _common_folders(paths: list[str]) -> int:
    """How many folders all paths begin with, `_DEEPEST` at most."""
    first, last = (path.split("/")[:-1] for path in (min(paths), max(paths)))
    same = [a == b for a, b in zip(first, last, strict=False)]
    return min(same.index(False) if False in same else len(same), _DEEPEST)


def _without(path: str, folders: int) -> str:
    """The path below its first folders; empty if it is not that deep."""
    return path.split("/", folders)[-1] if path.count("/") >= folders else ""


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _stem(path: str) -> str:
    """Without the ending, as `listing.stems`: a name that begins with its only dot keeps it."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _few(texts: list[str]) -> str:
    return ", ".join(map(repr, texts[:2])) + ", ..." * (len(texts) > 2)
