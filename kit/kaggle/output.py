"""A pushed kernel, from its queue to its output: waited for, downloaded whole, and compared with what it wrote."""

import json
import logging
from contextlib import suppress
from pathlib import Path

from kit import files
from kit.errors import ConfigError, DataError, some
from kit.kaggle import waiting
from kit.kaggle.client import Kaggle, inside
from kit.kaggle.code import OUTPUTS
from kit.kaggle.http import KaggleError
from kit.kaggle.job import SubmissionJob
from kit.kaggle.text import visible
from kit.run import Run

log = logging.getLogger(__name__)
FAILED = {"error", "cancel_acknowledged"}  # states of a kernel
_QUEUE_HOURS = 6.0  # no kernel is queued for longer


def wait_for_kernel(job: SubmissionJob, kaggle: Kaggle) -> None:
    """Wait until the job's version has run; raises KaggleError with the end of its log when it failed."""
    kernel, version, last_state = job.state.kernel, job.state.version, ""
    patience = 0.0 if job.state.failed else waiting.LAG  # what failed before is looked at once more
    seconds = (job.plan.hours + _QUEUE_HOURS) * 3600
    states = waiting.looks(kaggle, job.sleep, seconds, lambda: kaggle.kernel_state(kernel, version), patience)
    try:
        for state, reason in states:
            if state != last_state:
                log.info(f"the kernel is {state.replace('_', ' ')}")
                last_state = state
            if state in FAILED:
                raise job.fail(KaggleError(f"the kernel failed: {reason or state}\n{_saved_log(job, kaggle)}"))
            if job.state.failed:
                job.update(failed=None)
            if state == "complete":
                return
    except KaggleError as error:
        if error.status in (403, 404):
            raise job.fail(KaggleError(f"the kernel is gone: {error}", error.status)) from error
        raise
    raise KaggleError("the kernel has not ended in time; run the same command again to keep waiting")


def _saved_log(job: SubmissionJob, kaggle: Kaggle) -> str:
    """The end of the log of a kernel that failed, all of which is saved."""
    text, path = "", job.folder / "kernel.log"
    with suppress(KaggleError):  # a kernel that never ran has none
        text = log_text(kaggle.kernel_log(job.state.kernel, job.state.version))
    if text or not path.exists():
        files.write_text(path, text)
    return f"{_tail(text)}\n(full log: {path})"


def fetch_output(job: SubmissionJob, kaggle: Kaggle) -> Path:
    """Download the kernel's output without weights, whole, into a folder of the job; returns that folder.

    Raises KaggleError when it is not complete yet, or not what was expected of this job.
    """
    out, part = job.folder / "output", job.folder / f"{files.PART}output"
    if out.exists():
        return out
    text, broken = "", ["kernel.json"]
    kernel, version = job.state.kernel, job.state.version
    download = lambda: kaggle.kernel_output(kernel, version, part, is_result)  # noqa: E731
    for log_json in waiting.looks(kaggle, job.sleep, 120, download):
        text = log_text(log_json)
        if not (broken := _remove_broken(part)):
            break
    files.write_text(part / "kernel.log", text)
    if broken:
        message = f"not yet as the kernel wrote it: {some(broken)}; run the same command again to check once more"
        raise KaggleError(message)
    results = Run(part)  # the kernel copies its results to the top
    expected = results.submission_path if job.plan.competition.leaderboard else results.scores_path
    if not (expected.exists() or (job.plan.code and any((part / name).exists() for name in OUTPUTS))):
        message = f"the kernel ended without {expected.name}:\n{_tail(text)}\n(full log: {part / 'kernel.log'})"
        raise job.fail(KaggleError(message))
    summary = files.read_json(part / "kernel.json")
    if summary.get("run_id") != job.run_id:
        other = summary.get("run_id") or "another kernel"
        raise job.fail(KaggleError(f"the output is from {other}, not from {job.run_id}"))
    if not summary.get("finished"):
        log.info("noticed: the session ran out of time; the predictions are those of the folds trained by then")
    part.rename(out)
    return out


def fetch_weights(job: SubmissionJob, kaggle: Kaggle) -> Path:
    """Download all of the kernel's output, with weights, into a folder of the job; returns that folder."""
    out = job.folder / "whole"
    if not out.exists():
        download_output(job, kaggle, out)
    return out


def kernel_state(job: SubmissionJob, kaggle: Kaggle) -> tuple[str, str]:
    """(state, why it failed) of the job's kernel; a job whose kernel has failed is marked as failed."""
    state, reason = kaggle.kernel_state(job.state.kernel, job.state.version)
    if state in FAILED:  # so that the next push starts a new job
        job.fail(KaggleError(reason or state))
    return state.replace("_", " "), reason


def download_output(job: SubmissionJob, kaggle: Kaggle, out: Path) -> int:
    """Download all output of the job's kernel into `out`; returns the number of files.

    Raises ConfigError when `out` exists, or the kernel has not ended yet.
    """
    if out.exists():
        raise ConfigError(f"{out} already exists, and would mix the files of two versions: give another --out")
    kernel, version = job.state.kernel, job.state.version
    state, _ = kaggle.kernel_state(kernel, version)
    if state not in {"complete", *FAILED}:
        raise ConfigError(f"version {version} of {kernel} is {state}: there is no output yet")
    part = out.absolute().with_name(f"{files.PART}{out.name}-{kernel.split('/')[1]}-v{version}")
    part.mkdir(parents=True, exist_ok=True)
    kaggle.kernel_output(kernel, version, part)
    part.rename(out)
    return sum(path.is_file() for path in out.rglob("*"))


def kernel_log(job: SubmissionJob, kaggle: Kaggle) -> str:
    """The log of the job's kernel as text that is safe to show; empty until it has ended."""
    return log_text(kaggle.kernel_log(job.state.kernel, job.state.version))


def is_result(name: str) -> bool:
    """Whether scoring and submitting need a file of a kernel's output: all but weights and the state of training."""
    return not name.endswith(".h5") and "/state/" not in name


def log_text(log: str) -> str:
    """A kernel's log, a JSON list of pieces, as text that is safe to show."""
    try:
        pieces = json.loads(log)
        return visible("".join(str(piece.get("data", "")) for piece in pieces))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return visible(log)


def _tail(log: str, lines: int = 15) -> str:
    return "\n".join(log.rstrip().split("\n")[-lines:])


def _remove_broken(output: Path) -> list[str]:
    """Delete the files that differ from what `kernel.json` says the kernel wrote; returns their names."""
    summary = output / "kernel.json"
    if not summary.exists():  # every complete kernel wrote it: Kaggle does not list it yet
        return [summary.name]
    try:
        sums = {"kernel.json": files.sha256_of(summary), **files.read_json(summary)["sha256"]}
    except (DataError, KeyError, TypeError):  # an error page
        sums = {"kernel.json": ""}
    expected = {name: sha for name, sha in sums.items() if is_result(name)}
    paths = {name: inside(output, name) for name in expected}
    broken = [name for name, path in paths.items() if not path.exists() or files.sha256_of(path) != expected[name]]
    for name in broken:
        paths[name].unlink(missing_ok=True)
    return broken
