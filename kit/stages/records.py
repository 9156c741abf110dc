"""Example table and raw folder -> records."""

import logging
from pathlib import Path

from kit.config import Config
from kit.data.records import build
from kit.data.records.manifest import Records, fingerprint, mounted_records
from kit.data.table.examples import Examples
from kit.errors import counted
from kit.files import expanded
from kit.runtime import session

log = logging.getLogger(__name__)


def build_records(
    config: Config, examples: Examples, data: Path | str, out: Path | str, workers: int | None = None
) -> Records:
    """TFRecord shards by cell, with a manifest, in `out`; the one stage that decodes raw files."""
    folders = expanded(data), expanded(out)
    records = build.build_records(config.competition, examples, *folders, config.image, config.data, workers)
    if records.rejected:
        log.info(f"left out, unreadable: {counted(len(records.rejected), 'image')} (reasons: {records.manifest_path})")
    return records


def records_folder(config: Config, examples: Examples, run: Path, records: Path | None = None) -> Path:
    """Where the records of a run are, or are to be built: mounted, in `records`, or shared by the run's neighbours.

    On Kaggle and Colab, which would keep them with the run, they go to a scratch folder.
    """
    expected = fingerprint(config.competition, examples, config.image, config.data)
    shared = (session.scratch() or run.parent) / "records" / expected[:12]
    return mounted_records(expected) or records or shared
