"""Tables of any text, labels and ids: what the csv module says, or one DataError."""

import csv
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.config import ColumnSettings
from kit.data.table.groups import describe_groups, group_by, patient_hint
from kit.data.table.ids import name_images, plain
from kit.data.table.labels import read_labels
from kit.data.table.raw import read_table
from kit.errors import ConfigError, DataError, SubmissionError
from kit.submit.submission import read_submission
from tests.fuzz import examples

FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
CELL = st.one_of(TEXT, st.sampled_from(["", " ", "NA", "1", "0.0", "a b", 'x"y', "x,y", "l1\nl2", "ü", "1;2", "\t"]))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "t.csv"


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6)))
@settings(FUZZ, max_examples=examples(300))
def test_what_is_written_is_read(path, rows):
    header = [f"c{n}" for n in range(len(rows[0]))]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    expected = [row for row in rows if any(map(str.strip, row))]
    if not expected:
        with pytest.raises(DataError, match="has no row"):
            read_table(path, header)
        return
    table = read_table(path, header)
    assert table.to_numpy().tolist() == expected
    lines = path.read_bytes().decode().splitlines(keepends=False)
    assert len(lines) >= table.index[-1]


@given(st.text(st.sampled_from('ab01,;\t|" \n\r\0ü.'), max_size=60), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
@settings(FUZZ, max_examples=examples(500))
def test_any_text_is_a_table_as_csv_reads_it_or_one_error(path, text, encoding):
    path.write_bytes(("id,a\n" + text).encode(encoding))
    try:
        table = read_table(path, ["id"])
    except DataError as error:
        assert "\n" not in str(error).replace(text, "")
        return
    reader = csv.reader(io.StringIO("id,a\n" + text, newline=""), skipinitialspace=True, strict=True)
    rows = [row[:2] for row in [*reader][1:] if any(map(str.strip, row))]
    assert table.to_numpy().tolist() == rows


@given(st.binary(max_size=80))
@settings(FUZZ, max_examples=examples(300))
def test_any_bytes_are_a_table_or_one_error(path, data):
    for start in (b"", b"id,label\n", b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04"):
        path.write_bytes(start + data)
        try:
            table = read_table(path, ["id"], unique="id")
        except DataError:
            pass
        else:
            assert table["id"].is_unique
        with suppress(SubmissionError):
            read_submission(path, "id")


NUMBERS = ("0", "1", "1.0", "0.", "-1", "2", "3", "9", "0.5", "1e9", "1e999", "TRUE")
NAMES = ("yes", "no", "ja", "a", "b", "a|b", "b|c", "a, b", "benign", "Benign", "benign ", "No Finding", "?", "['a']")
NOTHING = ("", " ", "NaN", "nan", "None", "<NA>", "[]", "|", ",", "'")
LABELS = st.sampled_from([*NUMBERS, *NAMES, *NOTHING])


@given(
    st.lists(st.one_of(LABELS, LABELS, TEXT), min_size=1, max_size=12),
    st.fixed_dictionaries(
        {},
        optional={
            "separator": st.sampled_from(["|", ",", "none"]),
            "soft": st.booleans(),
            "unknown": st.lists(LABELS.filter(bool), max_size=2),
        },
    ),
    st.integers(1, 2),
)
@settings(FUZZ, max_examples=examples(800))
def test_any_labels_are_0_1_or_unknown_or_one_error(cells, chosen, columns):
    raw = pd.DataFrame({name: cells for name in "xz"[:columns]}, pd.RangeIndex(2, len(cells) + 2), dtype=str)
    try:
        y, task, remarks = read_labels(Path("t.csv"), raw, ColumnSettings(label=tuple(raw.columns), **chosen), None)
    except (DataError, ConfigError) as error:
        assert str(error).strip()
        return
    assert y.index.equals(raw.index)
    assert (y.dtypes == np.float32).all()
    values = y.to_numpy()
    known = values[~np.isnan(values)]
    assert ((known >= 0) & (known <= 1)).all()
    assert chosen.get("soft") or np.isin(known, [0, 1]).all()
    assert all(count > 0 for count in remarks.values())
    if task == "multiclass":
        assert (np.nansum(values, axis=1)[~np.isnan(values).any(axis=1)] == 1).all()
    else:
        assert task == ("binary" if y.shape[1] == 1 else "multilabel")


FOLDER, ENDING = st.sampled_from(["", "a/", "b/", "./", "x\\", "/k/i/"]), st.sampled_from(["", ".0", ".png", ".JPG"])
NAME = st.one_of(
    st.builds("{}{}{}".format, FOLDER, st.integers(0, 12), ENDING),
    st.builds("00{}.png".format, st.integers(0, 12)),
    TEXT.filter(bool),
)
PATTERN = st.sampled_from([r"\d+", r"(\d)(\d)?", r"^[^/]+", "(?P<g>a)|b", "(", "[", "a{9999999999}"])


@given(
    st.lists(NAME, min_size=1, max_size=8, unique=True),
    st.lists(NAME.filter(lambda name: name.strip("/")), min_size=1, max_size=8, unique=True),
    st.booleans(),
)
@settings(FUZZ, max_examples=examples(800))
def test_ids_name_one_image_each_or_there_is_one_error(ids, paths, loose):
    images = pd.DataFrame({"path": paths})
    try:
        named = name_images(Path("t.csv"), "id", pd.Series(ids, dtype=object), images, loose)
    except DataError as error:
        assert "max_missing" not in str(error)
        return
    matched = named.ids[named.ids.isin(ids)]
    assert matched.is_unique
    assert len(matched) >= 1
    for row, path in zip(named.ids, paths, strict=True):
        if row in ids and not loose:  # what differs in more than folders and ending is never paired
            last, file = plain(row).split("/")[-1], plain(path).split("/")[-1]
            assert last in (file, file.rpartition(".")[0])


@given(st.lists(NAME, min_size=1, max_size=10), st.one_of(PATTERN, TEXT))
@settings(FUZZ, max_examples=examples(500))
def test_any_pattern_groups_or_is_one_error(names, pattern):
    paths = pd.Series(names, dtype=object)
    patient_hint(paths)
    try:
        groups = group_by(paths, pattern, 1)
    except (DataError, ConfigError):
        return
    assert all(group is None or group for group in groups)
    assert describe_groups(groups).startswith("groups: ")
