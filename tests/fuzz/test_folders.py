"""Folders of odd names, links, pipes and empty files: listed whole, read as classes or refused in one line."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from kit import files
from kit.competitions import folders
from kit.config import Source
from kit.data.table.examples import validate
from kit.data.table.listing import list_folder
from kit.errors import KitError
from tests.fuzz import examples

FOLDERS = st.sampled_from(
    [
        *(
            b"train",
            b"Test_data",
            b"val",
            b"normal",
            b"ill",
            b"NORMAL ",
            b"images",
            b"masks",
            b"A",
            b"B",
            b"patient1",
            b"0",
        ),
        *(
            b"M\x81ller",
            "M\u00fc".encode(),
            b"@eaDir",
            b".hidden",
            b"a\nb",
            b"\x1b[31m",
            b"\\x81",
            b"fold0",
            b"*",
            b"'",
        ),
    ]
)
NAMES = st.sampled_from(
    [
        *(
            b"1.png",
            b"2.PNG",
            b"1_mask.png",
            b"1.dcm",
            b"1",
            b"1.2.840.5",
            b"x.txt",
            b"Thumbs.db",
            b"._1.png",
            b"\xff.png",
        ),
        *(b"mask_1.png", b"a\nb.png", b".png", b"p1_1.jpg", b"train.zip", "\u80ba.gif".encode(), b"\\xff.png"),
    ]
)
KINDS = st.sampled_from(["image", "empty", "text", "pipe", "broken", "loop", "folder"])
ENTRIES = st.tuples(st.lists(FOLDERS, max_size=3), NAMES, KINDS)
SOURCES = st.builds(
    Source,
    target=st.sampled_from([None, "ill", "1"]),
    columns=st.fixed_dictionaries(
        {},
        optional={"group": st.sampled_from([r"(\d)", "^[^/]+", "x|"]), "class_folder": st.integers(1, 3)},
    ),
)


def write(root, entries):
    """The entries as far as they are possible beside each other; returns how many files there are."""
    for parents, name, kind in entries:
        folder = os.path.join(os.fsencode(root), *parents)  # noqa: PTH118 (bytes)
        path = Path(os.fsdecode(os.path.join(folder, name)))  # noqa: PTH118
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            if kind == "pipe":
                os.mkfifo(path)
            elif kind == "folder":
                path.mkdir()
            elif kind in ("broken", "loop"):
                path.symlink_to(root if kind == "loop" else "nowhere")
            else:
                path.write_bytes({"image": b"\x89PNG\r\n\x1a\n" + bytes(200), "empty": b"", "text": b"text"}[kind])
        except (FileExistsError, NotADirectoryError, FileNotFoundError):
            continue


@pytest.mark.once
@seed(15)
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(ENTRIES, max_size=14), source=SOURCES)
def test_any_folder_is_listed_and_read_or_refused(tmp_path, entries, source):
    root = tmp_path / "data"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    write(root, entries)
    listing = list_folder(root)
    paths = [*listing.images["path"], *listing.others]
    assert len(paths) == len({*paths}) or any("\\x" in path for path in paths)
    for path in paths:
        path.encode()  # can be stored
        assert os.path.lexists(files.below(root, path))
    try:
        read = folders.read(root, source)
        table = validate(read, max_missing=1).table
    except KitError as error:
        assert str(error).isprintable()
        return
    assert {*table["path"]} <= {*listing.images["path"]}
    masks = sum(count for remark, count in read.remarks.items() if remark.startswith("masks"))
    outside = sum(count for remark, count in read.remarks.items() if remark.startswith("images outside"))
    assert len(table) + len(read.surplus) + masks + outside == len(listing.images)
    table.to_parquet(tmp_path / "examples.parquet")
