"""Predictions and decision -> a submission that has passed the check."""

import logging
from pathlib import Path

from kit import files
from kit.competitions import find_competition
from kit.errors import some
from kit.evaluate.decision import sent
from kit.run import Run
from kit.stages.score import mean_test, score
from kit.submit.submission import check_submission, make_submission, read_submission

log = logging.getLogger(__name__)


def write_submission(run: Run, sample: Path | None, out: Path) -> None:
    """The mean test prediction over the folds, calibrated as the run's decision says, as a checked submission.

    Scores the run first, unless that is done. Without a sample (nobody takes submissions) there is a column for every
    label.
    """
    competition = find_competition(run.config.competition, run.config)
    _, decision = score(run)
    predictions, oof = sent(decision, mean_test(run)), sent(decision, run.oof())
    expected = read_submission(sample, competition.id_column) if sample else None
    submission = make_submission(competition, predictions, expected)
    for remark in check_submission(competition, submission, submission if expected is None else expected, oof):
        log.info(f"noticed: {remark}")
    files.write_text(out, submission.to_csv(index=False))
    unread = set(submission[competition.id_column]) - set(predictions["id"])
    if unread:
        log.info(f"{len(unread)} test images are missing or unreadable and got the mean prediction: {some(unread)}")
