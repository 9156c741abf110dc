"""A submission as a job: its plan, and a folder that holds everything known about it.

`state.json` keeps the result of every step, so that the same command continues after Ctrl-C, a crash or a lost reply,
and neither pushes nor submits twice: what a lost reply hid is looked up by the job's id, which is in the kernel's
source and in the submission's description.
"""

import datetime
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kit import files
from kit.errors import ConfigError, DataError, KitError
from kit.kaggle.http import KaggleError
from kit.kaggle.plan import SubmissionPlan

log = logging.getLogger(__name__)
Sleep = Callable[[float], None]


class JobState(BaseModel):
    """`state.json`: how far a job has come. What has not happened yet is left out of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    begun: str  # UTC
    plan: str  # fingerprint
    from_run: bool
    push_begun: bool = False  # a push was sent; it is not known yet which version it became, if any
    kernel: str = ""  # owner/slug
    version: int = 0  # of the pushed kernel, from 1
    submit_begun: bool = False
    submission: int | None = None  # Kaggle's number, 0 where it gave none
    public: float | None = None
    private: float | None = None
    run: str = ""  # the run directory that was submitted
    done: bool = False
    failed: str | None = None  # why this job cannot succeed

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done or self.failed is not None


@dataclass(frozen=True)
class SubmissionJob:
    """One submission under way: its plan, its folder, and how to wait (for a number of seconds)."""

    plan: SubmissionPlan
    folder: Path
    sleep: Sleep = field(default=time.sleep)

    @property
    def state(self) -> JobState:
        """How far it has come; raises DataError for a file that does not say so."""
        path = self.folder / "state.json"
        try:
            return JobState.model_validate(files.read_json(path))
        except ValidationError as error:
            raise DataError(f"{path} is not the state of a submission: delete {self.folder} to start over") from error

    @property
    def run_id(self) -> str:
        """The name that identifies it among kernels and submissions."""
        return self.folder.name

    def update(self, **values: Any) -> None:
        """Write these values into the state."""
        state = JobState(**{**self.state.model_dump(exclude_unset=True), **values})
        files.write_json(self.folder / "state.json", state.model_dump(exclude_unset=True))

    def fail(self, error: KitError) -> KitError:
        """Record that this job cannot succeed; returns `error`, to be raised."""
        self.update(failed=str(error))
        return error


def open_job(plan: SubmissionPlan, parent: Path, again: bool = False, sleep: Sleep = time.sleep) -> SubmissionJob:
    """The job in `parent` to continue, or a new one.

    That is the last one of the same plan (`again`: if it is unfinished), else one whose kernel was pushed and has not
    ended (unless `again`). Raises KaggleError when the same plan has failed before (unless `again`).
    """
    jobs, fingerprint = _jobs(plan, parent, sleep), plan.fingerprint()
    if same := next((job for job in jobs if job.state.plan == fingerprint), None):
        state = same.state
        if not state.has_ended or (state.done and not again):
            return same
        if not again:
            raise KaggleError(
                f"{same.run_id} failed with the same code and settings: {state.failed}\n"
                "Fix the cause, or try the same with --again"
            )
    elif jobs and not again and not plan.from_run:
        last = jobs[0]
        if last.state.push_begun and not last.state.has_ended:
            log.info(f"continuing {last.run_id}, pushed from other code or settings; --again starts a new one instead")
            return last
    job = SubmissionJob(plan, parent / f"kit-{secrets.token_hex(4)}", sleep)
    now = datetime.datetime.now(datetime.UTC).isoformat()
    state = JobState(begun=now, plan=fingerprint, from_run=bool(plan.from_run))
    files.write_json(job.folder / "state.json", state.model_dump(exclude_unset=True))
    return job


@contextmanager
def locked_job(
    plan: SubmissionPlan, parent: Path, again: bool = False, sleep: Sleep = time.sleep
) -> Iterator[SubmissionJob]:
    """`open_job`, locked for this process: two commands never work on one submission."""
    parent.mkdir(parents=True, exist_ok=True)
    with files.locked(parent):
        yield open_job(plan, parent, again, sleep)


def last_pushed_job(plan: SubmissionPlan) -> SubmissionJob:
    """The job whose kernel was pushed last; raises ConfigError where there is none."""
    job = next((job for job in _jobs(plan, plan.jobs_folder) if job.state.version), None)
    if job is None:
        raise ConfigError(f"nothing of {plan.name} was pushed from this folder yet: kit kaggle push {plan.name}")
    return job


def _jobs(plan: SubmissionPlan, parent: Path, sleep: Sleep = time.sleep) -> list[SubmissionJob]:
    """The jobs of pushed kernels, or (`plan.from_run`) of local runs, the newest first."""
    jobs = [SubmissionJob(plan, path.parent, sleep) for path in parent.glob("kit-*/state.json")]
    same_kind = [job for job in jobs if job.state.from_run == bool(plan.from_run)]
    return sorted(same_kind, key=lambda job: job.state.begun, reverse=True)
