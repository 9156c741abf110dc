"""Zip archives: odd ones are unpacked or stay, with the reason; only a broken download is deleted."""

import io
import zipfile

import pytest

from kit.errors import KitError
from kit.kaggle.archives import unpack


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as packed:
        for name, text in entries:
            packed.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def archive(tmp_path):
    """A function that writes an archive's bytes and returns its path."""

    def write(content):
        (tmp_path / "a.zip").write_bytes(content)
        return tmp_path / "a.zip"

    return write


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def with_method(content, method):
    """The archive of one member as if it were packed by another method, in both of its headers."""
    data = bytearray(content)
    data[8] = data[data.find(b"PK\1\2") + 10] = method
    return bytes(data)


def locked(content):
    """The archive of one member with the flag of a password, in both of its headers."""
    data = bytearray(content)
    data[6] |= 1
    data[data.find(b"PK\1\2") + 8] |= 1
    return bytes(data)


ONE = zipped([("t.csv", b"id,label\n" * 99)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_method(ONE, 9), "is packed with Deflate64"),
        (with_method(ONE, 93), "is packed with Zstandard"),
        (with_method(ONE, 77), "is packed with method 77"),
        (locked(ONE), r"needs a password \(1 file, such as 't.csv'\)"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "is a 7z archive, not a zip"),
        (b"\x1f\x8b" + bytes(99), "is a gzip file, not a zip"),
        (bytes(257) + b"ustar" + bytes(300), "is a tar archive, not a zip"),
        (zipped([("a", b"1"), ("a/b", b"2")]), "holds a file and a folder of one name"),
        (zipped([("n" * 300, b"1")]), "holds a name that this disk cannot have"),
    ],
)
def test_what_cannot_be_unpacked_here_is_kept(archive, tmp_path, content, reason):
    path = archive(content)
    with pytest.raises(KitError, match=rf"a\.zip {reason}.*It is kept: unpack it yourself, .*7z x .*-odata`"):
        unpack(path, tmp_path / "out", name="data")
    assert path.read_bytes() == content
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ONE[: len(ONE) // 2], "it is cut off"),
        (b"<html>502</html>", "it is not a zip file"),
        (b"", "it is not a zip file"),
        (ONE[:40] + bytes([ONE[40] ^ 255]) + ONE[41:], "."),
    ],
    ids=["half", "page", "empty", "flipped"],  # the archive holds the time: as an id it would differ between workers
)
def test_a_broken_download_is_deleted(archive, tmp_path, content, reason):
    path = archive(content)
    with pytest.raises(KitError, match=rf"was broken \({reason}.*\) and has been deleted: run the same command"):
        unpack(path, tmp_path / "out")
    assert not path.exists()


def test_backslashes_are_folders_and_the_last_of_two_wins(archive, tmp_path, capsys):
    entries = [("train\\", b""), ("train\\a\\1.png", b"1"), ("t.csv", b"old"), ("./t.csv", b"new")]
    unpack(archive(zipped(entries)), tmp_path / "out")
    assert names(tmp_path / "out") == ["t.csv", "train/a/1.png"]
    assert (tmp_path / "out/t.csv").read_bytes() == b"new"
    said = capsys.readouterr().out
    assert "2 names in a.zip have backslashes" in said and "1 names are in a.zip more than once" in said


def test_a_backslash_leads_nowhere_outside(archive, tmp_path):
    with pytest.raises(KitError, match="would be written outside"):
        unpack(archive(zipped([("..\\outside", b"1")])), tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_zips_in_a_zip_become_folders(archive, tmp_path, capsys):
    test = zipped([("1.png", b"1"), ("deep.zip", zipped([("2.png", b"2")]))])
    train = zipped([("train/3.png", b"3"), ("__MACOSX/train/._3.png", b"")])  # its own folder, as Kaggle's are
    entries = [("x/test.zip", test), ("train.zip", train), ("secret.zip", locked(ONE)), ("...zip", ONE)]
    unpack(archive(zipped(entries)), tmp_path / "out")
    expected = ["...zip", "__MACOSX/train/._3.png", "secret.zip", "train/3.png", "x/test/1.png", "x/test/deep/2.png"]
    assert names(tmp_path / "out") == expected
    assert "secret.zip, a zip in the archive, stays packed: needs a password" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"}


def test_zips_in_a_zip_count_and_lead_nowhere_outside(archive, tmp_path):
    bomb = zipped([("x.zip", zipped([("zeros", bytes(3 * 2**20))]))])
    with pytest.raises(KitError, match=r"x\.zip would become 0\.0 GiB: allow it with --max-gib"):
        unpack(archive(bomb), tmp_path / "out", max_gib=0.002)
    with pytest.raises(KitError, match="would be written outside"):
        unpack(archive(zipped([("x.zip", zipped([("../../y", b"1")]))])), tmp_path / "out2")
    assert not (tmp_path / "y").exists()
