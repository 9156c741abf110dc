import pandas as pd
import pytest

from kit import files
from kit.config import load_config
from kit.errors import DataError
from kit.run import Run
from kit.submit import ledger

SCORES = {
    "metric": "roc_auc",
    "rows": 4,
    "groups": 4,
    "interval": {"low": None, "high": None, "resamples": 100, "confidence": 0.95},
    "labels": {},
    "accuracy": None,
    "metrics": {},
    "subgroups": [],
    "folds": {},
    "fold_mean": None,
    "fold_sd": None,
    "fold_metrics": {},
    "calibration": {"cross_fitted": {}, "reliability": {}},
    "warnings": [],
    "note": "",
}


@pytest.fixture
def line(tmp_path):
    """A function: out-of-fold score, bytes of the file, further values -> a line of the ledger."""

    def write_line(oof, content="a", **values):
        run = Run(tmp_path / "runs" / "first")
        run.write_config(load_config("pcam"))
        files.write_json(run.scores_path, {**SCORES, "value": oof})
        files.write_text(tmp_path / "submission.csv", content)
        return {**ledger.entry(run, tmp_path / "submission.csv", "try"), **values}

    return write_line


def test_a_line_says_what_was_sent(line, tmp_path):
    table = ledger.write(tmp_path / "submissions.csv", line(0.95))
    assert tuple(table.columns) == ledger.COLUMNS
    row = table.iloc[0]
    assert (row["competition"], row["metric"], row["oof"], row["description"]) == ("pcam", "roc_auc", 0.95, "try")
    assert row["sha256"] == files.sha256_of(tmp_path / "submission.csv")
    assert row["runs"].endswith("runs/first")
    again = ledger.read(tmp_path / "submissions.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_a_score_that_comes_later_is_filled_in(line, tmp_path):
    path = tmp_path / "submissions.csv"
    ledger.write(path, line(0.95))
    ledger.write(path, line(0.95, public=0.94))
    ledger.write(path, line(0.95, private=0.93))
    table = ledger.write(path, line(0.96, content="b", public=0.95))
    assert len(table) == 2
    assert table[["oof", "public"]].to_numpy().tolist() == [[0.95, 0.94], [0.96, 0.95]]
    assert table["private"].iloc[0] == 0.93 and pd.isna(table["private"].iloc[1])


def test_an_ensemble_names_its_runs(line, tmp_path):
    line(0.9)
    run = Run(tmp_path / "runs/first")
    report = {"metric": "roc_auc", "runs": ["runs/a", "runs/b"], "blends": {}, "correlation": {}, "chosen": "mean"}
    files.write_json(run.ensemble_path, {**report, "reason": "", "weights": None, "metadata": []})
    assert ledger.entry(run, tmp_path / "submission.csv")["runs"] == "runs/a runs/b"


def test_the_rank_correlation_is_shown(line, tmp_path):
    path = tmp_path / "submissions.csv"
    for oof, public in ((0.90, 0.89), (0.92, 0.90), (0.94, 0.93), (0.96, 0.92)):
        table = ledger.write(path, line(oof, content=str(oof), public=public))
    # ranks 1 2 3 4 against 1 2 4 3: Spearman's 1 - 6 * 2 / (4 * 15) = .8; differences -.01 -.02 -.01 -.04
    text = ledger.as_text(table)
    assert "out of fold against public: too few submissions to say whether your validation tracks the public" in text
    assert "Spearman 0.80" in text and "median difference -0.0150, 4 submissions" in text
    assert ledger.as_text(ledger.read(tmp_path / "none.csv")) == "nothing submitted yet"


def test_a_file_that_is_no_ledger_stays_as_it_is(line, tmp_path):
    path = tmp_path / "submissions.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a ledger: its columns are a, b"):
        ledger.write(path, line(0.9))
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"sent\n1,2,3\n", b"a\0b", "public\u00e9".encode("latin-1")])
def test_a_damaged_ledger_is_one_line(line, tmp_path, content):
    path = tmp_path / "submissions.csv"
    path.write_bytes(content)
    for call in (ledger.read, ledger.check, lambda path: ledger.write(path, line(0.9))):
        with pytest.raises(DataError) as raised:
            call(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value) and "--ledger" in str(raised.value)
    assert path.read_bytes() == content


def test_a_score_that_is_no_number(line, tmp_path):
    path = tmp_path / "submissions.csv"
    ledger.write(path, line(0.9, public=0.5))
    path.write_text(path.read_text().replace("0.5", "high"))
    with pytest.raises(DataError, match="is not a ledger"):
        ledger.check(path)


def test_where_no_ledger_could_be_written(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        ledger.check(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a folder"):
        ledger.check(tmp_path / "file" / "deeper" / "submissions.csv")
    ledger.check(tmp_path / "new" / "submissions.csv")
    assert not (tmp_path / "new").exists()
