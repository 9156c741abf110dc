import errno

import pytest

from kit import files
from kit.errors import DataError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(OSError), files.replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


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
