"""From a checkout to a score: bundle, push, wait, fetch, check, submit once, score, write down.

Each step looks first whether it is done (kit.kaggle.job keeps that), so that the same command goes on.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from kit import files
from kit.errors import DataError, SubmissionError, some
from kit.kaggle import bundle
from kit.kaggle.bundle import Dataset
from kit.kaggle.client import (
    Kaggle,
    Submission,
    create_dataset,
    create_submission,
    inside,
    request_text,
    require_client,
    save_kernel,
    start_upload,
)
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.job import Job, Plan, opened
from kit.submit import ledger
from kit.submit.submission import check_submission, read_submission

FAILED = {"error", "cancel_acknowledged"}  # ends of a kernel
_LEAST_HOURS = 0.5  # of quota, below which nothing is pushed
_QUEUE_HOURS = 6.0  # longer than that a kernel does not wait
_LOOKS = 6  # for a dataset whose upload was not answered, over nearly two minutes
_OUTAGE = {None, 500, 502, 503, 504}  # of no answer, and of one that passes


def submit(plan: Plan, parent: Path, kaggle: Kaggle, journal: Path, again: bool = False, **more: Any) -> Job:
    """All steps, going on where an earlier call stopped; the job's state has the scores, and `journal` a line.

    Of a competition without a leaderboard (or one the kit cannot serve) it ends with the kernel's output.
    """
    with opened(plan, parent, again, **more) as job:
        if "done" in job.state:
            return job
        if plan.from_run:
            run, path = plan.from_run, plan.submission
        else:
            push(job, kaggle)
            wait_for_kernel(job, kaggle)
            out = fetch_output(job, kaggle)
            run, path = out / "runs" / plan.name / "kernel", out / "submission.csv"
        if plan.competition.leaderboard:
            check(job, kaggle, path, run)
            entry = wait_for_score(job, kaggle, send(job, kaggle, path))
            line = {**ledger.entry(run, path, entry.description), "public": entry.public, "private": entry.private}
            ledger.write(journal, line)
            job.keep(public=entry.public, private=entry.private)
        job.keep(done=True, run=str(run))
        return job


def preflight(job: Job, kaggle: Kaggle) -> None:
    """Raise KaggleError before anything is spent: not joined, closed, no submission or accelerator time left."""
    plan, slug = job.plan, job.plan.competition.slug
    if slug and "/" not in slug:
        found = kaggle.competition(slug)
        if not found.user_has_entered:
            raise KaggleError(
                f"you have not joined {slug}: open https://www.kaggle.com/c/{slug}, accept the rules (Late Submission "
                "where it is over), and run this again"
            )
    if plan.competition.leaderboard:
        if found.submissions_disabled:
            raise KaggleError(f"{slug} takes no submissions any more")
        if found.is_kernels_submissions_only:
            raise KaggleError(f"{slug} takes kernels only, not files: submit the kernel on its page")
        if kaggle.submissions_left(str(slug)) < 1:
            raise KaggleError("no submission left today, or you are not on a team yet; days begin at midnight UTC")
    if plan.from_run or plan.accelerator == "cpu":
        return
    left = kaggle.hours_left(plan.accelerator)
    if left is not None and left < _LEAST_HOURS:
        raise KaggleError(
            f"{left:.1f} hours of this week's {plan.accelerator} quota are left: --accelerator cpu, or wait"
        )
    if left is not None and left < plan.hours:  # what the kernel will take is not known beforehand
        job.say(
            f"noticed: {left:.1f} hours of this week's {plan.accelerator} quota are left; --hours {left:.1f} fits in"
        )


def make_bundle(plan: Plan, folder: Path, owner: str, run_id: str = "", more: tuple[str, ...] = ()) -> list[Dataset]:
    """Write all that is sent to Kaggle into `folder`: a folder per dataset, and `kernel/`; returns the datasets.

    `more` names further datasets that the kernel attaches.
    """
    plan.validate()
    for part in ("wheel", "weights", "kernel"):
        shutil.rmtree(folder / part, ignore_errors=True)
    wheel = bundle.make_wheel(plan.config)
    datasets = [bundle.wheel_dataset(folder / "wheel", wheel, bundle.LACKING[plan.accelerator])]
    if plan.weights:
        datasets.append(bundle.weights_dataset(folder / "weights", plan.weights))
    for dataset in datasets:
        metadata = bundle.dataset_metadata(owner, dataset.title)
        files.write_json(dataset.paths[0].parent / "dataset-metadata.json", metadata)
    attached = [dataset_ref(owner, dataset.title) for dataset in datasets]
    named = [*attached, *([plan.data] if plan.data else []), *plan.datasets, *more]
    metadata = bundle.kernel_metadata(plan.name, plan.competition, owner, plan.accelerator, named)
    source = bundle.kernel_source(plan.name, wheel, run_id, plan.training_hours, plan.settings, plan.data)
    files.write_json(folder / "kernel" / "kernel-metadata.json", metadata)
    files.write_text(folder / "kernel" / "kernel.py", source)
    return datasets


def rehearse(plan: Plan, folder: Path, owner: str) -> str:
    """What `submit` would send, request by request, as text; writes the bundle, and asks and sends nothing."""
    require_client()
    slug, lines = str(plan.competition.slug), [f"as {owner}; nothing is sent"]

    def request(name: str, body: Any, note: str = "") -> None:
        lines.append(f"{name} {json.dumps(body)}{f'   ({note})' if note else ''}")

    def asks(*names: str) -> None:
        lines.append(f"asks {', '.join(names)}")

    asks("IntrospectToken (with a token)")
    if plan.competition.slug and "/" not in slug:
        asks("GetCompetition", *(["GetSubmissionLimits"] if plan.competition.leaderboard else []))
    path = plan.submission if plan.from_run else None
    if path is None:
        if plan.accelerator != "cpu":
            asks("GetAcceleratorQuotaStatistics")
        records = dataset_ref(owner, bundle.records_title(plan.name))
        asks(f"GetDatasetStatus of {records}: the kernel attaches it where it is")
        for dataset in make_bundle(plan, folder, owner, "kit-00000000"):
            ref = dataset_ref(owner, dataset.title)
            asks(f"GetDatasetStatus, GetDataset, ListDatasetFiles of {ref}: unless {dataset.marker} is there")
            for file in dataset.paths:
                request("  StartBlobUpload", request_text(start_upload(file)), f"then PUT {file}")
            tokens = [f"token of {file.name}" for file in dataset.paths]
            request("  CreateDataset", request_text(create_dataset(ref, dataset.title, tokens)), "or its next version")
        metadata = files.read_json(folder / "kernel" / "kernel-metadata.json")
        text = f"the text of {folder / 'kernel' / 'kernel.py'}"
        request("SaveKernel", request_text(save_kernel(metadata, text, _session_seconds(plan))))
        asks(f"GetKernelSessionStatus, ListKernelSessionOutput of {metadata['id']} until it is complete")
    if plan.competition.leaderboard:
        request(
            "StartSubmissionUpload",
            request_text(start_upload(path, slug)) if path else {"competitionName": slug, "fileName": "submission.csv"},
            f"then PUT {path or 'it'}, once it is checked",
        )
        said = f"kit {plan.name} kit-00000000"
        request("CreateSubmission", request_text(create_submission(slug, "token of submission.csv", said)))
        asks("ListSubmissions until it is scored")
    return "\n".join(lines)


def push(job: Job, kaggle: Kaggle) -> None:
    """The datasets and the kernel of this job on Kaggle, unless they are there; its version is in the job's state."""
    plan, sent = job.plan, job.folder / "bundle"
    if "version" in job.state:
        return
    if job.state.get("push_begun") and (version := _pushed_version(job, kaggle)):  # cut off, or the reply was lost
        return job.keep(version=version)
    preflight(job, kaggle)
    records = dataset_ref(kaggle.user, bundle.records_title(plan.name))
    there = kaggle.dataset_state(records)
    more = (records,) if there and there[0] == "ready" else ()
    for dataset in make_bundle(plan, sent, kaggle.user, job.run_id, more):
        ensure_dataset(kaggle, dataset, job.say, job.sleep)
    metadata = files.read_json(sent / "kernel" / "kernel-metadata.json")
    job.keep(push_begun=True, kernel=metadata["id"], plan=plan.fingerprint())
    try:
        pushed = kaggle.push(metadata, (sent / "kernel" / "kernel.py").read_text(), _session_seconds(plan))
    except Unanswered:
        version = _pushed_version(job, kaggle)
        if version is None:
            raise
    except KaggleError:
        job.keep(push_begun=False)  # refused, so nothing is under way
        raise
    else:
        version = pushed.version
        if pushed.unattached:
            what = f"the kernel was pushed, but Kaggle cannot attach its {', '.join(pushed.unattached)}"
            raise job.fail(KaggleError(f"{what}: is the name right, is it yours or public, are its rules accepted?"))
    job.keep(version=version)
    job.say(f"pushed {kernel_page(job)}, version {version}")


