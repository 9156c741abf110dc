"""Predictions and decision -> a submission that has passed the check."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.competitions import find_competition
from kit.decisions import AnyDecision
from kit.errors import SubmissionError, counted, some
from kit.evaluate.sent import submitted
from kit.run import Run
from kit.stages.per_case import as_decided, scored_examples
from kit.stages.score import mean_test, score
from kit.submit.submission import check_submission, make_submission, read_submission, same_cells, stand_in

log = logging.getLogger(__name__)


def write_submission(run: Run, sample: Path | str | None, out: Path | str) -> None:
    """The mean test prediction over the folds, calibrated as the run's decision says, as a checked submission.

    Scores the run first, unless that is done. Without a sample (nobody takes submissions) there is a column for every
    label.
    """
    competition = find_competition(run.config.competition, run.config)
    expected = read_submission(files.expanded(sample), competition.id_column) if sample else None
    with run.locked():
        _, decision = score(run)
        predictions, oof, examples = _submitted_test(run, decision), sent_oof(run), scored_examples(run)
        submission = make_submission(competition, predictions, expected, examples)
        sample_or_own = submission if expected is None else expected
        for remark in check_submission(competition, submission, sample_or_own, oof, examples):
            log.info(f"noticed: {remark}")
        files.write_text(files.expanded(out), submission.to_csv(index=False))
    unread = set(submission[competition.id_column]) - set(predictions["id"])
    if unread:
        images = counted(len(unread), "test image is", "test images are")
        log.info(f"{images} missing or unreadable and got {stand_in(competition)}: {some(unread)}")


def sent_oof(run: Run) -> pd.DataFrame:
    """The out-of-fold predictions as they would be sent; of a run that is not scored yet, as they are."""
    if not run.decision_path.exists():
        return run.oof()
    decision = run.decision
    return submitted(decision, as_decided(run, decision, run.oof()))


def _submitted_test(run: Run, decision: AnyDecision) -> pd.DataFrame:
    return submitted(decision, as_decided(run, decision, mean_test(run)), fused=True)


def require_current_submission(run: Run) -> None:
    """Raise SubmissionError unless the run's submission is what its predictions and decision give.

    Scores the run first, unless that is done. Images without a prediction may have any value.
    """
    competition = find_competition(run.config.competition, run.config)
    again = f"write it again with `kit submission write {run} --sample F --out {run.submission_path}`"
    if not run.submission_path.is_file():
        raise SubmissionError(f"{run} has no {run.submission_path.name}: {again.replace(' again', '')}")
    submission = read_submission(run.submission_path, competition.id_column)
    _, decision = score(run)
    expected = make_submission(competition, _submitted_test(run, decision), None, scored_examples(run))
    columns = [column for column in expected.columns if column != competition.id_column]
    both = expected.merge(submission, on=competition.id_column, suffixes=("", "_sent"))
    if both.empty or not {*columns} <= {*submission.columns}:
        raise SubmissionError(f"{run.submission_path} has other images or columns than the run's predictions: {again}")
    same = [same_cells(competition, column, both[f"{column}_sent"], both[column]) for column in columns]
    differs = ~np.all(same, axis=0)
    if differs.any():
        which = f"{counted(int(differs.sum()), 'image')}, such as {both[competition.id_column][differs].iloc[0]}"
        raise SubmissionError(
            f"{run.submission_path} is not what the run's predictions and decision give for {which} (damaged, or older "
            f"than they): {again}"
        )
