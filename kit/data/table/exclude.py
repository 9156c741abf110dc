"""Training images that a table of the user's names, left out: such as those whose labels are wrong."""

from dataclasses import replace
from pathlib import Path

from kit.data.table.examples import Examples
from kit.data.table.raw import read_table, refuse_rows
from kit.errors import DataError, counted, some

_REMEDY = "it is to have the ids of the training images to leave out"


def without(examples: Examples, file: Path) -> Examples:
    """The examples without the training images whose ids a CSV file has in its column `id`, and a note that says so.

    An id may be there several times; other columns do not count. Test images stay. Raises DataError for a file that
    cannot be read, has no such column or no row, and when no training image has any of its ids.
    """
    try:
        rows = read_table(file, ["id"], remedy=_REMEDY)
        ids = rows["id"].str.strip()
        refuse_rows(file, rows, ids == "", "id", "the id of an image")
    except DataError as error:
        raise DataError(f"data.exclude: {error}") from error
    table = examples.table
    is_train = table["split"] == "train"
    left_out = is_train & table["id"].isin(ids)
    strangers = {*ids} - {*table["id"][left_out]}
    tests = strangers & {*table["id"][~is_train]}
    of_tests = f" ({counted(len(tests), 'is a test image', 'are test images')}, which always stay)" if tests else ""
    names = f"{some(strangers)}{of_tests}"
    if not left_out.any():
        like = "".join(f"; such an id is {name!r}" for name in table["id"][is_train].head(1))
        raise DataError(f"data.exclude: {file} has no id of a training image, but {names}{like}")
    notes = [f"left out, as data.exclude names them: {counted(int(left_out.sum()), 'training image')}"]
    if strangers:
        unknown = counted(len(strangers), "id that no training image has", "ids that no training image has")
        notes.append(f"noticed: {file.name}, which data.exclude names, has {unknown}: {names}")
    return replace(examples, table=table[~left_out].reset_index(drop=True), notes=(*examples.notes, *notes))
