"""From a checkout to a score: push, wait, fetch, check, submit once, wait for the score, write it into the ledger.

Each step first looks whether it is done (kit.kaggle.job keeps that), so that the same command continues.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import KitError, SubmissionError, counted
from kit.kaggle import waiting
from kit.kaggle.answers import ListedSubmission
from kit.kaggle.client import Kaggle
from kit.kaggle.code import explanation, output_of
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.job import Sleep, SubmissionJob, finished_job, has_trained, locked_job
from kit.kaggle.output import FAILED, fetch_output, fetch_weights, kernel_state, wait_for_kernel
from kit.kaggle.plan import CODE, SubmissionPlan, by_code
from kit.kaggle.push import preflight, push_kernel
from kit.run import SUBMISSION, Run
from kit.stages.per_case import scored_examples
from kit.stages.submission import sent_oof
from kit.submit import ledger
from kit.submit.submission import check_rows, check_submission, read_submission

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def submit(
    plan: SubmissionPlan,
    parent: Path,
    kaggle: Kaggle,
    journal: Path,
    again: bool = False,
    sleep: Sleep = time.sleep,
    as_code: bool = False,
) -> SubmissionJob:
    """All steps, continuing where an earlier call stopped; the job's state has the scores, and `journal` a line.

    For a competition without a leaderboard (or one that kit cannot serve) it ends with the kernel's output. Where one
    takes kernels only (or `as_code`), a kernel is submitted that predicts with the run: `plan.from_run`, or what a
    kernel has trained. What failed before is looked at once more before its failure is repeated.
    """
    if plan.competition.leaderboard:
        ledger.check(journal)
        if not plan.code and (as_code or takes_kernels_only(plan, parent, kaggle)):
            run = plan.from_run or train(plan, parent, kaggle, again and not has_trained(plan, parent), sleep)
            return submit(by_code(plan, run), parent / CODE, kaggle, journal, again, sleep)
    with locked_job(plan, parent, again, sleep) as job:
        if not job.state.done:
            with repeating_failure(job):
                _all_steps(job, kaggle, journal, again)
        return job


def takes_kernels_only(plan: SubmissionPlan, parent: Path, kaggle: Kaggle) -> bool:
    """Whether the plan's competition takes no files; not asked where one was sent and scored."""
    has_file = plan.from_run is None or Run(plan.from_run).submission_path.is_file()
    if has_file and finished_job(plan, parent):
        return False
    only = kaggle.competition(str(plan.competition.slug)).is_kernels_submissions_only
    if only:
        log.info(f"{plan.competition.slug} takes kernels only: submitting one that predicts its hidden test set")
    return only


@contextmanager
def repeating_failure(job: SubmissionJob) -> Iterator[None]:
    """Say, where a job that had failed fails in the block again, that it is nothing new, and what to do."""
    failure = job.state.failed
    try:
        if failure and not (job.state.version or job.plan.from_run):
            raise KaggleError(failure)  # there is no kernel to look at
        yield
    except KitError as error:
        if failure is None:
            raise
        seen = str(error) if job.state.failed == str(error) else f"{failure}\n(looked again: {error})"
        raise KaggleError(
            f"{job.run_id} failed with the same code and settings: {seen}\nFix the cause, or try the same with --again"
        ) from error


def push(
    plan: SubmissionPlan, parent: Path, kaggle: Kaggle, again: bool = False, sleep: Sleep = time.sleep
) -> SubmissionJob:
    """The first steps of `submit`, for which no submission has to be left: the kernel is pushed, and left running."""
    with locked_job(plan, parent, again, sleep) as job:
        with repeating_failure(job):
            push_kernel(job, kaggle, submitting=False, again=again)
            if job.state.failed:
                state, reason = kernel_state(job, kaggle)
                if state in FAILED:
                    raise KaggleError(reason or state)
                job.update(failed=None)
        return job