def ensure_dataset(
    kaggle: Kaggle, dataset: Dataset, say: Callable[[str], None] = print, sleep: Callable[[float], None] = time.sleep
) -> str:
    """That dataset on Kaggle with this content, uploaded unless it is there, and ready; returns its name."""
    ref, begun, lost = dataset_ref(kaggle.user, dataset.title), False, 0
    for waited in _waits(sleep, 30 * 60):
        now = kaggle.dataset_state(ref)
        if now and now[0] in ("failed", "deleted") and begun:
            raise KaggleError(f"Kaggle could not make the dataset {ref}: it is {now[0]}")
        is_ready = now is not None and now[0] == "ready"
        if is_ready and dataset.marker in kaggle.dataset_files(ref):
            return ref
        lost += lost > 0
        if lost > _LOOKS and (now is None or is_ready):  # it did not arrive; twice would be a version more, no harm
            begun, lost = False, 0
        if not begun and (now is None or now[0] in ("ready", "failed", "deleted")):  # a version under way comes first
            size = sum(path.stat().st_size for path in dataset.paths) / 1e6
            say(f"uploads {len(dataset.paths)} files ({size:.1f} MB) to the private dataset {ref}")
            try:
                kaggle.upload_dataset(ref, dataset.title, list(dataset.paths), dataset.marker, new=now is None)
            except Unanswered as error:
                say(f"{error}; looks for it")
                lost = 1
            begun = True
        elif waited:
            say(f"waits for the dataset {ref}: {now[0].replace('_', ' ') if now else 'not there yet'}")
    raise KaggleError(f"the dataset {ref} is not ready after half an hour; the same command goes on waiting")


