"""Private datasets on Kaggle: uploaded once per content, and waited for."""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kit.errors import counted
from kit.kaggle import bundle, waiting
from kit.kaggle.bundle import Dataset
from kit.kaggle.client import Kaggle
from kit.kaggle.http import KaggleError, Unanswered

log = logging.getLogger(__name__)
_LOOKS = 6  # for a dataset whose upload was not answered, over nearly two minutes


def ensure_dataset(kaggle: Kaggle, dataset: Dataset, sleep: Callable[[float], None] = time.sleep) -> str:
    """Make the dataset exist on Kaggle with this content, uploading it if needed, and ready; returns owner/slug."""
    ref, uploaded, lost = bundle.dataset_ref(kaggle.user, dataset.title), False, 0
    for n, current in enumerate(waiting.looks(kaggle, sleep, 30 * 60, lambda: kaggle.dataset_state(ref))):
        state = current[0] if current else None
        if state in ("failed", "deleted") and uploaded:
            raise KaggleError(f"Kaggle could not create the dataset {ref}: it is {state}")
        if state == "ready" and dataset.marker in kaggle.dataset_files(ref):
            return ref
        lost += lost > 0
        if lost > _LOOKS and state in (None, "ready"):  # it did not arrive; at worst, it becomes two versions
            uploaded, lost = False, 0
        if not uploaded and state in (None, "ready", "failed", "deleted"):  # else a version is being processed
            megabytes = sum(path.stat().st_size for path in dataset.paths) / 1e6
            log.info(
                f"uploading {counted(len(dataset.paths), 'file')} ({megabytes:.1f} MB) to the private dataset {ref}"
            )
            try:
                kaggle.upload_dataset(ref, dataset.title, list(dataset.paths), dataset.marker, new=state is None)
            except Unanswered as error:
                log.info(f"{error}; looking for it")
                lost = 1
            uploaded = True
        elif n:
            log.info(f"waiting for the dataset {ref}: {state.replace('_', ' ') if state else 'not there yet'}")
    raise KaggleError(f"the dataset {ref} is not ready after half an hour; run the same command again to keep waiting")


def publish_records(kaggle: Kaggle, name: str, records: Path) -> str:
    """Publish a records directory as the private dataset that kernels of the config `name` attach; returns its ref."""
    with tempfile.TemporaryDirectory(dir=records.absolute().parent, prefix=".part-") as folder:
        return ensure_dataset(kaggle, bundle.records_dataset(Path(folder), name, records))
