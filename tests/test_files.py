import errno
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pandas as pd
import pytest

from kit import files
from kit.errors import DataError, FullDisk

ROOT = Path(__file__).parents[1]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(OSError, match="Input/output"), files.replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.EIO, "Input/output error")
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("ending", ["json", "parquet", "h5"])
def test_a_full_disk_names_the_file_and_what_is_kept(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_text("before")
    says = f"the disk is full, {path} could not be written; what was finished before is kept"
    with pytest.raises(FullDisk, match=says), files.replacing(path) as part:
        part.symlink_to("/dev/full")
        if ending == "parquet":
            pd.DataFrame({"a": range(9)}).to_parquet(part)
        elif ending == "json":
            part.write_text("x")
        else:
            raise RuntimeError("Can't write data (errno = 28, error message = 'No space left on device')")  # as h5py's
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_stage_is_done_while_inputs_and_outputs_are_the_same(tmp_path):
    stamp, out = tmp_path / "done.json", tmp_path / "sub" / "out.txt"
    assert not files.is_done(stamp, {"x": 1})
    files.write_text(out, "result")
    files.mark_done(stamp, {"x": 1}, [out])
    assert files.is_done(stamp, {"x": 1})
    assert not files.is_done(stamp, {"x": 2})
    out.write_text("changed by hand")
    assert not files.is_done(stamp, {"x": 1})
    out.unlink()
    assert not files.is_done(stamp, {"x": 1})


def test_a_moved_run_is_still_done(tmp_path):
    files.write_text(tmp_path / "a" / "out.txt", "result")
    files.mark_done(tmp_path / "a" / "done.json", {}, [tmp_path / "a" / "out.txt"])
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.is_done(tmp_path / "b" / "done.json", {})


def test_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    assert files.fingerprint({"a": 1, "b": [1, 2]}) == files.fingerprint({"b": [1, 2], "a": 1})
    assert files.fingerprint({"b": [1, 2]}) != files.fingerprint({"b": [2, 1]})


def test_sha256_is_that_of_the_standard(tmp_path):
    # FIPS 180-2, appendix B.1: the message "abc"
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("text", [None, "{"])
def test_reading_what_is_absent_or_broken(tmp_path, text):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        files.read_json(path)


# --- locks ---


def test_a_folder_is_locked_for_one_and_nothing_is_left(tmp_path):
    with files.locked(tmp_path):
        for _ in range(2):
            with (
                pytest.raises(DataError, match=f"another process is writing into {tmp_path}: wait"),
                files.locked(tmp_path),
            ):
                pytest.fail("locked twice")
        assert files.leftovers(tmp_path) == []
        assert all(path.name.startswith(files.PART) for path in tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), files.locked(tmp_path):
        _ = 1 / 0
    with files.locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, time
from pathlib import Path
from kit import files

with files.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process_even_when_that_is_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(DataError, match="another process is writing into"), files.locked(tmp_path):
        pytest.fail("locked twice")
    holder.kill()
    holder.communicate()
    with files.locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_one_process_at_a_time(tmp_path):
    def count(_):
        for _ in range(20):
            while True:
                try:
                    with files.locked(tmp_path):
                        inside.append(1)
                        most.append(len(inside))
                        time.sleep(0.0002)
                        inside.pop()
                        break
                except DataError:
                    time.sleep(0.0001)

    inside, most = [], []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert set(most) == {1} and len(most) == 80


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "No locks available")])
def test_where_the_file_system_has_no_locks_nothing_is_locked(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with files.locked(tmp_path), files.locked(tmp_path):
        assert not list(tmp_path.iterdir())


def test_leftovers_are_what_killed_writers_left(tmp_path):
    for name in (f"{files.PART}7-a.json", "a.json", f"{files.PART}lock"):
        (tmp_path / name).touch()
    assert [path.name for path in files.leftovers(tmp_path)] == [f"{files.PART}7-a.json"]
