"""Example table and raw folder -> records; the records of a run."""

import logging
from pathlib import Path

from kit.config import Config
from kit.data.records import build
from kit.data.records.manifest import MANIFEST, Records, fingerprint, mounted_records, open_records, read_manifest
from kit.data.table.examples import Examples
from kit.errors import DataError, counted
from kit.files import expanded
from kit.run import Run
from kit.runtime import session
from kit.runtime.session import KAGGLE_INPUT, mounted

log = logging.getLogger(__name__)


def build_records(
    config: Config, examples: Examples, data: Path | str, out: Path | str, workers: int | None = None
) -> Records:
    """TFRecord shards by cell, with a manifest, in `out`; the one stage that decodes raw files."""
    folders = expanded(data), expanded(out)
    records = build.build_records(config.competition_name, examples, *folders, config.image, config.data, workers)
    if records.rejected:
        log.info(f"left out, unreadable: {counted(len(records.rejected), 'image')} (reasons: {records.manifest_path})")
    return records


def records_folder(config: Config, examples: Examples, run: Path, records: Path | None = None) -> Path:
    """Where the records of a run are, or are to be built: mounted, in `records`, or shared by the run's neighbours.

    On Kaggle and Colab, which would keep them with the run, they go to a scratch folder.
    """
    expected = fingerprint(config.competition_name, examples, config.image, config.data)
    shared = (session.scratch() or run.parent) / "records" / expected[:12]
    return mounted_records(expected) or records or shared


def records_of(run: Run, given: Path | None = None) -> Records | None:
    """The records that a run was trained on: `given`, or those in the places where `kit run` builds them; else None.

    Raises DataError for others that are given.
    """
    split = run.folds
    parents = (run.directory.parent, run.directory.parent.parent, session.scratch())  # the second: of RUN/frozen
    beside = [path for parent in parents if parent for path in sorted(parent.glob(f"records/**/{MANIFEST}"))]
    for path in [given / MANIFEST] if given else [*beside, *mounted(MANIFEST, KAGGLE_INPUT)]:
        manifest = read_manifest(path)
        if manifest and (manifest.fingerprints.training, manifest.fingerprints.image) == (split.training, split.image):
            return open_records(path.parent)
    if given:
        open_records(given)  # raises for what is damaged, or none at all
        raise DataError(f"{given} holds other records than those that {run} was trained on")
    return None
