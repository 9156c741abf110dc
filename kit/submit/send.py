"""From a checkout to a score: bundle, push, wait, fetch, check, submit once, score, write down.

Every step's result is kept in `state.json` of the job's folder, so the same command goes on after Ctrl-C, a crash or a
lost reply, and neither pushes nor submits twice: what a lost reply hid is looked up by the job's id, which stands in the
kernel's source and in the submission's description.
"""

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kit import files, results
from kit.competitions import Competition
from kit.errors import ConfigError, SubmissionError
from kit.submit import bundle, ledger
from kit.submit.bundle import Accelerator, Wheel
from kit.submit.kaggle import Kaggle, KaggleError, Submission, Unanswered
from kit.submit.submission import check_submission, read_submission

_DONE = {"complete"}
_FAILED = {"error", "cancel_acknowledged"}
_LEAST_HOURS = 0.5  # of quota, below which nothing is pushed
_QUEUE_HOURS = 6.0  # longer than that a kernel does not wait


@dataclass
class Job:
    """One submission of a competition: where it is kept, what it is made with, and how to wait."""

    competition: Competition
    folder: Path
    settings: list[str]
    accelerator: Accelerator
    hours: float
    say: Callable[[str], None] = print
    sleep: Callable[[float], None] = time.sleep

    @property
    def state(self) -> dict[str, Any]:
        """What is known so far."""
        path = self.folder / "state.json"
        return dict(files.read_json(path)) if path.exists() else {}

    def keep(self, **values: Any) -> None:
        """Remember."""
        files.write_json(self.folder / "state.json", {**self.state, **values})


def preflight(job: Job, kaggle: Kaggle) -> None:
    """Raise before anything is spent: not joined, closed, no submission or accelerator time left."""
    slug = job.competition.slug
    if slug is None or "/" in slug:
        raise ConfigError(f"{job.competition.name} has no leaderboard: `kit run` scores its own test set")
    found = kaggle.competition(slug)
    if not found.user_has_entered:
        raise KaggleError(f"you have not joined {slug}: open kaggle.com/c/{slug}, accept the rules, and run this again")
    if found.submissions_disabled:
        raise KaggleError(f"{slug} takes no submissions any more")
    if found.is_kernels_submissions_only:
        raise KaggleError(f"{slug} takes kernels only, not files: submit the kernel on its page")
    if kaggle.submissions_left(slug) < 1:
        raise KaggleError("no submission left today, or you are not on a team yet; days begin at midnight UTC")
    if job.accelerator != "cpu" and (left := kaggle.hours_left(job.accelerator)) is not None and left < _LEAST_HOURS:
        raise KaggleError(
            f"{left:.1f} hours of this week's {job.accelerator} quota are left: --accelerator cpu, or wait"
        )


