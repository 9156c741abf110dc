"""What arguments can be: paths, counts, hours. What cannot be is told before anything is done.

`~` is the home directory also where the shell leaves it: in `--data=~/images`, and in a notebook.
"""

import argparse
import math
from pathlib import Path

from kit.files import ARCHIVES, expanded

_EXPORTED = ".kit.zip"  # the ending in kit.predict.packed, which is not imported for a name


def path(text: str) -> Path:
    """Parse a path."""
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a path")
    return expanded(Path(text))


def folder(text: str) -> Path:
    """Parse the path of a folder, which need not exist yet."""
    return _not_below_a_file(path(text))


def run_or_file(text: str) -> Path:
    """Parse the path of a run, or of a file that `kit export` wrote."""
    file = path(text)
    return file if file.name.endswith(_EXPORTED) and file.is_file() else folder(text)


def folder_or_address(text: str) -> str:
    """Parse the path of a folder, or an address such as gs://bucket/folder."""
    return text if "://" in text else str(folder(text))


def output_file(text: str) -> Path:
    """Parse the path of a file to write: it may exist, but as a file."""
    file = path(text)
    if file.is_symlink():
        raise argparse.ArgumentTypeError(f"{file} is a link: name the file that it leads to, or another one")
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{file} is a folder: add the name of a file")
    if file.exists() and not file.is_file():
        raise argparse.ArgumentTypeError(f"{file} is no file that can be replaced: choose another name")
    _not_below_a_file(file.parent)
    return file


def at_least_one(text: str) -> int:
    """Parse a count."""
    return _whole(text, 1)


def count(text: str) -> int:
    """Parse a count that may be 0."""
    return _whole(text, 0)


def worker_count(text: str) -> int:
    """Parse a number of processes."""
    from kit.parallel import MOST_WORKERS  # here: it takes as long to import as `kit --help` may take

    workers = _whole(text, 1)
    if workers > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{workers} processes are more than this machine can run, {MOST_WORKERS}")
    return workers


def numbers(text: str) -> list[int]:
    """Parse whole numbers from 0 on, separated by commas."""
    return [_whole(number, 0) for number in text.split(",")]


def names(text: str) -> list[str]:
    """Parse names separated by commas."""
    return text.split(",")


def positive(text: str) -> float:
    """Parse a number above 0, such as hours of a session."""
    number = number_from_zero(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def number_from_zero(text: str) -> float:
    """Parse a number, 0 or above."""
    number = finite(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def finite(text: str) -> float:
    """Parse a number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text[:20]} is not a number")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text) if len(text) < 20 else least - 1
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a whole number from {least} on")
    return number


def _not_below_a_file(place: Path) -> Path:
    """The path, unless it or a folder above it is a file."""
    for above in (place, *place.parents):
        if above.is_dir():
            break
        if above.exists():
            is_archive = above.name.lower().endswith(ARCHIVES)
            remedy = ": unpack it, and give the folder that it becomes" if is_archive else ""
            if above.name.endswith(_EXPORTED):
                remedy = ": it is an exported run, which predicts new images alone; give the run that it was made of"
            raise argparse.ArgumentTypeError(f"{above} is a file, not a folder{remedy}")
    return place
