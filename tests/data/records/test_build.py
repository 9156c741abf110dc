import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import cli, files
from kit.competitions import toy
from kit.config import DataSettings, ImageSettings, Source
from kit.data.pixels.images import read_image
from kit.data.records import build as build_module
from kit.data.records.build import build_records, plan_shards
from kit.data.records.manifest import open_records, verify_records
from kit.data.table.examples import validate
from kit.errors import DataError
from kit.parallel import in_processes
from tests.data.conftest import SIZE, build, same_files

# Records that are compared are never built beside each other: one would take over the shards of the other.

SLOW = ImageSettings(size=1024)  # some 90 ms an image, so that there is a middle to be stopped in


@pytest.fixture(scope="module")
def small_root(tmp_path_factory):
    """A raw folder of 50 patches; not to be changed."""
    root = tmp_path_factory.mktemp("small") / "raw"
    toy.make(root, train=40, test=10)
    return root


@pytest.fixture(scope="module")
def slow_records(small_root, tmp_path_factory):
    """Their records at 768 pixels, built without a break."""
    return build(small_root, tmp_path_factory.mktemp("slow") / "r", SLOW)


def test_the_bytes_depend_neither_on_workers_nor_on_the_order_of_rows(toy_root, toy_records, tmp_path):
    build(toy_root, tmp_path / "one" / "r", workers=1)
    assert same_files(toy_records.directory, tmp_path / "one" / "r")
    examples = toy.COMPETITION.read(toy_root, Source())
    shuffled = validate(replace(examples, table=examples.table.sample(frac=1, random_state=1)), 0)
    build_records("toy", shuffled, toy_root, tmp_path / "three" / "r", SIZE, DataSettings(), workers=3)
    assert same_files(toy_records.directory, tmp_path / "three" / "r")


def test_a_cell_larger_than_a_shard_is_split(toy_root, tmp_path):
    records = build(toy_root, tmp_path / "r", data=DataSettings(shard_mib=7 * 32 * 32 * 3 / 2**20))
    assert sum(shard.cell is None for shard in records.shards) == 5  # 30 test images in sevens
    assert verify_records(records) == 150


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 12))
def test_shards_cover_every_row_once_and_keep_to_their_size(sizes, at_most):
    cells = [cell for cell, size in enumerate(sizes) for _ in range(size)] + [-1] * 5
    image = ImageSettings(size=16)
    plans = plan_shards(pd.DataFrame({"cell": cells}), image, DataSettings(shard_mib=at_most * 768 / 2**20))
    assert [row for plan in plans for row in range(plan.start, plan.stop)] == list(range(len(cells)))
    assert all(0 < plan.stop - plan.start <= at_most for plan in plans)
    assert all({-1 if plan.cell is None else plan.cell} == set(cells[plan.start : plan.stop]) for plan in plans)
    assert len({plan.file for plan in plans}) == len(plans)


def test_one_worker_is_this_process_and_calls_are_taken_as_needed():
    taken = []
    calls = ((taken.append(n) or n,) for n in range(100))
    results = in_processes(lambda n: (n, os.getpid()), calls, workers=1)
    assert next(results) == (0, os.getpid())
    assert len(taken) < 10


# --- stopped on the way ---


@pytest.mark.parametrize("after", [0, 3, 60])
def test_finished_shards_are_not_written_again(toy_root, toy_records, tmp_path, monkeypatch, after):
    written, real = [], build_module.build_shard

    def breaks(job, *rest):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(job.file)
        real(job, *rest)

    def counts(job, *rest):
        written.append(job.file)
        real(job, *rest)

    monkeypatch.setattr(build_module, "build_shard", breaks)
    with pytest.raises(KeyboardInterrupt):
        build(toy_root, tmp_path / "killed", workers=1)
    with pytest.raises(DataError, match="their build was cut off"):
        open_records(tmp_path / "killed")
    monkeypatch.setattr(build_module, "build_shard", counts)
    build(toy_root, tmp_path / "killed", workers=1)
    assert len(written) == len(set(written)) == len(toy_records.shards)
    assert same_files(toy_records.directory, tmp_path / "killed")


