"""Which files of a folder are images: by content, whatever their names are, and whatever lies beside them."""

import os
import struct
from pathlib import Path

import pytest

from kit import files
from kit.data.table.listing import list_folder, list_images, require_folder, require_images, subfolders
from kit.errors import DataError

DICOM = bytes(128) + b"DICM"
HEADS = {  # format -> how its files begin, from the formats' specifications
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF89a",
    "bmp": b"BM" + struct.pack("<IHHI", 70, 0, 0, 54),
    "tiff": b"II*\0\x08\0\0\0",
    "webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "pgm": b"P5\n# a comment\n16 16\n255\n",
    "dicom": DICOM,
    "old dicom": b"\x08\0\0\0\x04\0\0\0\x10\0\0\0",
}


def write(root, **content):
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.mark.parametrize("name", ["IM-0001-0001", "1.2.840.113619.2.5", "scan.img", "photo.JPG_large", "1.dcm.bak"])
@pytest.mark.parametrize("kind", HEADS)
def test_an_image_is_known_by_its_content(tmp_path, kind, name):
    write(tmp_path, **{name: HEADS[kind] + bytes(200)})
    assert list_images(tmp_path)["path"].tolist() == [name]
    assert list_images(tmp_path, endings=(".png",)).empty


@pytest.mark.parametrize("name", ["1.png", "1.JPEG", "1.jfif", "1.webp", "1.gif", "1.jp2", "1.IMA", "1.Dicom", "1.pgm"])
def test_files_with_the_endings_of_images_are_listed_unopened(tmp_path, name):
    write(tmp_path, **{name: b""})  # reading will say that it is empty
    assert list_images(tmp_path)["path"].tolist() == [name]


def test_what_is_no_image_is_counted_by_ending(tmp_path):
    others = {f"a/{n}.xml": b"<x/>" for n in range(12)} | {
        "b.pdf": b"%PDF",
        "README": b"BMI of patients",
        "P5": b"P5 x",
    }
    write(tmp_path, **others, **{"1.png": b"x", "label.txt": HEADS["png"], "12.7": b"not"})
    listing = list_folder(tmp_path)
    assert listing.images["path"].tolist() == ["1.png"]
    assert listing.remarks() == {
        "files that are no images, left out (12 .xml, 3 without ending, 1 .pdf, 1 .txt)": 17,
    }


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/1.png", ".ipynb_checkpoints/1.png", "lost+found/1.png"),
        *("$RECYCLE.BIN/1.png", "System Volume Information/1.png", "#recycle/1.png", ".1.png", "._1.png", ".DS_Store"),
        *("Thumbs.db", "desktop.ini"),
    ],
)
def test_what_systems_leave_is_passed_over(tmp_path, name):
    write(tmp_path, **{name: HEADS["png"], f"deep/{name}": HEADS["png"], "x/1.png": b""})
    listing = list_folder(tmp_path)
    assert listing.images["path"].tolist() == ["x/1.png"]
    assert listing.remarks() == {}
    assert [path.name for path in subfolders(tmp_path)] == ["deep", "x"]


def test_pipes_and_links(tmp_path):
    write(tmp_path, **{"a/1.png": b"123", "b/2.png": b""})
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "more").symlink_to(tmp_path / "a")
    listing = list_folder(tmp_path)
    assert dict(zip(listing.images["path"], listing.images["bytes"], strict=True)) == {
        "a/1.png": 3,
        "b/2.png": 0,
        "b/more/1.png": 3,  # a folder may be linked
        "broken.png": 0,  # what cannot be read is said when it is read
        "pipe.png": 0,
    }
    assert listing.others == ("itself", "pipe")
    assert listing.closed == dict.fromkeys(("a/up", "b/more/up"), "a link to a folder that it is in")


def test_a_folder_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    write(tmp_path, **{"a/1.png": b"", "b/2.png": b""})
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_folder(tmp_path)
    assert listing.images["path"].tolist() == ["a/1.png"]
    assert listing.remarks() == {"folder that cannot be read, left out (b/: Permission denied)": 1}


def test_names_that_are_no_utf8_can_be_stored_and_read(tmp_path):
    folder = os.fsencode(tmp_path) + b"/M\x81ller"
    Path(os.fsdecode(folder)).mkdir()
    Path(os.fsdecode(folder + b"/\xff.png")).write_bytes(b"inside")
    listing = list_folder(tmp_path)
    (path,) = listing.images["path"]
    assert path == "M\\x81ller/\\xff.png"
    assert files.below(tmp_path, path).read_bytes() == b"inside"
    assert list(listing.remarks().values()) == [2]
    write(tmp_path, **{"a\\x81.png": b"itself"})
    assert files.below(tmp_path, "a\\x81.png").read_bytes() == b"itself"


def test_a_data_folder_that_is_none(tmp_path):
    write(tmp_path, **{"data.zip": b"PK", "table.csv": b""})
    with pytest.raises(DataError, match=r"data\.zip is an archive: unpack it"):
        require_folder(tmp_path / "data.zip")
    with pytest.raises(DataError, match=r"table\.csv is a file: give the folder"):
        require_folder(tmp_path / "table.csv")
    with pytest.raises(DataError, match=r"holds no \.tif image"):
        require_images(tmp_path, "", (".tif",))
