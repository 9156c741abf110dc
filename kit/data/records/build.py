"""Example table -> records directory: shards are written in parallel; finished ones survive a build that is cut off.

Each finished shard has a note of its content beside it until there is a manifest.
"""

import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kit import files
from kit.config import DataSettings, ImageSettings
from kit.data.pixels.arrays import unpacked
from kit.data.pixels.dicom import undecodable
from kit.data.records.manifest import (
    BUILDING,
    EXAMPLES,
    MANIFEST,
    Fingerprints,
    Records,
    fingerprint,
    fingerprints,
    make_manifest,
    open_records,
    read_manifest,
    require_readable,
    rows_of,
)
from kit.data.records.shards import Note, Shard, ShardRows, build_shard, image_shape, note_path
from kit.data.records.targets import target_format
from kit.data.table.examples import Examples
from kit.data.table.fold_columns import deal_cells
from kit.errors import DataError, FullDisk, WorkerDied, remarked, share_to_allow, some
from kit.parallel import count_workers, in_processes, progress_bar
from kit.runtime.session import mounted

log = logging.getLogger(__name__)


class ShardPlan(NamedTuple):
    """A shard to build, of the rows `start` to `stop` of the table with cells; `cell` is None for the test set."""

    file: str
    cell: int | None
    start: int
    stop: int