def ensure_dataset(job: Job, kaggle: Kaggle, wheel: Wheel) -> str:
    """The private dataset that holds this wheel, uploaded unless it is there, and ready; returns its name."""
    ref = f"{kaggle.user}/{bundle.slugify(bundle.dataset_title())}"
    before = kaggle.dataset_state(ref)
    if before is None or wheel.name not in _files_of(kaggle, ref):
        job.say(f"uploads {wheel.name} to the dataset {ref}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / wheel.name
            path.write_bytes(wheel.content)
            try:
                kaggle.upload_dataset(ref, bundle.dataset_title(), [path], wheel.sha256, new=before is None)
            except Unanswered:
                pass  # whether it came is seen below
    for waited in _waits(job, 30):
        now = kaggle.dataset_state(ref)
        if now and now[0] in ("failed", "deleted"):
            raise KaggleError(f"Kaggle could not make the dataset {ref}: it is {now[0]}")
        if now and now[0] == "ready" and wheel.name in _files_of(kaggle, ref):
            return ref
        if waited:
            job.say(f"waits for the dataset {ref}: {now[0] if now else 'not there yet'}")
    raise KaggleError(f"the dataset {ref} is not ready after half an hour; the same command goes on waiting")


def ensure_pushed(job: Job, kaggle: Kaggle, wheel: Wheel) -> tuple[str, int]:
    """The kernel of this job, pushed unless it was: (owner/slug, version)."""
    metadata = bundle.kernel_metadata(job.competition, kaggle.user, job.accelerator)
    ref, run_id = metadata["id"], job.state["run_id"]
    if version := job.state.get("version"):
        return ref, version
    if job.state.get("push_begun"):  # cut off, or the reply was lost: did it happen?
        found = kaggle.kernel(ref)
        if found and run_id in found[1]:
            job.keep(version=found[0])
            return ref, found[0]
    source = bundle.kernel_source(job.competition.name, wheel, run_id, job.hours, job.settings)
    job.keep(push_begun=True)
    try:
        pushed = kaggle.push(metadata, source, int(job.hours * 3600) + 900)
        version = pushed.version
    except Unanswered:
        found = kaggle.kernel(ref)
        if not (found and run_id in found[1]):
            raise
        version = found[0]
    job.keep(version=version)
    job.say(f"pushed https://www.kaggle.com/code/{ref}, version {version}")
    return ref, version


def wait_for_kernel(job: Job, kaggle: Kaggle, ref: str, version: int) -> None:
    """Until that version has run; raises KaggleError with the end of its log when it failed."""
    last, begun = "", time.monotonic()
    for _ in _waits(job, (job.hours + _QUEUE_HOURS) * 60):
        try:
            state, why = kaggle.kernel_state(ref, version)
        except KaggleError as error:
            if error.status in (403, 404) and time.monotonic() - begun < 120:
                continue  # right after a push it cannot be seen yet
            raise
        if state != last:
            job.say(f"the kernel is {state}")
            last = state
        if state in _DONE:
            return
        if state in _FAILED:
            with tempfile.TemporaryDirectory() as folder:
                log = kaggle.kernel_output(ref, version, Path(folder))
            files.write_text(job.folder / "kernel.log", log)
            raise KaggleError(
                f"the kernel failed: {why or state}\n{log_tail(log)}\n(all of it: {job.folder / 'kernel.log'})"
            )
    raise KaggleError("the kernel has not ended in time; the same command goes on waiting")


def fetch_output(job: Job, kaggle: Kaggle, ref: str, version: int) -> Path:
    """The kernel's output, downloaded whole into an empty folder, which is returned."""
    out = job.folder / f"output-v{version}"
    if not out.exists():
        part = job.folder / f"{files.PART}output"
        shutil.rmtree(part, ignore_errors=True)
        log = kaggle.kernel_output(ref, version, part)
        files.write_text(part / "kernel.log", log)
        for name in ("submission.csv", "run_id.txt"):
            if not (part / name).exists():
                raise KaggleError(f"the kernel left no {name}: {job.folder / 'kernel.log'} says why\n{log_tail(log)}")
        if (part / "run_id.txt").read_text().strip() != job.state["run_id"]:
            raise KaggleError("that output is of another push of the same kernel: run `kit submit --again`")
        part.rename(out)
    return out


def send(job: Job, kaggle: Kaggle, path: Path, description: str) -> Submission:
    """Submit that file, unless a submission of this job is on the list already; returns it."""
    slug, run_id = str(job.competition.slug), job.state["run_id"]

    def sent() -> Submission | None:
        return next((entry for entry in kaggle.submissions(slug) if run_id in entry.description), None)

    found = sent()
    if found is None:
        try:
            kaggle.submit(slug, path, description)
        except Unanswered as error:
            job.say(f"{error}; looks for it among the submissions")
        for _ in _waits(job, 3):
            found = sent()
            if found is not None:
                break
    if found is None:
        raise KaggleError(
            "the submission is not on the list; the same command looks again, and sends it if it is not there"
        )
    job.keep(ref=found.ref)
    return found


def wait_for_score(job: Job, kaggle: Kaggle) -> Submission:
    """Until Kaggle has scored the submission; raises KaggleError when it could not."""
    slug, run_id = str(job.competition.slug), job.state["run_id"]
    for _ in _waits(job, 60):
        entry = next((entry for entry in kaggle.submissions(slug) if run_id in entry.description), None)
        if entry and entry.state == "complete":
            return entry
        if entry and entry.state == "error":
            raise KaggleError(f"Kaggle could not score it: {entry.error}")
    raise KaggleError("not scored after an hour; the same command goes on waiting")


def checked(job: Job, path: Path, sample: Path | None, oof: Path | None) -> None:
    """Raise SubmissionError unless Kaggle would take that file, as far as can be known here."""
    submission = read_submission(path, job.competition.id_column)
    wanted = read_submission(sample, job.competition.id_column) if sample else submission
    for remark in check_submission(job.competition, submission, wanted, pd.read_parquet(oof) if oof else None):
        job.say(f"noticed: {remark}")


def submit(job: Job, kaggle: Kaggle, from_run: Path | None = None, sample: Path | None = None) -> Submission:
    """All steps, going on where an earlier call stopped; returns the scored submission.

    With `from_run`, a finished local run's `submission.csv` is sent and nothing is pushed.
    """
    with files.locked(_made(job.folder)):
        if "run_id" not in job.state:
            job.keep(run_id=f"kit-{secrets.token_hex(4)}", settings=job.settings, accelerator=job.accelerator)
        if not job.state.get("ref"):
            preflight(job, kaggle)
        if from_run:
            run, path, what = from_run, from_run / "submission.csv", from_run.name
            if not path.exists():
                raise SubmissionError(f"{path} does not exist: `kit run` or `kit submission write` makes it")
        else:
            wheel = bundle.make_wheel()
            ensure_dataset(job, kaggle, wheel)
            ref, version = ensure_pushed(job, kaggle, wheel)
            wait_for_kernel(job, kaggle, ref, version)
            out = fetch_output(job, kaggle, ref, version)
            run, path, what = out / "runs" / job.competition.name / "kernel", out / "submission.csv", f"v{version}"
        oof = run / "oof.parquet"
        checked(job, path, sample, oof if oof.exists() else None)
        entry = send(job, kaggle, path, f"kit {job.competition.name} {what} {job.state['run_id']}")
        entry = wait_for_score(job, kaggle)
        results.score(run)
        line = ledger.entry(run, path, entry.description)
        ledger.write(job.folder.parent / "submissions.csv", {**line, "public": entry.public, "private": entry.private})
        job.keep(public=entry.public, private=entry.private)
        return entry


def log_tail(log: str, lines: int = 15) -> str:
    """The end of a kernel's log, which is a JSON list of pieces, as text."""
    import json

    try:
        text = "".join(str(piece.get("data", "")) for piece in json.loads(log))
    except (ValueError, AttributeError):
        text = log
    return "\n".join(text.rstrip().split("\n")[-lines:])


def _files_of(kaggle: Kaggle, ref: str) -> list[str]:
    try:
        return kaggle.dataset_files(ref)
    except KaggleError as error:
        if error.status in (403, 404):
            return []
        raise


def _waits(job: Job, minutes: float) -> Any:
    """Numbers from 0 on, with a growing pause before each but the first, until so many minutes were waited."""
    waited, pause, n = 0.0, 5.0, 0
    yield n
    while waited < minutes * 60:
        job.sleep(pause)
        waited, pause, n = waited + pause, min(60.0, pause * 1.5), n + 1
        yield n


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
