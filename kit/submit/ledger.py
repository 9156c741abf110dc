"""The table of submissions: do out-of-fold scores predict the leaderboard's?"""

import datetime
import os
from pathlib import Path
from typing import Any

import pandas as pd

from kit import files
from kit.errors import DataError
from kit.run import Run
from kit.submit.tracking import as_text as as_lines
from kit.submit.tracking import track_ledger

COLUMNS = (
    "sent",  # UTC, in seconds
    "competition",
    "sha256",  # of the file that was sent
    "runs",  # the run, or an ensemble's, separated by blanks
    "config",  # the first 12 hex digits of config.yaml's SHA-256
    "metric",
    "oof",
    "public",
    "private",
    "description",
)
_SCORES = ("oof", "public", "private")


def entry(run: Run, submission: Path, description: str = "") -> dict[str, Any]:
    """The ledger's line for a submission of a scored run or ensemble."""
    scores = run.scores
    runs = run.ensemble.runs if run.is_ensemble else [str(run)]
    return {
        "sent": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "competition": run.config.competition_name,
        "sha256": files.sha256_of(submission),
        "runs": " ".join(runs),
        "config": files.sha256_of(run.config_path)[:12],
        "metric": scores.metric,
        "oof": scores.value,
        "public": None,
        "private": None,
        "description": description,
    }


def read(path: Path) -> pd.DataFrame:
    """The ledger, empty where there is none; raises DataError for a file that is not a ledger."""
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=float if name in _SCORES else str) for name in COLUMNS})
    if not path.is_file():
        raise DataError(f"{path} is not a file: give another --ledger")
    types = {name: float if name in _SCORES else str for name in COLUMNS}
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=True)
    except (ValueError, pd.errors.ParserError) as error:  # not UTF-8, empty, a score that is no number
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{path} is not a ledger ({reason}): correct it, or give another --ledger") from error
    if tuple(table.columns) != COLUMNS:
        columns = ", ".join(map(str, table.columns))
        raise DataError(f"{path} is not a ledger: its columns are {columns}; give another --ledger")
    return table


def check(path: Path) -> None:
    """Raise DataError where a line could not be written into the ledger: before anything is spent for it."""
    read(path)
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise DataError(f"{path}: {folder} is not a folder; give another --ledger")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written; give another --ledger")


def write(path: Path, line: dict[str, Any]) -> pd.DataFrame:
    """Add a line or, where the same file was submitted to the same competition before, fill in its scores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(path.parent):
        table = read(path)
        same = (table["competition"] == line["competition"]) & (table["sha256"] == line["sha256"])
        if same.any():
            for name in ("public", "private"):
                if line[name] is not None:
                    table.loc[same, name] = line[name]
        else:
            added = pd.DataFrame([line], columns=list(COLUMNS)).astype({name: float for name in _SCORES})
            table = added if table.empty else pd.concat([table, added], ignore_index=True)
        files.write_text(path, table.to_csv(index=False), durable=True)
    return table


def as_text(table: pd.DataFrame) -> str:
    """The ledger as text: each competition's submissions, and whether scores out of fold track the board."""
    if table.empty:
        return "nothing submitted yet"
    lines = []
    for competition, rows in table.groupby("competition"):
        short = rows.assign(runs=rows["runs"].map(_folder_names))
        lines.append(f"{competition} ({', '.join(sorted(set(rows['metric'])))})")
        columns = ["sent", "runs", *_SCORES, "description"]
        lines.append(short[columns].to_string(index=False, float_format="{:.4f}".format, na_rep="-"))
        for (_, metric, board), tracking in track_ledger(rows).items():
            several = f" ({metric})" if rows["metric"].nunique() > 1 else ""
            lines += as_lines(tracking, f"{board}{several}")
    return "\n".join(lines)


def _folder_names(runs: str) -> str:
    return " ".join(Path(run).name for run in runs.split())
