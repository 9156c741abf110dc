import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kit.config import DataSettings, ImageSettings
from kit.data.pixels.arrays import headers, is_array, read_array, read_small, reader, unpacked
from kit.data.pixels.images import decode
from kit.data.records.batches import eval_batches
from kit.data.records.build import build_records
from kit.data.table.examples import Examples
from kit.errors import DataError, UnreadableImage


@pytest.fixture
def arrays(tmp_path):
    rng = np.random.default_rng(0)
    content = {"a": rng.integers(0, 256, (40, 16, 16), np.uint8), "b": rng.integers(0, 256, (9, 16, 16, 3), np.uint8)}
    (tmp_path / "sub").mkdir()
    np.savez_compressed(tmp_path / "sub" / "x.npz", **content)
    (tmp_path / "file.png").write_bytes(b"as it is")
    return content


def test_rows_come_as_npy_and_files_as_they_are(arrays, tmp_path):
    paths = ["sub/x.npz/a/0", "sub/x.npz/a/39", "sub/x.npz/b/8", "file.png"]
    with unpacked(tmp_path, paths, tmp_path) as files:
        read = reader(tmp_path, files)
        assert np.array_equal(read_array(read(paths[1]))[..., 0], arrays["a"][39])
        assert np.array_equal(read_array(read(paths[2])), arrays["b"][8])
        assert is_array(read(paths[0]))
        assert read("file.png") == b"as it is"
        assert len(files) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.png", "sub"]


@pytest.mark.parametrize("workers", [1, 2])
def test_records_of_rows_hold_their_pixels(arrays, tmp_path, workers):
    paths = [f"sub/x.npz/a/{n}" for n in range(40)]
    rows = {"id": paths, "path": paths, "bytes": 256, "split": "train", "group": paths, "y_x": [0.0, 1.0] * 20}
    examples = Examples(pd.DataFrame(rows), ("x",), "binary")
    image = ImageSettings(size=16, color="gray")
    records = build_records("x", examples, tmp_path, tmp_path / "r", image, DataSettings(), workers)
    assert not list((tmp_path / "r").glob(".part*"))
    seen = 0
    for batch in eval_batches(records, [*range(records.cells)], 16):
        for name, pixels in zip(batch.ids, batch.images, strict=False):
            assert np.array_equal(pixels[..., 0], arrays["a"][int(name.split("/")[-1])])
            seen += 1
    assert seen == 40


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.array([None])]
)
def test_arrays_that_are_no_image(array, tmp_path):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UnreadableImage):
        read_array((tmp_path / "x.npy").read_bytes())


def examples_of(paths):
    rows = {"id": paths, "path": paths, "bytes": 256, "split": "train", "group": paths}
    return Examples(pd.DataFrame({**rows, "y_x": [0.0, 1.0] * (len(paths) // 2)}), ("x",), "binary")


def test_two_data_sets_with_files_of_the_same_name_do_not_mix(tmp_path):
    image, paths = ImageSettings(size=16, color="gray"), [f"x.npz/a/{n}" for n in range(6)]
    for number in (1, 2, 3):  # one after the other in this process, as in a notebook, and into the same folder
        pixels = np.random.default_rng(number).integers(0, 256, (6, 16, 16), np.uint8)
        np.savez(tmp_path / "x.npz", a=pixels)
        records = build_records("x", examples_of(paths), tmp_path, tmp_path / "out" / "r", image, DataSettings(), 1)
        for batch in eval_batches(records, [*range(records.cells)], 4):
            for name, row in zip(batch.ids, batch.images, strict=False):
                assert np.array_equal(row[..., 0], pixels[int(name.split("/")[-1])])
        shutil.rmtree(tmp_path / "out")


# --- what arrays declare ---


def npy_with(header):
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "shape", [(2**20, 2**20), (2**40, 2**40, 3), (10**9, 10**9), (-4, -4), (10**30, 1), (0, 10**18), (8, 8), (3, 5)]
)
def test_a_header_that_declares_other_sizes_costs_no_memory(shape, tmp_path):
    header = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode() + b"\n"
    data = npy_with(header) + bytes(16)
    with pytest.raises(UnreadableImage, match=r"not a \.npy that can be read"):
        read_array(data)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(DataError, match=r"x\.npz: the header of a\.npy says|cannot read .*x\.npz"):
        headers(tmp_path / "x.npz")
    with pytest.raises(DataError), unpacked(tmp_path, ["x.npz/a/0"], tmp_path):
        pass
    with pytest.raises(DataError):
        read_small(tmp_path / "x.npz", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("header", [b"", b"{", b"(" * 9000, b"{'descr': '|u1'}", b"\xff" * 60, b"__import__('os')"])
def test_headers_that_are_none(header):
    with pytest.raises(UnreadableImage):
        read_array(npy_with(header))
    with pytest.raises(UnreadableImage):
        decode(npy_with(header))


def test_an_array_larger_than_the_limit(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((300, 200), np.uint8))
    with pytest.raises(UnreadableImage, match=r"more than image\.max_pixels"):
        read_array((tmp_path / "x.npy").read_bytes(), 59_999)


def test_arrays_that_do_not_fit_on_the_disk(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    message = r"a of .*x\.npz takes 0\.0 GiB unpacked, but 0\.0 GiB are free"
    with pytest.raises(DataError, match=message), unpacked(tmp_path, ["sub/x.npz/a/0"], tmp_path):
        pass


def test_rows_and_arrays_that_do_not_exist(arrays, tmp_path):
    with unpacked(tmp_path, ["sub/x.npz/a/0"], tmp_path) as files, pytest.raises(UnreadableImage, match="no row 40"):
        reader(tmp_path, files)("sub/x.npz/a/40")
    for path in ("sub/x.npz/c/0", "absent.npz/a/0"):
        with pytest.raises(DataError, match=r"no such array|No such file"), unpacked(tmp_path, [path], tmp_path):
            pass


def test_a_damaged_npz_is_one_line(arrays, tmp_path):
    file = tmp_path / "sub" / "x.npz"
    whole = file.read_bytes()
    for data in (
        whole[:500],
        whole[:3000] + bytes(200) + whole[3200:],
        b"",
        b"PK\3\4",
    ):
        file.write_bytes(data)
        with pytest.raises(DataError) as caught, unpacked(tmp_path, ["sub/x.npz/a/0", "sub/x.npz/b/0"], tmp_path):
            pass
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.glob(".part*"))