def train(plan: SubmissionPlan, parent: Path, kaggle: Kaggle, again: bool = False, sleep: Sleep = time.sleep) -> Path:
    """The run, with weights, that a pushed kernel trained; pushes it and waits for it first, unless that is done."""
    with locked_job(plan, parent, again, sleep) as job, repeating_failure(job):
        push_kernel(job, kaggle, submitting=False, again=again)
        wait_for_kernel(job, kaggle)
        fetch_output(job, kaggle)
        run = fetch_weights(job, kaggle) / "runs" / plan.name / "kernel"
        job.update(done=True, failed=None, run=str(run))
        return run


def _all_steps(job: SubmissionJob, kaggle: Kaggle, journal: Path, again: bool) -> None:
    plan = job.plan
    if plan.from_run:
        run, path = Run(plan.from_run), plan.submission
    else:
        push_kernel(job, kaggle, again=again)
        wait_for_kernel(job, kaggle)
        out = fetch_output(job, kaggle)
        run, path = Run(out / "runs" / plan.name / "kernel"), Run(out).submission_path  # the kernel copies it
        if plan.code:
            run, path = Run(plan.code.run or ""), output_of(out)
    if plan.competition.leaderboard:
        if not job.state.scored:
            check = check_code_against_sample if plan.code else check_against_sample
            check(job, kaggle, path, run)
            entry = wait_for_score(job, kaggle, send_once(job, kaggle, path, again))
            scores = {"public": entry.public, "private": entry.private}
            job.update(scored=True, description=entry.description, **scores)
        state = job.state
        log.info(f"{job.run_id} on the leaderboard: {state.score_text}")
        if not plan.is_constant:  # that has no out-of-fold score
            line = ledger.entry(run, path, state.description)
            sent = {"sha256": plan.fingerprint()} if plan.code else {}  # its output here is not what was scored
            ledger.write(journal, {**line, **sent, "public": state.public, "private": state.private})
    job.update(done=True, failed=None, run="" if plan.is_constant else str(run))


def check_against_sample(job: SubmissionJob, kaggle: Kaggle, path: Path, run: Run) -> None:
    """Raise SubmissionError unless Kaggle would accept that file, compared with the competition's own sample."""
    competition = job.plan.competition
    sample = _sample(job, kaggle)
    try:
        submission = read_submission(path, competition.id_column)
        remarks = check_submission(competition, submission, sample, sent_oof(run), scored_examples(run))
    except SubmissionError as error:
        raise job.fail(SubmissionError(f"{path}: {error}")) from error
    for remark in remarks:
        log.info(f"noticed: {remark}")


def check_code_against_sample(job: SubmissionJob, kaggle: Kaggle, path: Path, run: Run) -> None:
    """Raise SubmissionError unless what the kernel wrote of the public test set has the sample's columns and ids."""
    if path.name != SUBMISSION:  # the competition's own gateway wrote it
        return
    sample, key = _sample(job, kaggle), job.plan.competition.id_column
    try:
        check_rows(read_submission(path, key), sample, key)
    except SubmissionError as error:
        raise job.fail(SubmissionError(f"{path}: {error}")) from error


def _sample(job: SubmissionJob, kaggle: Kaggle) -> "pd.DataFrame":
    """The competition's sample submission, downloaded once."""
    competition = job.plan.competition
    if job.state.failed:  # perhaps the sample was not what it should be
        job.sample.unlink(missing_ok=True)
    if not job.sample.exists():
        kaggle.competition_file(str(competition.slug), str(competition.sample or job.sample.name), job.sample)
    try:
        return read_submission(job.sample, competition.id_column)
    except SubmissionError as error:  # an error page
        job.sample.unlink()
        message = f"Kaggle sent no sample submission ({error}); run the same command to ask again"
        raise KaggleError(message) from error