# Forks, so that what is imported is imported once; a fork is killed at a moment that it does not choose.
KILLED_BUILDS = """
import os, random, signal, sys, time
from pathlib import Path
from kit.config import ImageSettings
from tests.data.conftest import build

root, out, moments = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3]))
killed = finished = 0
while killed < 20:
    child = os.fork()
    if not child:
        build(root, out, ImageSettings(size=256), workers=1 + killed % 2)
        os._exit(0)
    time.sleep(moments.uniform(0, 0.3 + 0.8 * (killed % 2)))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
    if (out / "manifest.json").exists() and not os.WIFSIGNALED(status):
        finished += 1
        out.parent.rename(f"{out.parent}-{finished}")
print(killed)
"""


def test_killed_at_20_random_moments(small_root, tmp_path):
    image = ImageSettings(size=256)
    whole = build(small_root, tmp_path / "whole" / "r", image)
    seed = random.randrange(10**6)
    out = tmp_path / "killed" / "r"
    script = [sys.executable, "-c", KILLED_BUILDS, small_root, out, str(seed)]
    result = subprocess.run(script, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    # a worker whose parent dies while it starts says so itself, before the last line
    assert result.stdout.splitlines()[-1:] == ["20"], result.stderr
    build(small_root, out, image)
    finished = sorted(tmp_path.glob("killed*/r"))
    assert all(same_files(whole.directory, folder) for folder in finished), f"seed {seed}"


def build_command(root, out):
    return [
        sys.executable,
        "-m",
        "kit",
        "records",
        "build",
        "toy",
        "--data",
        root,
        "--out",
        out,
        "--size",
        str(SLOW.size),
    ]


def wait_until(what):
    for _ in range(3000):
        if what():
            return
        time.sleep(0.01)
    pytest.fail("nothing happened in 30 s")


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_it_says_how_to_go_on(small_root, slow_records, tmp_path, signal_number):
    out = tmp_path / "r"
    with subprocess.Popen(
        [*build_command(small_root, out), "--workers", "2"], stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: list(out.glob("train-*.json")))
        process.send_signal(signal_number)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again to continue" in printed
    assert "Traceback" not in printed
    assert not (out / "manifest.json").exists()
    build(small_root, out, SLOW)
    assert same_files(slow_records.directory, out)


def workers_of(pid):
    """Process numbers of a process's loky workers (as Linux tells them)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for its processes")
def test_a_dying_worker_is_an_error_and_the_build_goes_on_afterwards(small_root, slow_records, tmp_path):
    out = tmp_path / "r"
    with subprocess.Popen(
        [*build_command(small_root, out), "--workers", "2"], stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: list(out.glob("train-*.json")))
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == 2
    assert re.search(r"a worker process died.*; being read: (train|test)/\w+\.tif", printed)
    assert "Traceback" not in printed
    build(small_root, out, SLOW)
    assert same_files(slow_records.directory, out)


# --- what is there already ---


def test_a_second_build_does_nothing_and_other_records_are_not_overwritten(toy_root, tmp_path, monkeypatch):
    build(toy_root, tmp_path / "r")
    monkeypatch.setattr(build_module, "build_shard", lambda *_: pytest.fail("built again"))
    build(toy_root, tmp_path / "r")
    for other in ({"image": ImageSettings(size=16)}, {"data": DataSettings(shard_mib=1)}):
        with pytest.raises(DataError, match="holds other records"):
            build(toy_root, tmp_path / "r", **other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    with pytest.raises(DataError, match="not empty"):
        build(toy_root, tmp_path / "mine")


def test_two_builds_into_one_directory(toy_root, tmp_path):
    out = tmp_path / "r"
    out.mkdir()
    with files.locked(out), pytest.raises(DataError, match="another process is writing into"):
        build(toy_root, out)
    assert not list(out.iterdir())
    build(toy_root, out)


def test_a_build_of_something_else_leaves_nothing_behind(toy_root, toy_records, tmp_path, monkeypatch):
    real = build_module.build_shard

    def breaks(job, *rest):
        if job.number == 5:
            raise KeyboardInterrupt
        real(job, *rest)

    monkeypatch.setattr(build_module, "build_shard", breaks)
    with pytest.raises(KeyboardInterrupt):
        build(toy_root, tmp_path / "r", ImageSettings(size=16), workers=1)
    monkeypatch.undo()
    build(toy_root, tmp_path / "r")
    assert same_files(tmp_path / "r", toy_records.directory)


def test_a_build_killed_at_its_very_first_file_goes_on(toy_root, toy_records, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".part-7-building.json").write_text("{")
    build(toy_root, tmp_path / "r")
    assert same_files(tmp_path / "r", toy_records.directory)


# --- bad images ---


def break_images(root):
    paths = sorted((root / "train").iterdir())[:3]
    paths[0].write_bytes(paths[0].read_bytes()[:10_000])
    paths[1].write_bytes(b"")
    paths[2].write_text("this is no image")
    return [path.stem for path in paths]


def test_unreadable_images_are_named_in_rejected(toy_root, tmp_path):
    broken = break_images(toy_root)
    records = build(toy_root, tmp_path / "r", data=DataSettings(max_rejected=0.02))
    assert sorted(entry.id for entry in records.rejected) == broken
    assert {entry.path for entry in records.rejected} == {f"train/{name}.tif" for name in broken}
    reasons = {entry.id: entry.reason for entry in records.rejected}
    assert "truncated" in reasons[broken[0]]
    assert "empty" in reasons[broken[1]]
    assert "not an image" in reasons[broken[2]]
    assert verify_records(records) == 147


def test_the_limit_holds_for_records_that_another_limit_built(toy_root, tmp_path):
    break_images(toy_root)
    build(toy_root, tmp_path / "r", data=DataSettings(max_rejected=0.1))
    with pytest.raises(DataError, match=r"3 of 150 images cannot be read.* --set data\.max_rejected=0\.02$"):
        build(toy_root, tmp_path / "r")
    assert len(build(toy_root, tmp_path / "r", data=DataSettings(max_rejected=0.02)).rejected) == 3


def test_too_many_unreadable_images_fail_the_build(toy_root, tmp_path):
    broken = break_images(toy_root)
    with pytest.raises(DataError, match=r"3 of 150 images cannot be read, such as train/.*max_rejected"):
        build(toy_root, tmp_path / "r")
    assert not (tmp_path / "r" / "manifest.json").exists()
    # repaired without a change of size in the table: what the first try rejected is read again
    good = read_image(sorted((toy_root / "train").iterdir())[5])
    for name in broken:
        toy.write_tif(toy_root / "train" / f"{name}.tif", good)
    assert not build(toy_root, tmp_path / "r").rejected


# --- bad disks ---


def test_a_full_disk_leaves_nothing_that_looks_finished(toy_root, toy_records, tmp_path, monkeypatch):
    real = build_module.build_shard

    def full(job, *rest):
        if job.number == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(job, *rest)

    monkeypatch.setattr(build_module, "build_shard", full)
    with pytest.raises(DataError, match="the disk is full"):
        build(toy_root, tmp_path / "r", workers=1)
    assert not (tmp_path / "r" / "manifest.json").exists()
    monkeypatch.undo()
    build(toy_root, tmp_path / "r")
    assert same_files(tmp_path / "r", toy_records.directory)


@pytest.fixture
def mounted(tmp_path):
    """A function: options of a tmpfs -> its folder; skips where we may not mount."""
    folders = []

    def mount(options):
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        result = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True
        )
        if result.returncode:
            pytest.skip(f"only root can mount a small disk: {result.stderr.strip()}")
        folders.append(folder)
        return folder

    yield mount if shutil.which("mount") else lambda _: pytest.skip("no `mount` here")
    for folder in folders:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_really_is_full(toy_root, toy_records, tmp_path, mounted, capfd):
    disk = mounted("size=200k")
    command = ["records", "build", "toy", "--data", str(toy_root), "--out", str(disk / "r"), "--size", "32"]
    assert cli.main([*command, "--workers", "2"]) == 2
    assert "the disk is full" in capfd.readouterr().err
    assert not (disk / "r" / "manifest.json").exists()
    subprocess.run(["mount", "-o", "remount,size=5m", disk], check=True)
    assert cli.main(command) == 0
    assert same_files(disk / "r", toy_records.directory)


def test_a_read_only_folder_is_one_line(toy_root, mounted, capfd):
    disk = mounted("ro")
    assert cli.main(["records", "build", "toy", "--data", str(toy_root), "--out", str(disk / "r")]) == 2
    assert capfd.readouterr().err == f"kit: Read-only file system: {disk / 'r'}\n"


def test_other_write_errors_are_not_called_a_full_disk(toy_root, tmp_path, monkeypatch):
    def denied(*_):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(build_module, "build_shard", denied)
    with pytest.raises(PermissionError):
        build(toy_root, tmp_path / "r", workers=1)


def test_a_script_without_a_main_guard_can_build(small_root, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.data.conftest import build\n"
        "build(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)\n"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, script, small_root, tmp_path / "r"], check=True, env=environment)
    assert verify_records(open_records(tmp_path / "r")) == 50
