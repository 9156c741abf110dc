"""Pushing a kernel: what could go wrong is checked first, then its datasets are uploaded, then it is pushed once."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from kit import files
from kit.errors import ConfigError
from kit.kaggle import bundle, waiting
from kit.kaggle.bundle import Dataset
from kit.kaggle.client import Kaggle
from kit.kaggle.code import inference_source, published
from kit.kaggle.datasets import ensure_dataset
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.job import SubmissionJob
from kit.kaggle.models import staged
from kit.kaggle.plan import SubmissionPlan

log = logging.getLogger(__name__)
_LEAST_HOURS = 0.5  # of quota, below which nothing is pushed
_MOST_VERSIONS = 30  # of a kernel that are looked at


def preflight(job: SubmissionJob, kaggle: Kaggle, submitting: bool = True) -> None:
    """Raise KaggleError before anything is spent: not joined, no accelerator time left.

    With `submitting`, also where submissions are closed, or none is left.
    """
    plan, slug = job.plan, job.plan.competition.slug
    submitting = submitting and plan.competition.leaderboard
    if slug and "/" not in slug:
        competition = kaggle.competition(slug)
        if not competition.user_has_entered:
            raise KaggleError(
                f"you have not joined {slug}: open https://www.kaggle.com/c/{slug}, accept the rules (Late Submission "
                "where it is over), and run this again"
            )
        if submitting and competition.submissions_disabled:
            raise KaggleError(f"{slug} accepts no more submissions")
        if submitting and plan.from_run and competition.is_kernels_submissions_only:
            raise KaggleError(f"{slug} accepts kernels only, not files: --code submits one")
        if submitting and kaggle.submissions_left(slug) < 1:
            raise KaggleError("no submission left today, or you are not on a team yet; days begin at midnight UTC")
    if plan.from_run or plan.accelerator == "cpu":
        return
    left = kaggle.hours_left(plan.accelerator)
    if left is not None and left < _LEAST_HOURS:
        raise KaggleError(
            f"{left:.1f} hours of this week's {plan.accelerator} quota are left: use --accelerator cpu, or wait"
        )
    if left is not None and left < plan.hours:  # the kernel may need less
        log.info(f"noticed: {left:.1f} hours of this week's {plan.accelerator} quota are left; --hours {left:.1f} fits")


def write_bundle(
    plan: SubmissionPlan, folder: Path, owner: str, run_id: str = "", attached: Sequence[str] = ()
) -> list[Dataset]:
    """Write everything that is sent to Kaggle: a folder per dataset, and `kernel/`; returns the datasets.

    `attached` names further datasets that the kernel attaches.
    """
    plan.validate()
    for part in ("wheel", "weights", "kernel"):
        shutil.rmtree(folder / part, ignore_errors=True)
    wheel = plan.wheel
    extra, installed = bundle.EXTRA_PACKAGES[plan.accelerator], dict.fromkeys([*bundle.PACKAGES, *plan.packages])
    datasets = [bundle.wheel_dataset(folder / "wheel", wheel, extra, list(installed))]
    if plan.weights:
        datasets.append(bundle.weights_dataset(folder / "weights", plan.weights))
    for dataset in datasets:
        metadata = bundle.dataset_metadata(owner, dataset.title)
        files.write_json(dataset.paths[0].parent / "dataset-metadata.json", metadata)
    refs = [bundle.dataset_ref(owner, dataset.title) for dataset in datasets]
    sources = [*refs, *([plan.data] if plan.data else []), *plan.datasets, *attached]
    models = [plan.code.model] if plan.code and plan.code.model else plan.models
    metadata = bundle.kernel_metadata(plan.title, plan.competition, owner, plan.accelerator, sources, models)
    packages = [path for path in datasets[0].paths if path.suffix == ".whl" and path.name != wheel.name]
    if plan.code:
        source = inference_source(plan, plan.code, wheel, run_id, packages)
    else:
        source = bundle.kernel_source(plan.name, wheel, run_id, plan.training_hours, plan.settings, plan.data, packages)
    files.write_json(folder / "kernel" / "kernel-metadata.json", metadata)
    files.write_text(folder / "kernel" / "kernel.py", source)
    return datasets


def export_bundle(plan: SubmissionPlan, folder: Path) -> list[Path]:
    """`write_bundle` for nobody in particular; returns its files. Raises ConfigError for a folder of other things."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "kernel" / "kernel-metadata.json").exists():
        raise ConfigError(f"{folder} is not empty, and not an earlier bundle: give another --out")
    shutil.rmtree(folder / "model", ignore_errors=True)
    write_bundle(staged(plan, bundle.OWNER, folder / "model"), folder, bundle.OWNER)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def push_kernel(job: SubmissionJob, kaggle: Kaggle, submitting: bool = True, again: bool = False) -> None:
    """Put this job's datasets and kernel on Kaggle, unless they are there; its version goes into the job's state.

    With `submitting`, a submission must be left for what the kernel writes. While it is unknown whether an earlier push
    arrived, nothing is pushed, unless `again`.
    """
    plan, folder, state = job.plan, job.folder / "bundle", job.state
    if state.version:
        return
    if state.push_begun:  # interrupted, or the reply was lost
        if not state.kernel:
            job.update(kernel=bundle.dataset_ref(kaggle.user, plan.title))
        version, certain = _pushed_version(job, kaggle)
        if version:
            return job.update(version=version)
        if not certain and not again:
            raise _unknown(job)
        job.update(push_begun=False)
    preflight(job, kaggle, submitting)
    attached = [] if plan.code else _published_records(plan, kaggle)
    sent = published(plan, kaggle, job.sleep)
    for dataset in write_bundle(sent, folder, kaggle.user, job.run_id, attached):
        ensure_dataset(kaggle, dataset, job.sleep)
    metadata = files.read_json(job.metadata)
    source = (folder / "kernel" / "kernel.py").read_text(encoding="utf-8")
    newest = kaggle.kernel(metadata["id"])
    job.update(push_begun=True, kernel=metadata["id"], newest=newest[0] if newest else 0, plan=plan.fingerprint())
    try:
        pushed = kaggle.push(metadata, source, plan.session_seconds)
    except Unanswered as error:
        log.info(f"{error}; looking for it among the kernel's versions")
        version, certain = _pushed_version(job, kaggle)
        if not version and not certain:
            raise _unknown(job) from error
        if not version:
            job.update(push_begun=False)
            raise KaggleError(f"{error}. It did not arrive: run the same command again to push it") from error
    except KaggleError:
        job.update(push_begun=False)  # refused, so nothing is under way
        raise
    else:
        version = pushed.version
        if pushed.unattached:
            problem = f"the kernel was pushed, but Kaggle cannot attach its {', '.join(pushed.unattached)}"
            raise job.fail(KaggleError(f"{problem}: is the name right, is it yours or public, are its rules accepted?"))
    job.update(version=version)
    log.info(f"pushed {kernel_page(job)}, version {version}")


