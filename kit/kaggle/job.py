"""A submission as a job: its plan, and a folder that holds everything known about it.

`state.json` keeps the result of every step, so that the same command continues after Ctrl-C, a crash or a lost reply,
and neither pushes nor submits twice. A request that counts is written down before it is sent, on the disk; what became
of it is looked up at Kaggle by the job's id, which is in the kernel's source and in the submission's description. The
state is written twice, and where both files are damaged it is taken that everything may have been sent.
"""

import datetime
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kit import files
from kit.errors import ConfigError, DataError, KitError
from kit.kaggle.answers import SubmissionCount
from kit.kaggle.plan import SubmissionPlan, by_code
from kit.run import Run

log = logging.getLogger(__name__)
Sleep = Callable[[float], None]
_STATE, _COPY = "state.json", "state.copy.json"  # the copy is written first


class JobState(BaseModel):
    """`state.json`: how far a job has come. What has not happened yet is left out of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    begun: str  # UTC
    plan: str  # fingerprint
    from_run: bool
    number: int = Field(0, ge=0)  # jobs of a config are counted: clocks are set back
    push_begun: bool = False  # a push was sent; it is not known yet which version it became, if any
    kernel: str = Field("", pattern=r"^([^/\s]+/[^/\s]+)?$")  # owner/slug
    newest: int = Field(0, ge=0)  # the kernel's version before the push
    version: int = Field(0, ge=0)  # of the pushed kernel, from 1
    submit_begun: bool = False  # a submission was sent; it is not known yet whether it arrived
    count: SubmissionCount | None = None  # Kaggle's before that
    submission: int | None = Field(None, ge=0)  # Kaggle's number, 0 where it gave none
    scored: bool = False
    description: str = ""  # of the scored submission
    public: float | None = Field(None, allow_inf_nan=False)
    private: float | None = Field(None, allow_inf_nan=False)
    run: str = ""  # the run directory that was submitted
    done: bool = False
    failed: str | None = None  # why this job cannot succeed

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done or self.failed is not None

    @property
    def score_text(self) -> str:
        """The leaderboard's scores: `public 0.95, private not given`."""
        scores = {"public": self.public, "private": self.private}
        return ", ".join(f"{name} {'not given' if score is None else f'{score:g}'}" for name, score in scores.items())


@dataclass(frozen=True)
class SubmissionJob:
    """One submission under way: its plan, its folder, and how to wait (for a number of seconds)."""

    plan: SubmissionPlan
    folder: Path
    sleep: Sleep = field(default=time.sleep)

    @property
    def state(self) -> JobState:
        """How far it has come; raises DataError where neither of its files says so."""
        state = _state_in(self.folder)
        if state is None:
            raise DataError(f"{self.folder / _STATE} is damaged: `kit submit` looks up at Kaggle what happened")
        return state

    @property
    def run_id(self) -> str:
        """The name that identifies it among kernels and submissions."""
        return self.folder.name

    def update(self, **values: Any) -> None:
        """Write these values into the state; they are on the disk when this returns."""
        self.write(JobState(**{**self.state.model_dump(exclude_unset=True), **values}))

    def write(self, state: JobState) -> None:
        """Write the state, as `update` does."""
        for name in (_COPY, _STATE):
            path = self.folder / name
            if path.is_dir():
                path.rename(path.with_name(f"{name}.damaged-{secrets.token_hex(4)}"))
            files.write_json(path, state.model_dump(exclude_unset=True, mode="json"), durable=True)

    def fail(self, error: KitError) -> KitError:
        """Record that this job cannot succeed; returns `error`, to be raised."""
        self.update(failed=str(error))
        return error

    @property
    def sample(self) -> Path:
        """The competition's sample submission, downloaded when the submission is checked."""
        return self.folder / "sample_submission.csv"

    @property
    def metadata(self) -> Path:
        """The metadata of the kernel, written before it is pushed."""
        return self.folder / "bundle" / "kernel" / "kernel-metadata.json"


def open_job(plan: SubmissionPlan, parent: Path, again: bool = False, sleep: Sleep = time.sleep) -> SubmissionJob:
    """The job in `parent` to continue, or a new one.

    That is the last one of the same plan (`again`: if it is unfinished), else one whose kernel was pushed and has not
    ended (unless `again`).
    """
    folders = [path for path in parent.glob("kit-*") if path.is_dir()]
    number = 1 + max((state.number for path in folders if (state := _state_in(path))), default=0)
    for path in folders:
        _recover(SubmissionJob(plan, path), number)
    jobs, fingerprint = _jobs(plan, parent, sleep), plan.fingerprint()
    same = _of_plan(jobs, fingerprint)
    if same and not (again and same.state.has_ended):
        return same
    if jobs and not same and not again and not plan.from_run and not plan.code:  # these name what they send
        last = jobs[0]
        if last.state.push_begun and not last.state.has_ended:
            log.info(f"continuing {last.run_id}, pushed from other code or settings; --again starts a new one instead")
            return last
    job = SubmissionJob(plan, parent / f"kit-{secrets.token_hex(4)}", sleep)
    job.write(JobState(begun=_now(), plan=fingerprint, from_run=bool(plan.from_run), number=number))
    return job


