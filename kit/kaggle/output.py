"""A pushed kernel, from its queue to its output: waited for, downloaded whole, and compared with what it wrote."""

import json
import logging
import time
from contextlib import suppress
from pathlib import Path

from kit import files
from kit.errors import ConfigError, DataError, some
from kit.kaggle import waiting
from kit.kaggle.client import Kaggle, inside
from kit.kaggle.http import KaggleError
from kit.kaggle.job import SubmissionJob
from kit.run import Run

log = logging.getLogger(__name__)
_FAILED = {"error", "cancel_acknowledged"}  # states of a kernel
_QUEUE_HOURS = 6.0  # no kernel is queued for longer


def wait_for_kernel(job: SubmissionJob, kaggle: Kaggle) -> None:
    """Wait until the job's version has run; raises KaggleError with the end of its log when it failed."""
    last_state, last_trouble, begun = "", "", time.monotonic()
    kernel, version = job.state.kernel, job.state.version
    for _ in waiting.pauses(job.sleep, (job.plan.hours + _QUEUE_HOURS) * 3600):
        try:
            state, reason = kaggle.kernel_state(kernel, version)
        except KaggleError as error:
            if error.status in (403, 404):
                if time.monotonic() - begun < 120:
                    continue  # right after a push it cannot be seen yet
                raise job.fail(KaggleError(f"the kernel is gone: {error}", error.status)) from error
            if error.status == 401 and last_state:  # it worked before: a login by `kaggle auth login` lasts 12 hours
                kaggle.renew()
            elif error.status not in waiting.OUTAGE:
                raise
            if str(error) != last_trouble:
                log.info(f"{error}; still waiting")
            last_trouble = str(error)
            continue
        last_trouble = ""
        if state != last_state:
            log.info(f"the kernel is {state.replace('_', ' ')}")
            last_state = state
        if state == "complete":
            return
        if state in _FAILED:
            text, path = "", job.folder / "kernel.log"
            with suppress(KaggleError):  # a kernel that never ran has none
                text = kaggle.kernel_log(kernel, version)
            files.write_text(path, log_text(text))
            message = f"the kernel failed: {reason or state}\n{_log_tail(text)}\n(full log: {path})"
            raise job.fail(KaggleError(message))
    raise KaggleError("the kernel has not ended in time; run the same command again to keep waiting")


def fetch_output(job: SubmissionJob, kaggle: Kaggle) -> Path:
    """Download the kernel's output without weights, whole, into a folder of the job; returns that folder.

    Raises KaggleError when it is not complete yet, or not what was expected of this job.
    """
    out, part = job.folder / "output", job.folder / f"{files.PART}output"
    if out.exists():
        return out
    text, broken = "", ["kernel.json"]
    for _ in waiting.pauses(job.sleep, 120):
        text = kaggle.kernel_output(job.state.kernel, job.state.version, part, is_result)
        if not (broken := _remove_broken(part)):
            break
    files.write_text(part / "kernel.log", log_text(text))
    if broken:
        raise KaggleError(
            f"not yet as the kernel wrote it: {some(broken)}; run the same command again to check once more, or delete "
            f"{job.folder} to start over"
        )
    results = Run(part)  # the kernel copies its results to the top
    expected = results.submission_path if job.plan.competition.leaderboard else results.scores_path
    if not expected.exists():
        message = f"the kernel ended without {expected.name}:\n{_log_tail(text)}\n(full log: {part / 'kernel.log'})"
        raise job.fail(KaggleError(message))
    summary = files.read_json(part / "kernel.json")
    if summary["run_id"] != job.run_id:
        other = summary["run_id"] or "another kernel"
        raise job.fail(KaggleError(f"the output is from {other}, not from {job.run_id}"))
    if not summary["finished"]:
        log.info("noticed: the session ran out of time; the predictions are those of the folds trained by then")
    part.rename(out)
    return out


def kernel_state(job: SubmissionJob, kaggle: Kaggle) -> tuple[str, str]:
    """(state, why it failed) of the job's kernel; a job whose kernel has failed is marked as failed."""
    state, reason = kaggle.kernel_state(job.state.kernel, job.state.version)
    if state in _FAILED:  # so that the next push starts a new job
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
    if state not in {"complete", *_FAILED}:
        raise ConfigError(f"version {version} of {kernel} is {state}: there is no output yet")
    part = out.absolute().with_name(f"{files.PART}{out.name}-{kernel.split('/')[1]}-v{version}")
    part.mkdir(parents=True, exist_ok=True)
    kaggle.kernel_output(kernel, version, part)
    part.rename(out)
    return sum(path.is_file() for path in out.rglob("*"))


def kernel_log(job: SubmissionJob, kaggle: Kaggle) -> str:
    """The log of the job's kernel as text; empty until it has ended."""
    return log_text(kaggle.kernel_log(job.state.kernel, job.state.version))


def is_result(name: str) -> bool:
    """Whether scoring and submitting need a file of a kernel's output: all but weights and the state of training."""
    return not name.endswith(".h5") and "/state/" not in name


def log_text(log: str) -> str:
    """A kernel's log, a JSON list of pieces, as text."""
    try:
        return "".join(str(piece.get("data", "")) for piece in json.loads(log))
    except (ValueError, AttributeError):
        return log


def _log_tail(log: str, lines: int = 15) -> str:
    return "\n".join(log_text(log).rstrip().split("\n")[-lines:])


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
