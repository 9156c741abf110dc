"""Which images `kit predict --images` takes."""

import os
from pathlib import Path

import pytest

from kit.errors import DataError
from kit.stages.predict import find_images

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working directory with images and other files, some below."""
    for name in ("a.png", "sub/b.webp", "sub/scan", "sub/.hidden.png", "sub/Thumbs.db", "notes.txt", "c*.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos", ["a.png", "c*.png", "sub/b.webp", "sub/scan"]),
        ("photos/*", ["a.png", "c*.png", "notes.txt", "sub/b.webp", "sub/scan"]),  # as if the shell had spelt it out
        ("photos/*.png", ["a.png", "c*.png"]),
        ("photos/c*.png", ["c*.png"]),  # which is there
        ("photos/notes.txt", ["notes.txt"]),  # reading will say what is wrong
        ("photos/sub/.hidden.png", ["sub/.hidden.png"]),
    ],
)
def test_files_folders_and_globs(photos, pattern, names):
    assert find_images([pattern]) == [Path("photos", name) for name in names]


def test_odd_files_are_for_the_reader_to_reject(photos):
    os.mkfifo(photos / "pipe")
    (photos / "broken.png").symlink_to("nowhere")
    named = [photos / "pipe", photos / "broken.png"]
    assert find_images([*named, *named]) == named
    assert photos / "broken.png" in find_images([photos])


def test_names_that_are_not_utf8(photos):
    path = Path(os.fsdecode(os.fsencode(photos) + b"/M\x81ller.png"))
    path.write_bytes(PNG)
    assert path in find_images([photos])


def test_what_matches_nothing(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").write_bytes(b"")
    for pattern, message in (
        ("empty", r"empty holds no image; found x\.txt"),
        ("nothing.png", "nothing.png matches no file"),
        ("*.bmp", r"\*\.bmp matches no file"),
    ):
        with pytest.raises(DataError, match=message):
            find_images([pattern])


def test_masks_in_a_folder_are_left_out_and_counted(photos, caplog):
    (photos / "a_mask.png").write_bytes(PNG)
    with caplog.at_level("INFO"):
        assert photos / "a_mask.png" not in find_images([photos])
    assert "1 mask, left out (a_mask.png)" in caplog.text
    assert find_images([photos / "a_mask.png"]) == [photos / "a_mask.png"]


def test_an_archive_is_to_be_unpacked(photos):
    (photos / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip is an archive: unpack it"):
        find_images([photos / "a.zip"])
