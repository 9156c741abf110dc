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
from kit.kaggle.datasets import ensure_dataset
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.job import SubmissionJob
from kit.kaggle.plan import SubmissionPlan

log = logging.getLogger(__name__)
_LEAST_HOURS = 0.5  # of quota, below which nothing is pushed


def preflight(job: SubmissionJob, kaggle: Kaggle) -> None:
    """Raise KaggleError before anything is spent: not joined, closed, no submission or accelerator time left."""
    plan, slug = job.plan, job.plan.competition.slug
    if slug and "/" not in slug:
        competition = kaggle.competition(slug)
        if not competition.user_has_entered:
            raise KaggleError(
                f"you have not joined {slug}: open https://www.kaggle.com/c/{slug}, accept the rules (Late Submission "
                "where it is over), and run this again"
            )
        if plan.competition.leaderboard and competition.submissions_disabled:
            raise KaggleError(f"{slug} accepts no more submissions")
        if plan.competition.leaderboard and competition.is_kernels_submissions_only:
            raise KaggleError(f"{slug} accepts kernels only, not files: submit the kernel on its page")
        if plan.competition.leaderboard and kaggle.submissions_left(slug) < 1:
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
    wheel = bundle.make_wheel(plan.config)
    datasets = [bundle.wheel_dataset(folder / "wheel", wheel, bundle.EXTRA_PACKAGES[plan.accelerator])]
    if plan.weights:
        datasets.append(bundle.weights_dataset(folder / "weights", plan.weights))
    for dataset in datasets:
        metadata = bundle.dataset_metadata(owner, dataset.title)
        files.write_json(dataset.paths[0].parent / "dataset-metadata.json", metadata)
    refs = [bundle.dataset_ref(owner, dataset.title) for dataset in datasets]
    sources = [*refs, *([plan.data] if plan.data else []), *plan.datasets, *attached]
    metadata = bundle.kernel_metadata(plan.name, plan.competition, owner, plan.accelerator, sources)
    source = bundle.kernel_source(plan.name, wheel, run_id, plan.training_hours, plan.settings, plan.data)
    files.write_json(folder / "kernel" / "kernel-metadata.json", metadata)
    files.write_text(folder / "kernel" / "kernel.py", source)
    return datasets


def export_bundle(plan: SubmissionPlan, folder: Path) -> list[Path]:
    """`write_bundle` for nobody in particular; returns its files. Raises ConfigError for a folder of other things."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "kernel" / "kernel-metadata.json").exists():
        raise ConfigError(f"{folder} is not empty, and not an earlier bundle: give another --out")
    write_bundle(plan, folder, bundle.OWNER)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def push_kernel(job: SubmissionJob, kaggle: Kaggle) -> None:
    """Put this job's datasets and kernel on Kaggle, unless they are there; its version goes into the job's state."""
    plan, folder, state = job.plan, job.folder / "bundle", job.state
    if state.version:
        return
    if state.push_begun and (version := _pushed_version(job, kaggle)):  # interrupted, or the reply was lost
        return job.update(version=version)
    preflight(job, kaggle)
    records = bundle.dataset_ref(kaggle.user, bundle.records_title(plan.name))
    published = kaggle.dataset_state(records)
    attached = [records] if published and published[0] == "ready" else []
    for dataset in write_bundle(plan, folder, kaggle.user, job.run_id, attached):
        ensure_dataset(kaggle, dataset, job.sleep)
    metadata = files.read_json(folder / "kernel" / "kernel-metadata.json")
    source = (folder / "kernel" / "kernel.py").read_text(encoding="utf-8")
    job.update(push_begun=True, kernel=metadata["id"], plan=plan.fingerprint())
    try:
        pushed = kaggle.push(metadata, source, plan.session_seconds)
    except Unanswered:
        version = _pushed_version(job, kaggle)
        if not version:
            raise
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


def kernel_page(job: SubmissionJob) -> str:
    """The address of the job's kernel."""
    return f"https://www.kaggle.com/code/{job.state.kernel}"


def _pushed_version(job: SubmissionJob, kaggle: Kaggle) -> int | None:
    """The kernel's newest version when it is this job's, which may take a while to appear; None when it is not."""
    for _ in waiting.pauses(job.sleep, 60):
        newest = kaggle.kernel(job.state.kernel)
        if newest and job.run_id in newest[1]:
            return newest[0]
    return None
