"""Columns of a user's table that look like patients or splits, and that no setting names."""

import re
from collections.abc import Collection

import pandas as pd

from kit.data.table.groups import describe_groups, has_patients
from kit.data.table.layout import SPLITS

_PATIENT = re.compile(
    r"(patient|subject|person|participant|proband|case|pid|mrn)s?[ _-]*(id|no|nr|num|number|name|key|code|index)?",
    re.IGNORECASE,
)


def patient_column_hint(table: pd.DataFrame, used: Collection[str]) -> str | None:
    """A remark when a column of texts, none of `used`, is called as patients are and has several rows of each."""
    for name in table.columns.difference([*used], sort=False):
        groups = table[name].str.strip().replace("", None)
        if _PATIENT.fullmatch(name) and has_patients(groups):
            line = describe_groups(groups.dropna()).removeprefix("groups: ")
            return (
                f"the column {name} looks like patients: {line}. Each image is taken as a patient of its own, so "
                "images of one patient can be on both sides of a fold, and scores too good: "
                f"--set columns.group='{name}'"
            )
    return None


def split_column_hint(table: pd.DataFrame, used: Collection[str]) -> str | None:
    """A remark when a column of texts, none of `used`, says train in some rows and test in others."""
    for name in table.columns.difference([*used], sort=False):
        words = table[name].str.strip().str.lower()
        splits = words[words != ""].map(SPLITS)
        if splits.notna().all() and {*splits} == {"train", "test"}:
            tests = int((splits == "test").sum())
            return (
                f"the column {name} looks like splits (test in {tests} of {len(table)} rows), and is not used: its "
                f"test rows are trained on unless --set columns.split='{name}'"
            )
    return None