def send_once(job: SubmissionJob, kaggle: Kaggle, path: Path, again: bool = False) -> ListedSubmission:
    """Submit that file, unless this job has submitted it; returns what Kaggle lists.

    While it is unknown whether an earlier request arrived, nothing is sent, unless `again`.
    """
    begun = job.state.submit_begun or job.state.submission is not None
    entry = _look_for(job, kaggle, waiting.LAG if begun else 0)  # it may still appear
    if entry is None:
        if begun and not again:
            _require_absence(job, kaggle)
        _send(job, kaggle, path)
        entry = _look_for(job, kaggle, waiting.LAG)
    if entry is None:
        _require_absence(job, kaggle)
        job.update(submit_begun=False)
        raise KaggleError("the submission is not on Kaggle's list: it did not arrive. Run the same command to send it")
    job.update(submission=entry.ref or None)
    return entry


def _send(job: SubmissionJob, kaggle: Kaggle, path: Path) -> None:
    """Submit the file once; its number goes into the state, where Kaggle answers with one."""
    slug, version = str(job.plan.competition.slug), f"v{job.state.version} " if job.state.version else ""
    job.update(submit_begun=False, submission=None)
    if job.plan.from_run:
        preflight(job, kaggle)
    count = kaggle.submission_count(slug)
    if count.left < 1:
        raise KaggleError("no submission left today; days begin at midnight UTC. Run the same command again then")
    begin = lambda: job.update(submit_begun=True, count=count)  # noqa: E731
    description = f"kit {job.plan.name} {version}{job.run_id}"
    try:
        if job.plan.code:
            begin()
            ref = kaggle.submit_code(slug, job.state.kernel, job.state.version, path.name, description)
        else:
            ref = kaggle.submit(slug, path, description, begin)
        job.update(submission=ref or None)  # without a number it is not certain
    except Unanswered as error:
        log.info(f"{error}; looking for it among the submissions")
    except KaggleError:
        job.update(submit_begun=False)  # refused
        raise


def wait_for_score(job: SubmissionJob, kaggle: Kaggle, entry: ListedSubmission) -> ListedSubmission:
    """Wait until Kaggle has scored the submission; raises KaggleError when it could not."""
    hours = 2 * job.plan.hours if job.plan.code else 1.0  # a rerun waits for a machine, too
    for latest in waiting.looks(kaggle, job.sleep, hours * 3600, lambda: _current(job, kaggle)):
        entry = latest or entry
        if entry.state == "complete":
            return entry
        if entry.state == "error" and latest:
            reason = entry.error or "it gives no reason"
            if job.plan.code:
                reason = explanation(entry.error, str(job.plan.competition.slug))
            raise job.fail(KaggleError(f"Kaggle could not score the submission: {reason}"))
        if job.state.failed:
            job.update(failed=None)
    raise KaggleError(f"not scored after {counted(int(hours), 'hour')}; run the same command again to keep waiting")


def _look_for(job: SubmissionJob, kaggle: Kaggle, seconds: float) -> ListedSubmission | None:
    """The submission of this job, looked for over so many seconds."""
    entries = waiting.looks(kaggle, job.sleep, seconds, lambda: _current(job, kaggle))
    return next((entry for entry in entries if entry), None)


def _current(job: SubmissionJob, kaggle: Kaggle) -> ListedSubmission | None:
    """The submission of this job: by its number, where that is known, else by the job's id on the list."""
    if (ref := job.state.submission) and (entry := kaggle.submission(ref)):
        return entry
    return kaggle.find_submission(str(job.plan.competition.slug), job.run_id)


def _require_absence(job: SubmissionJob, kaggle: Kaggle) -> None:
    """Raise KaggleError unless Kaggle has no submission of this job: it is not on the list, and is not counted."""
    state, slug = job.state, str(job.plan.competition.slug)
    if state.submission is not None:
        raise KaggleError("the submission is not on Kaggle's list; run the same command to look again")
    if state.count is None or kaggle.submission_count(slug).has_changed_since(state.count):
        page = f"https://www.kaggle.com/competitions/{slug}/submissions"
        raise KaggleError(
            f"it is not known whether Kaggle has the submission {job.run_id}: it is not on the list, but may be "
            f"counted. Look at {page}. Run the same command to look again; only if it is not there, --again sends it"
        )
