import pandas as pd
import pytest

from kit.data.table.unused import patient_column_hint, split_column_hint


@pytest.mark.parametrize("name", ["patient", "Patient ID", "SubjectNo", "PID"])
def test_a_column_of_patients_is_remarked_on(name):
    table = pd.DataFrame({"id": list("abcdef"), name: ["p1", "p1", "p2", "p2", "p3", ""]})
    hint = patient_column_hint(table, ["id"])
    assert hint is not None
    assert hint.startswith(f"the column {name} looks like patients: 3 of 1 to 2 images")
    assert hint.endswith(f"--set columns.group='{name}'")
    assert patient_column_hint(table, ["id", name]) is None


def test_other_columns_are_no_patients():
    ids = list("abcdef")
    table = pd.DataFrame({"id": ids, "patient": ids, "patient_age": ["50"] * 6, "site": ["p", "q", "r"] * 2})
    assert patient_column_hint(table, ["id"]) is None


def test_a_column_of_splits_is_remarked_on():
    table = pd.DataFrame({"id": list("abcd"), "set": ["Train", "valid", "test ", ""]})
    hint = split_column_hint(table, ["id"])
    assert hint is not None
    assert hint.startswith("the column set looks like splits (test in 1 of 4 rows)")
    assert split_column_hint(table, ["id", "set"]) is None
    assert split_column_hint(table.assign(set="train"), ["id"]) is None
    assert split_column_hint(table.assign(set=["train", "test", "a", "b"]), ["id"]) is None
