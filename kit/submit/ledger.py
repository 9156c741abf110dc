"""What was sent: a table of submissions, to see whether out-of-fold scores foretell the leaderboard's."""

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from kit import files
from kit.errors import DataError
from kit.run import Run

COLUMNS = (
    "sent",  # UTC, to the second
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
    """The ledger's line for a submission of a run or an ensemble that is scored (`scores.json`)."""
    scores = run.scores
    runs = run.ensemble.runs if run.is_ensemble else [str(run)]
    return {
        "sent": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "competition": run.config.competition,
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
    """The ledger, empty where there is none; raises DataError for a file that is none."""
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=float if name in _SCORES else str) for name in COLUMNS})
    table = pd.read_csv(path, dtype={name: str for name in COLUMNS if name not in _SCORES}, keep_default_na=True)
    if tuple(table.columns) != COLUMNS:
        raise DataError(f"{path} is not a ledger: its columns are {', '.join(map(str, table.columns))}")
    return table


def write(path: Path, line: dict[str, Any]) -> pd.DataFrame:
    """Add a line, or, where the same file was sent to the same competition before, fill in its scores."""
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
        files.write_text(path, table.to_csv(index=False))
    return table


def as_text(table: pd.DataFrame) -> str:
    """The ledger for people: each competition's submissions, and how well their order out of fold foretold the rest."""
    if table.empty:
        return "nothing sent yet"
    lines = []
    for competition, rows in table.groupby("competition"):
        shown = rows.assign(runs=rows["runs"].map(_short))
        lines.append(f"{competition} ({', '.join(sorted(set(rows['metric'])))})")
        columns = ["sent", "runs", *_SCORES, "description"]
        lines.append(shown[columns].to_string(index=False, float_format="{:.4f}".format, na_rep="-"))
        for board in ("public", "private"):
            known = rows.dropna(subset=["oof", board])
            if len(known) > 2 and known["oof"].nunique() > 1 and known[board].nunique() > 1:
                rank = spearmanr(known["oof"], known[board]).statistic
                gap = (known[board] - known["oof"]).median()
                lines.append(
                    f"out of fold against {board}: rank correlation {rank:.2f}, median difference {gap:+.4f} "
                    f"({len(known)} submissions)"
                )
    return "\n".join(lines)


def _short(runs: str) -> str:
    return " ".join(Path(run).name for run in runs.split())