def _published_records(plan: SubmissionPlan, kaggle: Kaggle) -> list[str]:
    """The dataset with built records, where there is one for a kernel to attach."""
    records = bundle.dataset_ref(kaggle.user, bundle.records_title(plan.name))
    state = kaggle.dataset_state(records)
    return [records] if state and state[0] == "ready" else []


def kernel_page(job: SubmissionJob) -> str:
    """The address of the job's kernel."""
    return f"https://www.kaggle.com/code/{job.state.kernel}"


def _pushed_version(job: SubmissionJob, kaggle: Kaggle) -> tuple[int, bool]:
    """(the kernel's version that is this job's, 0 where there is none; whether that is certain).

    A version may take a while to appear, and others may have been pushed since.
    """
    state, others, newest = job.state, set[int](), None
    for newest in waiting.looks(kaggle, job.sleep, waiting.LAG, lambda: kaggle.kernel(state.kernel)):
        if newest and job.run_id in newest[1]:
            return newest[0], True
        numbers = range(newest[0] - 1, state.newest, -1)[:_MOST_VERSIONS] if newest else []
        for number in (number for number in numbers if number not in others):
            earlier = kaggle.kernel(state.kernel, number)
            if earlier and job.run_id in earlier[1]:
                return number, True
            if earlier:
                others.add(number)
    if newest is None:  # no such kernel, or it cannot be seen
        return 0, state.newest == 0
    return 0, newest[0] >= state.newest and others.issuperset(range(state.newest + 1, newest[0]))


def _unknown(job: SubmissionJob) -> KaggleError:
    return KaggleError(
        f"it is not known whether {job.run_id} was pushed: look at {kernel_page(job)}. Run the same command to look "
        "again; only if it is not there, --again pushes it"
    )
