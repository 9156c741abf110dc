"""From a checkout to a score: push, wait, fetch, check, submit once, wait for the score, write it into the ledger.

Each step first looks whether it is done (kit.kaggle.job keeps that), so that the same command continues.
"""

import logging
import time
from pathlib import Path

from kit.errors import SubmissionError
from kit.kaggle import waiting
from kit.kaggle.client import Kaggle, ListedSubmission
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.job import Sleep, SubmissionJob, locked_job
from kit.kaggle.output import fetch_output, wait_for_kernel
from kit.kaggle.plan import SubmissionPlan
from kit.kaggle.push import preflight, push_kernel
from kit.run import Run
from kit.submit import ledger
from kit.submit.submission import check_submission, read_submission

log = logging.getLogger(__name__)


def submit(
    plan: SubmissionPlan, parent: Path, kaggle: Kaggle, journal: Path, again: bool = False, sleep: Sleep = time.sleep
) -> SubmissionJob:
    """All steps, continuing where an earlier call stopped; the job's state has the scores, and `journal` a line.

    For a competition without a leaderboard (or one that kit cannot serve) it ends with the kernel's output.
    """
    with locked_job(plan, parent, again, sleep) as job:
        if job.state.done:
            return job
        if plan.from_run:
            run, path = Run(plan.from_run), plan.submission
        else:
            push_kernel(job, kaggle)
            wait_for_kernel(job, kaggle)
            out = fetch_output(job, kaggle)
            run, path = Run(out / "runs" / plan.name / "kernel"), Run(out).submission_path  # the kernel copies it
        if plan.competition.leaderboard:
            check_against_sample(job, kaggle, path, run)
            entry = wait_for_score(job, kaggle, send_once(job, kaggle, path))
            line = {**ledger.entry(run, path, entry.description), "public": entry.public, "private": entry.private}
            ledger.write(journal, line)
            job.update(public=entry.public, private=entry.private)
        job.update(done=True, run=str(run))
        return job


def check_against_sample(job: SubmissionJob, kaggle: Kaggle, path: Path, run: Run) -> None:
    """Raise SubmissionError unless Kaggle would accept that file, compared with the competition's own sample."""
    competition, sample_path = job.plan.competition, job.folder / "sample_submission.csv"
    if not sample_path.exists():
        kaggle.competition_file(str(competition.slug), str(competition.sample), sample_path)
    try:
        sample = read_submission(sample_path, competition.id_column)
    except SubmissionError as error:  # an error page
        sample_path.unlink()
        message = f"Kaggle sent no sample submission ({error}); run the same command to ask again"
        raise KaggleError(message) from error
    try:
        submission = read_submission(path, competition.id_column)
        remarks = check_submission(competition, submission, sample, run.oof())
    except SubmissionError as error:
        raise job.fail(SubmissionError(f"{path}: {error}")) from error
    for remark in remarks:
        log.info(f"noticed: {remark}")


def send_once(job: SubmissionJob, kaggle: Kaggle, path: Path) -> ListedSubmission:
    """Submit that file, unless a submission of this job is on Kaggle's list already; returns it."""
    state = job.state
    confirmed = state.submission is not None
    entry = _look_for(job, kaggle, 60 if state.submit_begun else 0)  # interrupted, and it may still appear
    if entry is None and not confirmed:
        if job.plan.from_run:
            preflight(job, kaggle)
        version = f"v{state.version} " if state.version else ""
        job.update(submit_begun=True)
        try:
            ref = kaggle.submit(str(job.plan.competition.slug), path, f"kit {job.plan.name} {version}{job.run_id}")
            confirmed = True
            job.update(submission=ref)
        except Unanswered as error:
            log.info(f"{error}; looking for it among the submissions")
        entry = _look_for(job, kaggle, 180)
    if entry is None:
        then = "" if confirmed else ", and to send it if it is not there"
        raise KaggleError(f"the submission is not on Kaggle's list; run the same command to look again{then}")
    job.update(submission=entry.ref)
    return entry


def wait_for_score(job: SubmissionJob, kaggle: Kaggle, entry: ListedSubmission) -> ListedSubmission:
    """Wait until Kaggle has scored the submission; raises KaggleError when it could not."""
    for _ in waiting.pauses(job.sleep, 3600):
        if entry.state == "complete":
            return entry
        if entry.state == "error":
            reason = entry.error or "it gives no reason"
            raise job.fail(KaggleError(f"Kaggle could not score the submission: {reason}"))
        try:
            entry = _listed(job, kaggle) or entry
        except KaggleError as error:
            if error.status not in waiting.OUTAGE:
                raise
            log.info(f"{error}; still waiting")
    raise KaggleError("not scored after an hour; run the same command again to keep waiting")


def _look_for(job: SubmissionJob, kaggle: Kaggle, seconds: float) -> ListedSubmission | None:
    """The submission of this job, looked for over so many seconds."""
    for _ in waiting.pauses(job.sleep, seconds):
        if entry := _listed(job, kaggle):
            return entry
    return None


def _listed(job: SubmissionJob, kaggle: Kaggle) -> ListedSubmission | None:
    entries = kaggle.submissions(str(job.plan.competition.slug))
    return next((entry for entry in entries if job.run_id in entry.description), None)
