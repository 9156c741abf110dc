"""What a submission would ask and send, without doing so."""

import json
import shutil
from pathlib import Path
from typing import Any

from kit import files
from kit.kaggle import bundle, requests
from kit.kaggle.bundle import Dataset
from kit.kaggle.login import require_client
from kit.kaggle.models import staged
from kit.kaggle.plan import SubmissionPlan
from kit.kaggle.push import write_bundle
from kit.run import SUBMISSION


def dry_run(plan: SubmissionPlan, submitting: bool = True) -> str:
    """What a submission would do, in words, and its requests, one per line; without `submitting`, only the push.

    Writes the bundle, needs no login and sends nothing.
    """
    require_client()
    slug, leaderboard = plan.competition.slug, plan.competition.leaderboard and submitting
    lines = [f"as {bundle.OWNER}; nothing is sent", "asks IntrospectToken (with a token)"]
    if slug and "/" not in slug:
        lines.append(f"asks GetCompetition{', GetSubmissionLimits' if leaderboard else ''}")
    path = plan.submission if plan.from_run else None
    words = []
    if path is None:
        folder = plan.jobs_folder / "dry-run"
        shutil.rmtree(folder / "model", ignore_errors=True)
        plan = staged(plan, bundle.OWNER, folder / "model")
        datasets = write_bundle(plan, folder, bundle.OWNER, "kit-00000000")
        words += _kernel_words(plan, datasets, submitting)
        lines += _kernel_lines(plan, folder, datasets, submitting)
    if leaderboard:
        what = "the kernel, which is rerun on the hidden test set," if plan.code else "it"
        words += [
            f"check {path or f'its {SUBMISSION}'} against the competition's sample",
            f"submit {what} once to {slug}, which uses one of today's submissions",
            "wait for the score, and record it in the ledger",
        ]
        lines += _code_lines(plan) if plan.code else _submission_lines(plan.name, str(slug), path)
    steps = "\n".join(f"  {n}. {line}" for n, line in enumerate(words, 1))
    return f"Without --dry-run this would:\n{steps}\nIts requests:\n" + "\n".join(lines)


def _kernel_words(plan: SubmissionPlan, datasets: list[Dataset], submitting: bool) -> list[str]:
    words = []
    if plan.code and plan.code.run:
        words.append(f"publish {plan.code.run} as a version of the private model {plan.code.model}, unless it is there")
    for dataset in datasets:
        megabytes = sum(path.stat().st_size for path in dataset.paths) / 1e6
        words.append(f"upload the private dataset {dataset.title!r} ({megabytes:.1f} MB), unless it is there")
    machine = "a CPU" if plan.accelerator == "cpu" else f"a {plan.accelerator}"
    does = f"{'predicts' if plan.code else 'trains'} on {machine} for at most {plan.hours:g} hours"
    words.append(f"push the private kernel {plan.title!r}, which {does}")
    if submitting:
        words.append("wait until it has run, and download its results, without weights")
    return words


def _kernel_lines(plan: SubmissionPlan, folder: Path, datasets: list[Dataset], submitting: bool) -> list[str]:
    lines = [] if plan.accelerator == "cpu" else ["asks GetAcceleratorQuotaStatistics"]
    if plan.code and plan.code.run:
        lines.append(f"asks GetModelInstance, ListModelInstanceVersionFiles of {plan.code.model.rpartition('/')[0]}")
        lines.append("  CreateModel, StartBlobUpload, PUT, CreateModelInstance or its next version, where it has not")
    if not plan.code:
        records = bundle.dataset_ref(bundle.OWNER, bundle.records_title(plan.name))
        lines.append(f"asks GetDatasetStatus of {records}: the kernel attaches it where it exists")
    for dataset in datasets:
        ref = bundle.dataset_ref(bundle.OWNER, dataset.title)
        lines.append(f"asks GetDatasetStatus, GetDataset, ListDatasetFiles of {ref}: unless it has {dataset.marker}")
        for file in dataset.paths:
            lines.append(_request_line("  StartBlobUpload", requests.start_blob_upload(file), f"then PUT {file}"))
        tokens = [f"token of {file.name}" for file in dataset.paths]
        request = requests.create_dataset(ref, dataset.title, tokens)
        lines.append(_request_line("  CreateDataset", request, "or its next version"))
    metadata = files.read_json(folder / "kernel" / "kernel-metadata.json")
    source = f"the text of {folder / 'kernel' / 'kernel.py'}"
    lines.append(f"asks GetKernel of {metadata['id']}")
    lines.append(_request_line("SaveKernel", requests.save_kernel(metadata, source, plan.session_seconds)))
    if submitting:
        lines.append(f"asks GetKernelSessionStatus, ListKernelSessionOutput of {metadata['id']} until it is complete")
    return lines


def _code_lines(plan: SubmissionPlan) -> list[str]:
    kernel, slug = bundle.dataset_ref(bundle.OWNER, plan.title), str(plan.competition.slug)
    request = requests.create_code_submission(slug, kernel, 1, SUBMISSION, f"kit {plan.name} v1 kit-00000000")
    return [_request_line("CreateCodeSubmission", request), "asks GetSubmission, ListSubmissions until it is scored"]


def _submission_lines(name: str, slug: str, path: Path | None) -> list[str]:
    if path:
        start = _request_line(
            "StartSubmissionUpload", requests.start_submission_upload(path, slug), f"then PUT {path}, if valid"
        )
    else:
        body = json.dumps({"competitionName": slug, "fileName": SUBMISSION})
        start = f"StartSubmissionUpload {body}   (then PUT it, if valid)"
    create = requests.create_submission(slug, f"token of {SUBMISSION}", f"kit {name} kit-00000000")
    return [start, _request_line("CreateSubmission", create), "asks GetSubmission, ListSubmissions until it is scored"]


def _request_line(name: str, request: Any, note: str = "") -> str:
    return f"{name} {json.dumps(requests.request_json(request))}{f'   ({note})' if note else ''}"
