"""Entries of a folder that are no files, or none that can be read: rejected, never a hang or the end of a build."""

import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kit.config import DataSettings, ImageSettings
from kit.data.pixels.images import read_image
from kit.data.pixels.prepared import prepare_file
from kit.data.pixels.reading import read_file
from kit.data.records.build import build_records
from kit.data.table.check import check_images
from kit.data.table.examples import Examples
from kit.errors import UnreadableImage

REASONS = {
    "fifo.png": "a FIFO, not a file",
    "socket.png": "a socket, not a file",
    "device.png": "a device, not a file",
    "folder.png": "a folder, not a file",
    "broken.png": "No such file or directory",
    "loop.png": "Too many levels of symbolic links",
    "absent.png": "No such file or directory",
    "x.png/x.png": "Not a directory",
    f"{'x' * 300}.png": "File name too long",
    "a\0b.png": "not the name of a file",
}


@pytest.fixture
def root(tmp_path):
    """A folder with one entry of each kind, and 20 images."""
    raw = tmp_path / "raw"
    raw.mkdir()
    os.mkfifo(raw / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(raw / "socket.png"))
    (raw / "device.png").symlink_to("/dev/zero")
    (raw / "folder.png").mkdir()
    (raw / "broken.png").symlink_to("nowhere")
    (raw / "loop.png").symlink_to("loop.png")
    (raw / "x.png").touch()
    for n in range(20):
        Image.fromarray(np.full((16, 16), n, np.uint8)).save(raw / f"{n}.png")
    (raw / "link.png").symlink_to("3.png")
    return raw


@pytest.mark.parametrize("name", REASONS)
def test_each_has_its_reason(root, name):
    for read in (read_file, read_image, lambda path: prepare_file(path, ImageSettings(size=16))):
        with pytest.raises(UnreadableImage, match=REASONS[name]):
            read(root / name)
    assert read_image(root / "link.png")[0, 0, 0] == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_build_and_a_check_go_on(root, tmp_path, workers):
    names = sorted([*(f"{n}.png" for n in range(20)), *(name for name in REASONS if "\0" not in name)])
    rows = {"id": names, "path": names, "bytes": 1, "split": "train", "group": names}
    examples = Examples(pd.DataFrame({**rows, "y_x": np.float32(1)}), ("x",), "binary")
    settings = DataSettings(max_rejected=0.5)
    records = build_records("x", examples, root, tmp_path / "r", ImageSettings(size=16), settings, workers)
    assert {entry.path: entry.reason for entry in records.rejected} == {n: REASONS[n] for n in names if n in REASONS}
    report = check_images(examples, root, ImageSettings(), workers)
    assert {bad["path"] for bad in report["unreadable"]} == {name for name in names if name in REASONS}


def test_a_file_that_may_not_be_read(root, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(UnreadableImage, match="Permission denied"):
        read_file(root / "1.png")


def test_what_is_not_the_fault_of_a_file_is_raised(root, monkeypatch):
    def too_many(self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        read_file(root / "1.png")


def test_a_file_larger_than_the_memory(root, monkeypatch):
    def large(self):
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", large)
    with pytest.raises(UnreadableImage, match="larger than the free memory"):
        read_file(root / "1.png")