@contextmanager
def locked_job(
    plan: SubmissionPlan, parent: Path, again: bool = False, sleep: Sleep = time.sleep
) -> Iterator[SubmissionJob]:
    """`open_job`, locked for this process: two commands never work on one submission."""
    parent.mkdir(parents=True, exist_ok=True)
    with files.locked(parent):
        yield open_job(plan, parent, again, sleep)


def has_trained(plan: SubmissionPlan, parent: Path) -> bool:
    """Whether the kernel of that plan has trained, for a run that is submitted as code."""
    job = _of_plan(_jobs(plan, parent), plan.fingerprint())
    return job is not None and job.state.done


def finished_job(plan: SubmissionPlan, parent: Path | None = None) -> SubmissionJob | None:
    """The last job of that plan in `parent`, if it is done: nothing is needed of Kaggle to tell its result."""
    job = _of_plan(_jobs(plan, parent or plan.jobs_folder), plan.fingerprint())
    if job is None or not job.state.done:
        return None
    return job if job.state.scored or not plan.competition.leaderboard else None  # else it only trained


def finished_job_of_run(plan: SubmissionPlan) -> SubmissionJob | None:
    """The last job that submitted `plan.from_run`, as code or as a file, if it is done."""
    if not plan.from_run:
        return finished_job(plan)
    with suppress(KitError):  # without its weights, for one, it was never submitted as code
        code = by_code(plan, plan.from_run)
        if code.jobs_folder.is_dir() and (job := finished_job(code)):
            return job
    return finished_job(plan) if Run(plan.from_run).submission_path.is_file() else None


def last_pushed_job(plan: SubmissionPlan) -> SubmissionJob:
    """The job whose kernel was pushed last; raises ConfigError where there is none."""
    job = next((job for job in _jobs(plan, plan.jobs_folder) if job.state.version), None)
    if job is None:
        name = plan.config or plan.name
        command = f"kit submit {name} --code --from-run RUN" if plan.code else f"kit kaggle push {name}"
        raise ConfigError(f"nothing of {plan.name} was pushed from this folder yet: {command}")
    return job


def _recover(job: SubmissionJob, number: int) -> None:
    """Write the state of a job of this plan's kind, where it is damaged, from what else its folder holds.

    Whatever may have been sent counts as sent, with an unknown fate: the bundle is there from before the push on, the
    sample from before the submission on. Without either, nothing was sent.
    """
    if _read(job.folder / _STATE):
        return
    if copy := _read(job.folder / _COPY):
        return job.write(copy)
    pushed, checked = (job.folder / "bundle").exists(), job.sample.exists()
    if bool(job.plan.from_run) == pushed or not (pushed or checked):
        return
    log.info(f"{job.folder / _STATE} is damaged: looking up at Kaggle what happened")
    kernel = ""
    with suppress(DataError, OSError, ValueError, TypeError, KeyError):
        kernel = str(files.read_json(job.metadata)["id"]) if pushed else ""
    state = JobState(begun=_now(), plan=job.plan.fingerprint(), from_run=not pushed, number=number)
    job.write(state.model_copy(update={"push_begun": pushed, "kernel": kernel, "submit_begun": checked}))


def _state_in(folder: Path) -> JobState | None:
    return _read(folder / _STATE) or _read(folder / _COPY)


def _read(path: Path) -> JobState | None:
    """The state in a file; None where it is absent or damaged."""
    try:
        return JobState.model_validate(files.read_json(path))
    except (DataError, OSError, ValueError, RecursionError):
        return None


def _jobs(plan: SubmissionPlan, parent: Path, sleep: Sleep = time.sleep) -> list[SubmissionJob]:
    """The jobs of pushed kernels, or (`plan.from_run`) of local runs, the newest first."""
    states = {path: state for path in parent.glob("kit-*") if (state := _state_in(path))}
    paths = [path for path, state in states.items() if state.from_run == bool(plan.from_run)]
    paths.sort(key=lambda path: (states[path].number, states[path].begun), reverse=True)
    return [SubmissionJob(plan, path, sleep) for path in paths]


def _of_plan(jobs: list[SubmissionJob], fingerprint: str) -> SubmissionJob | None:
    return next((job for job in jobs if job.state.plan == fingerprint), None)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()