def wait_for_kernel(job: Job, kaggle: Kaggle) -> None:
    """Until the job's version has run; raises KaggleError with the end of its log when it failed."""
    last, trouble, begun, version = "", "", time.monotonic(), job.state["version"]
    for _ in _waits(job.sleep, (job.plan.hours + _QUEUE_HOURS) * 3600):
        try:
            state, why = kaggle.kernel_state(job.state["kernel"], version)
        except KaggleError as error:
            if error.status in (403, 404):
                if time.monotonic() - begun < 120:
                    continue  # right after a push it cannot be seen yet
                raise job.fail(KaggleError(f"the kernel is gone: {error}", error.status)) from error
            if error.status == 401 and last:  # it was fine before: a login by `kaggle auth login` lasts 12 hours
                kaggle.renew()
            elif error.status not in _OUTAGE:
                raise
            if str(error) != trouble:
                job.say(f"{error}; goes on waiting")
            trouble = str(error)
            continue
        trouble = ""
        if state != last:
            job.say(f"the kernel is {state.replace('_', ' ')}")
            last = state
        if state == "complete":
            return
        if state in FAILED:
            log = ""
            with suppress(KaggleError):  # of a kernel that never ran there is none
                log = kaggle.kernel_output(job.state["kernel"], version, job.folder, lambda name: False)
            files.write_text(job.folder / "kernel.log", log_text(log))
            told = f"the kernel failed: {why or state}\n{log_tail(log)}\n(all of it: {job.folder / 'kernel.log'})"
            raise job.fail(KaggleError(told))
    raise KaggleError("the kernel has not ended in time; the same command goes on waiting")


def fetch_output(job: Job, kaggle: Kaggle) -> Path:
    """The kernel's output without weights, downloaded whole into a folder of its own, which is returned."""
    out = job.folder / "output"
    if out.exists():
        return out
    part = job.folder / f"{files.PART}output"
    for _ in _waits(job.sleep, 120):
        log = kaggle.kernel_output(job.state["kernel"], job.state["version"], part, is_result)
        if not (broken := _broken(part)):
            break
    files.write_text(part / "kernel.log", log_text(log))
    if broken:
        raise KaggleError(
            f"not there yet, as the kernel wrote it: {some(broken)}; the same command looks again; to begin anew, "
            f"delete {job.folder}"
        )
    wanted = "submission.csv" if job.plan.competition.leaderboard else "scores.json"
    if not (part / wanted).exists():
        told = f"the kernel ended without {wanted}:\n{log_tail(log)}\n(all of it: {part / 'kernel.log'})"
        raise job.fail(KaggleError(told))
    told = files.read_json(part / "kernel.json")
    if told["run_id"] != job.run_id:
        raise job.fail(KaggleError(f"that is the output of {told['run_id'] or 'another kernel'}, not of {job.run_id}"))
    if not told["finished"]:
        job.say("noticed: the session's time ran out; these are the predictions of the folds that were trained by then")
    part.rename(out)
    return out


def check(job: Job, kaggle: Kaggle, path: Path, run: Path) -> None:
    """Raise SubmissionError unless Kaggle would take that file, compared with the competition's own sample."""
    competition, sample = job.plan.competition, job.folder / "sample_submission.csv"
    if not sample.exists():
        kaggle.competition_file(str(competition.slug), str(competition.sample), sample)
    try:
        wanted = read_submission(sample, competition.id_column)
    except SubmissionError as error:  # a page in its place
        sample.unlink()
        raise KaggleError(f"Kaggle sent no sample submission ({error}); the same command asks again") from error
    try:
        submission = read_submission(path, competition.id_column)
        remarks = check_submission(competition, submission, wanted, pd.read_parquet(run / "oof.parquet"))
    except SubmissionError as error:
        raise job.fail(SubmissionError(f"{path}: {error}")) from error
    for remark in remarks:
        job.say(f"noticed: {remark}")


