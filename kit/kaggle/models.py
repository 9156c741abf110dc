"""Private Kaggle Models: a run or a blend is published once per content, as a version that never changes."""

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kit import files
from kit.errors import counted
from kit.kaggle import bundle, waiting
from kit.kaggle.client import Kaggle
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.plan import SubmissionPlan
from kit.run import Run
from kit.stages.publish import MANIFEST, publish_files

log = logging.getLogger(__name__)
FRAMEWORK = "keras"
_LOOKS = 6  # for a version whose upload was not answered, over nearly two minutes
_MOST_VERSIONS = 30  # of a variation that are looked at


def publish_run(
    kaggle: Kaggle, name: str, run: Run, license_name: str, sleep: Callable[[float], None] = time.sleep
) -> tuple[str, str]:
    """Make a run or a blend of the config `name` exist as a version of a private Kaggle Model.

    Returns that version, `owner/model/framework/variation/number`, and the SHA-256 of its manifest. Nothing is uploaded
    where a version has the same content.
    """
    title = bundle.model_title(name)
    variation = variation_of(kaggle.user, name, run)
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        paths = marked_files(run, Path(folder))
        notes = f"{run.name}: {paths[-1].name}"
        number = _ensure_version(kaggle, variation, title, paths, license_name, notes, sleep)
        return f"{variation}/{number}", files.sha256_of(Path(folder, MANIFEST))


def variation_of(owner: str, name: str, run: Run) -> str:
    """`owner/model/framework/variation` of a run: the model is the config's, the variation is named like its folder."""
    model = bundle.dataset_ref(owner, bundle.model_title(name))
    return f"{model}/{FRAMEWORK}/{bundle.slugify(run.directory.resolve().name) or 'run'}"


def marked_files(run: Run, folder: Path) -> list[Path]:
    """What is uploaded of a run, written into `folder`; the last file is named after the content of the others."""
    paths = publish_files(run, folder)
    sums = {path.name: files.sha256_of(path) for path in paths}
    marker = folder / f"contents-{files.fingerprint(sums)[:12]}.json"
    files.write_json(marker, sums)
    return [*paths, marker]


def staged(plan: SubmissionPlan, owner: str, folder: Path) -> SubmissionPlan:
    """Write what a code submission would publish into an empty `folder`; returns the plan as if that were version 1."""
    if plan.code is None or plan.code.run is None:
        return plan
    folder.mkdir(parents=True)
    run = Run(plan.code.run)
    marked_files(run, folder)
    model, manifest = f"{variation_of(owner, plan.name, run)}/1", files.sha256_of(folder / MANIFEST)
    return replace(plan, code=replace(plan.code, model=model, manifest=manifest))


def _ensure_version(
    kaggle: Kaggle,
    variation: str,
    title: str,
    paths: list[Path],
    license_name: str,
    notes: str,
    sleep: Callable[[float], None],
) -> int:
    """The number of the version of a variation with these files, uploaded where there is none."""
    model, marker = "/".join(variation.split("/")[:2]), paths[-1].name
    others: set[int] = set()  # versions of other content
    uploaded, lost, exists = False, 0, False
    refused: KaggleError | None = None
    looks = waiting.looks(kaggle, sleep, 30 * 60, lambda: _version_with(kaggle, variation, marker, others))
    for n, (number, newest) in enumerate(looks):
        if number:
            return number
        lost += lost > 0
        if refused and lost > _LOOKS:
            raise refused
        if lost > _LOOKS or (refused and newest):  # it did not arrive; at worst, it becomes two versions
            uploaded, lost, refused = False, 0, None
        if uploaded:
            if n:
                log.info(f"waiting for the model {variation}")
            continue
        try:
            exists = exists or newest > 0 or kaggle.has_model(model)
            if not exists:
                log.info(f"creating the private model {model}")
                kaggle.create_model(model, title, "Runs that kit trained, for kernels that predict with them.")
                exists = True
            megabytes = sum(path.stat().st_size for path in paths) / 1e6
            log.info(f"uploading {counted(len(paths), 'file')} ({megabytes:.1f} MB) to the private model {variation}")
            kaggle.upload_model(variation, paths, license_name, notes, new=newest == 0)
        except Unanswered as error:
            log.info(f"{error}; looking for it")
            lost = 1
        except KaggleError as error:
            if newest or error.status not in (None, 409):
                raise
            refused, lost = error, 1  # perhaps as an earlier upload, which does not show yet, has the name
        uploaded = True
    raise KaggleError(f"the model {variation} is not ready after half an hour; run the same command to keep waiting")


def _version_with(kaggle: Kaggle, variation: str, marker: str, others: set[int]) -> tuple[int, int]:
    """(the version whose files include `marker`, 0 where there is none; the newest version, 0 where there is none)."""
    newest = kaggle.newest_model_version(variation)
    for number in range(newest, max(0, newest - _MOST_VERSIONS), -1):
        if number in others:
            continue
        names = kaggle.model_files(variation, number)
        if marker in names:
            return number, newest
        if names:
            others.add(number)
    return 0, newest
