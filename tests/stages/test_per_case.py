"""A run whose images are views of cases, from its prediction files to a submission with a row for each case."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kit.config import load_config
from kit.run import Run
from kit.stages.report import write_report
from kit.stages.score import compare, score
from kit.stages.submission import require_current_submission, sent_oof, write_submission
from tests.runs import write_run

CASES, TESTS, VIEWS, FOLDS = 90, 20, 3, 3


@pytest.fixture
def run(tmp_path) -> Run:
    return make_run(tmp_path, "first", 0)


def make_run(tmp_path, name, seed):
    rng = np.random.default_rng(seed)
    cases = np.repeat([f"c{n:03}" for n in range(CASES + TESTS)], VIEWS)
    true = np.repeat(np.arange(CASES + TESTS) % 2, VIEWS)
    shows = np.tile(np.arange(VIEWS), CASES + TESTS) == np.repeat(rng.integers(0, VIEWS, CASES + TESTS), VIEWS)
    p = np.float32(np.clip(rng.uniform(0.05, 0.5, len(cases)) + 0.35 * shows * true, 0, 1))
    is_train = np.repeat(np.arange(CASES + TESTS) < CASES, VIEWS)
    ids = np.array([f"i{n:03}" for n in range(len(cases))])
    known = pd.DataFrame({"id": ids, "case": cases, "group": cases, "split": np.where(is_train, "train", "test")})
    known["y_tumour"] = np.where(is_train, true, np.nan).astype(np.float32)
    known["sex"] = np.where(true == 1, "F", "M")
    fold = np.repeat(np.arange(CASES) // 2 % FOLDS, VIEWS)
    oof = pd.DataFrame({"id": ids[is_train], "fold": fold, "p_tumour": p[is_train]})
    test = pd.DataFrame({"id": ids[~is_train], "fold": 0, "p_tumour": p[~is_train]})
    settings = ["folds=3", "evaluate.resamples=200", "evaluate.calibration=platt"]
    return write_run(tmp_path / name, load_config("pcam", settings), known, oof, test, 3)


def by_largest(table):
    cases = table.assign(case=table["id"].str[1:].astype(int) // VIEWS)
    return cases.groupby("case")["p_tumour"].max()


def test_cases_are_scored_and_resampled(run):
    scores, decision = score(run)
    assert decision.cases is not None and decision.cases.rule == "max"
    assert (scores.rows, scores.groups) == (CASES, CASES)
    largest = roc_auc_score(np.arange(CASES) % 2, by_largest(run.oof()))
    assert decision.cases.on_the_cases_that_chose_it["max"] == pytest.approx(largest)
    assert scores.value == decision.cases.nested  # one fold's others choose another rule, on another scale
    assert largest - 0.03 < scores.value < largest
    assert scores.delong is not None  # every case is a group, so cases are what is resampled
    assert "Scored are 90 cases, each by the largest of its images; a fold's" in scores.note
    assert decision.thresholds["tumour"].cross_validated is not None
    named, of_mean = score(run, ["evaluate.case_rule=mean"])
    assert named.value < scores.value and of_mean.cases.rule == "mean" and of_mean.cases.nested is None


def test_a_submission_has_a_row_for_each_case(run, tmp_path):
    sample = tmp_path / "sample.csv"
    pd.DataFrame({"id": [f"c{n:03}" for n in range(CASES, CASES + TESTS)], "label": 0}).to_csv(sample, index=False)
    write_submission(run, sample, run.submission_path)
    sent = pd.read_csv(run.submission_path)
    assert sent["id"].tolist() == [f"c{n:03}" for n in range(CASES, CASES + TESTS)]
    largest = by_largest(run.test()).to_numpy()
    assert (np.argsort(sent["label"].to_numpy()) == np.argsort(largest)).all()
    assert not np.allclose(sent["label"], largest)  # calibrated as cases are
    assert sent_oof(run)["id"].is_unique and len(sent_oof(run)) == CASES
    require_current_submission(run)


def test_runs_are_compared_by_cases(run, tmp_path):
    first, second = compare([run, make_run(tmp_path, "second", 1)])
    assert first.value == score(run)[0].value and second.difference == second.value - first.value


def test_the_report_is_of_cases(run):
    page = write_report([run]).read_text()
    assert "Scored are 90 cases" in page and ">90<" in page