def build_records(
    competition: str,
    examples: Examples,
    root: Path,
    out: Path,
    image: ImageSettings,
    data: DataSettings,
    workers: int | None = None,
) -> Records:
    """Write the records of `examples` (validated; paths relative to `root`) into `out`, or finish a cut-off build.

    The bytes depend on examples and settings alone, not on `workers` (default: all cores). Images that cannot be read
    are left out and named in the manifest. Raises DataError when there are more than `data.max_rejected` of them, when
    `out` holds something else or another process is writing into it, when a worker dies, and when the disk is full.
    """
    expected = fingerprint(competition, examples, image, data)
    if not (out / MANIFEST).exists():
        _refuse_foreign(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            with files.locked(out):
                if not (out / MANIFEST).exists():  # another process may just have finished it
                    _build(competition, examples, root, out, image, data, workers, expected)
        except (OSError, FullDisk) as error:
            if not isinstance(error, FullDisk) and not files.is_full_disk(error):
                raise
            raise DataError(
                f"the disk is full, {out} is not finished: free some space and run again (finished shards are kept), "
                "or choose another folder"
            ) from error
    records = open_records(out)
    if records.fingerprint != expected:
        raise DataError(other_records(out))
    require_readable(records.rejected, len(examples.table), data)  # a build with another limit may have made them
    if (out / BUILDING).exists():  # the manifest has it all
        for path in [*(note_path(out / shard.file) for shard in records.shards), *files.leftovers(out)]:
            path.unlink(missing_ok=True)
        (out / BUILDING).unlink(missing_ok=True)
    return records


def other_records(out: Path | str) -> str:
    """The message for a folder that holds records of something else."""
    return f"{out} holds other records (competition, images or settings differ): choose another folder"


def _build(
    competition: str,
    examples: Examples,
    root: Path,
    out: Path,
    image: ImageSettings,
    data: DataSettings,
    workers: int | None,
    expected: str,
) -> None:
    """Build the records in `out`, which is locked; the manifest comes last."""
    _forget_other_build(out, expected)
    table = with_cells(examples.table)
    plans = plan_shards(table, image, data)
    _adopt_shards(plans, fingerprints(competition, examples, image, data), int(table["cell"].max()) + 1, out)
    _report_undecodable(table, root, data)
    _report(target_format(examples.task).remarks(table, image))
    _write_shards(plans, table, examples.task, root, out, image, workers)
    notes = [read_note(out / plan.file) for plan in plans]
    report_remarks(notes)
    manifest, kept = make_manifest(competition, examples, table, image, data, notes)
    files.write_parquet(out / EXAMPLES, kept)
    manifest = manifest.model_copy(update={"examples_sha256": files.sha256_of(out / EXAMPLES)})
    files.write_json(out / MANIFEST, manifest.as_json())


def _adopt_shards(plans: list[ShardPlan], parts: Fingerprints, cells: int, out: Path) -> None:
    """Take over the shards of records beside `out`, or mounted, that have the same training or test examples.

    So a change of the test set decodes no training image again. Shards are linked where the file system allows, else
    copied. One from which an image was rejected is built anew, as is one that is damaged.
    """
    count_of = {plan.file: plan.stop - plan.start for plan in plans}
    for path in [*sorted(out.parent.glob(f"*/{MANIFEST}")), *mounted(MANIFEST)]:
        manifest = read_manifest(path)
        if manifest is None or manifest.fingerprints.image != parts.image:
            continue
        same_training = manifest.fingerprints.training == parts.training and manifest.cells == cells
        same_test = manifest.fingerprints.test == parts.test
        adopted = 0
        for shard in manifest.shards:
            same = same_test if shard.cell is None else same_training
            if not same or count_of.get(shard.file) != shard.examples or _is_finished(out / shard.file):
                continue
            source, target = path.parent / shard.file, out / shard.file  # a name that this build would give, too
            if _is_intact(source, shard):
                with files.replacing(target) as part:
                    _link_or_copy(source, part)
                files.write_json(note_path(target), Note(shard=shard, rejected=()).as_json())
                adopted += 1
        if adopted:
            log.info(f"records: {adopted} of {len(plans)} shards taken over from {path.parent}")


def _is_intact(file: Path, shard: Shard) -> bool:
    """Whether a file is the shard, byte for byte."""
    return file.is_file() and file.stat().st_size == shard.bytes and files.sha256_of(file) == shard.sha256


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _report_undecodable(table: pd.DataFrame, root: Path, data: DataSettings) -> None:
    """Warn of DICOM transfer syntaxes that cannot be decoded here, before hours are spent on a build.

    Raises DataError when that concerns more than `data.max_rejected` of the images. Only files whose names can be those
    of DICOMs are opened.
    """
    paths = table["path"][table["path"].str.contains(r"(?i)(?:\.dcm|\.dicom|\.ima|\.\d+|(?:^|/)[^./]+)$", regex=True)]
    syntaxes = undecodable(files.below(root, path) for path in paths)
    if not syntaxes:
        return
    lines = [f"{each.files} of {len(paths)} files: {each.syntax} ({each.remedy})" for each in syntaxes]
    message = f"no installed package decodes some DICOMs: {'; '.join(lines)}"
    undecoded = sum(each.files for each in syntaxes)
    if undecoded / len(table) > data.max_rejected:
        limit = share_to_allow(undecoded, len(table))
        raise DataError(f"{message}; or leave them out with --set data.max_rejected={limit:g}")
    log.warning(message)


def with_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The example table with a column `cell` (-1 for test), in the order of the shards: training cells, then test."""
    cell = deal_cells(table[table["split"] == "train"]).reindex(table.index, fill_value=-1)
    return table.assign(cell=cell).sort_values(
        ["split", "cell", "id"], ascending=[False, True, True], ignore_index=True
    )


def plan_shards(table: pd.DataFrame, image: ImageSettings, data: DataSettings) -> list[ShardPlan]:
    """All shards: each cell, and the test set, in pieces of at most `data.shard_mib` of pixels (at least one image)."""
    at_most = max(1, int(data.shard_mib * 2**20 / np.prod(image_shape(image))))
    plans, start = [], 0
    for cell in table["cell"].unique().tolist():
        count = int((table["cell"] == cell).sum())
        for n, first in enumerate(range(start, start + count, at_most)):
            name = f"test-{n:05d}.tfrecord" if cell == -1 else f"train-cell{cell:02d}-{n:05d}.tfrecord"
            plans.append(ShardPlan(name, None if cell == -1 else cell, first, min(first + at_most, start + count)))
        start += count
    return plans


def rows_of_shard(plan: ShardPlan, table: pd.DataFrame, task: str, image: ImageSettings, number: int) -> ShardRows:
    """The plan with its rows, for a worker."""
    return ShardRows(plan.file, plan.cell, rows_of(table.iloc[plan.start : plan.stop], task, image), number)


def report_remarks(notes: Iterable[Note]) -> None:
    """Say once what was odd about the images, with how many there were."""
    remarks: Counter[str] = Counter()
    for note in notes:
        remarks.update(note.remarks)
    _report(remarks)


def _report(remarks: Mapping[str, int]) -> None:
    for remark, count in sorted(remarks.items()):
        if count:
            log.info(f"noticed: {remarked(count, remark)}")


def is_whole(note: Note, size: int | None) -> bool:
    """Whether a shard of `size` bytes that an earlier build left with this note is finished.

    One from which an image was rejected is written again: the image may have been repaired since.
    """
    return size == note.shard.bytes and not note.rejected


def read_note(shard: Path) -> Note:
    """The note of a finished shard."""
    return files.read_model(note_path(shard), Note)


def _write_shards(
    plans: list[ShardPlan],
    table: pd.DataFrame,
    task: str,
    root: Path,
    out: Path,
    image: ImageSettings,
    workers: int | None,
) -> None:
    """Write the shards that are not finished, the largest first, so that the workers end at about the same time."""
    todo = sorted((plan for plan in plans if not _is_finished(out / plan.file)), key=lambda p: p.start - p.stop)
    images = sum(plan.stop - plan.start for plan in todo)
    if any(step.name == "super_resolution" for step in image.steps):
        workers = 1  # TensorFlow uses all cores, or the one GPU, by itself
    progress = out / f"{files.PART}progress"
    progress.write_bytes(np.zeros(max(1, len(todo)), np.int64).tobytes())
    paths = (path for plan in todo for path in table["path"].iloc[plan.start : plan.stop])
    with unpacked(root, paths, out) as arrays, _progress_shown(progress, len(table), len(table) - images):
        shards = (rows_of_shard(plan, table, task, image, n) for n, plan in enumerate(todo))
        calls = ((shard, root, arrays, out, image, progress, os.getpid()) for shard in shards)
        try:
            for _ in in_processes(build_shard, calls, count_workers(images, workers)):
                pass
        except WorkerDied as error:
            counts = np.fromfile(progress, np.int64)
            reading = _being_read(todo, counts, table, out)
            raise WorkerDied(f"{error}; being read: {some(reading, 8)}") from error


def _being_read(plans: list[ShardPlan], counts: np.ndarray, table: pd.DataFrame, out: Path) -> list[str]:
    """The images at which the workers are, which count an image before they read it."""
    begun = [(plan, int(count)) for plan, count in zip(plans, counts, strict=False) if count]
    return [table["path"].iloc[plan.start + count - 1] for plan, count in begun if not _is_finished(out / plan.file)]


@contextmanager
def _progress_shown(progress: Path, total: int, before: int) -> Iterator[None]:
    """A progress bar that follows the counts of the workers, in the array that `progress` maps."""
    counts, done = np.memmap(progress, np.int64, "r"), threading.Event()
    with progress_bar("records", "image", total, before) as bar:

        def follow() -> None:
            while not done.wait(0.2):
                bar.update(before + int(counts.sum()) - bar.n)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()
            bar.update(before + int(counts.sum()) - bar.n)


def _is_finished(shard: Path) -> bool:
    try:
        note = read_note(shard)
    except DataError:  # there is none, or it is damaged: the shard is built again
        return False
    return not note.rejected and _is_intact(shard, note.shard)


def _refuse_foreign(out: Path) -> None:
    """Raise DataError for a folder of something else. (A build that is killed at its first file leaves only a part.)"""
    foreign = out.exists() and any(not path.name.startswith(files.PART) for path in out.iterdir())
    if foreign and not (out / BUILDING).exists():
        raise DataError(f"{out} is not empty and holds no records: choose another folder")


def _forget_other_build(out: Path, expected: str) -> None:
    """Remove the half-written files of killed builds, and builds of something else; mark the folder as being built."""
    building = out / BUILDING
    stale = files.leftovers(out)
    if building.exists() and files.read_json(building, f"delete {out} and build again") != {"fingerprint": expected}:
        stale += [*out.glob("*.tfrecord"), *out.glob("*.json")]
    for path in stale:
        path.unlink(missing_ok=True)  # a worker that outlives its build by a moment may remove its own
    files.write_json(building, {"fingerprint": expected})