def send(job: Job, kaggle: Kaggle, path: Path) -> Submission:
    """Submit that file, unless a submission of this job is on the list already; returns it."""
    slug = str(job.plan.competition.slug)

    def found(seconds: float) -> Submission | None:
        for _ in _waits(job.sleep, seconds):
            if entry := _entry(job, kaggle):
                return entry
        return None

    confirmed = "submission" in job.state
    entry = found(60 if "submit_begun" in job.state else 0)  # cut off, and it may still come
    if entry is None and not confirmed:
        if job.plan.from_run:
            preflight(job, kaggle)
        version = f"v{job.state['version']} " if "version" in job.state else ""
        job.keep(submit_begun=True)
        try:
            ref = kaggle.submit(slug, path, f"kit {job.plan.name} {version}{job.run_id}")
            confirmed = True
            job.keep(submission=ref)
        except Unanswered as error:
            job.say(f"{error}; looks for it among the submissions")
        entry = found(180)
    if entry is None:
        then = "" if confirmed else ", and then sends it again"
        raise KaggleError(f"the submission is not on the list; the same command looks again{then}")
    job.keep(submission=entry.ref)
    return entry


def wait_for_score(job: Job, kaggle: Kaggle, entry: Submission) -> Submission:
    """Until Kaggle has scored the submission; raises KaggleError when it could not."""
    for _ in _waits(job.sleep, 3600):
        if entry.state == "complete":
            return entry
        if entry.state == "error":
            raise job.fail(
                KaggleError(f"Kaggle could not score the submission: {entry.error or 'it does not say why'}")
            )
        try:
            entry = _entry(job, kaggle) or entry
        except KaggleError as error:
            if error.status not in _OUTAGE:
                raise
            job.say(f"{error}; goes on waiting")
    raise KaggleError("not scored after an hour; the same command goes on waiting")


def dataset_ref(owner: str, title: str) -> str:
    """owner/slug of the dataset of that title."""
    return f"{owner}/{bundle.slugify(title)}"


def kernel_page(job: Job) -> str:
    """The address of the job's kernel."""
    return f"https://www.kaggle.com/code/{job.state['kernel']}"


def is_result(name: str) -> bool:
    """Whether a file of a kernel's output is wanted to score and submit: all but weights and the state of training."""
    return not name.endswith(".h5") and "/state/" not in name


def log_text(log: str) -> str:
    """A kernel's log, which is a JSON list of pieces, as text."""
    try:
        return "".join(str(piece.get("data", "")) for piece in json.loads(log))
    except (ValueError, AttributeError):
        return log


def log_tail(log: str, lines: int = 15) -> str:
    """The end of a kernel's log."""
    return "\n".join(log_text(log).rstrip().split("\n")[-lines:])


def _broken(output: Path) -> list[str]:
    """The files that are not as `kernel.json` says the kernel wrote them (or that itself), which are deleted."""
    told = output / "kernel.json"
    if not told.exists():  # a kernel that is complete wrote it: Kaggle does not list it yet
        return [told.name]
    try:
        sums = {"kernel.json": files.sha256_of(told), **files.read_json(told)["sha256"]}
    except (DataError, KeyError, TypeError):  # an error page
        sums = {"kernel.json": ""}
    wanted = {name: sha for name, sha in sums.items() if is_result(name)}
    paths = {name: inside(output, name) for name in wanted}
    broken = [name for name, path in paths.items() if not path.exists() or files.sha256_of(path) != wanted[name]]
    for name in broken:
        paths[name].unlink(missing_ok=True)
    return broken


def _pushed_version(job: Job, kaggle: Kaggle) -> int | None:
    """The kernel's newest version when it is this job's, which may take a while to appear; None when it is not."""
    for _ in _waits(job.sleep, 60):
        found = kaggle.kernel(job.state["kernel"])
        if found and job.run_id in found[1]:
            return found[0]
    return None


def _entry(job: Job, kaggle: Kaggle) -> Submission | None:
    listed = kaggle.submissions(str(job.plan.competition.slug))
    return next((entry for entry in listed if job.run_id in entry.description), None)


def _session_seconds(plan: Plan) -> int:
    return int(plan.hours * 3600)


def _waits(sleep: Callable[[float], None], seconds: float) -> Iterator[int]:
    """Numbers from 0 on, with a growing pause before each but the first, until so many seconds were waited."""
    waited, pause, n = 0.0, 5.0, 0
    yield n
    while waited < seconds:
        sleep(pause)
        waited, pause, n = waited + pause, min(60.0, pause * 1.5), n + 1
        yield n
