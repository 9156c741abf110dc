"""Damaged `.npy` and `.npz` files: pixels, or one error that says why not."""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from kit.data.pixels.arrays import headers, is_array, read_array, read_small, reader, unpacked
from kit.errors import DataError, UnreadableImage
from tests.fuzz import examples

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)


def npy_of(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version, allow_pickle=True)
    return buffer.getvalue()


def npz_of(save):
    buffer = io.BytesIO()
    save(buffer, images=PIXELS, labels=np.arange(6)[:, None])
    return buffer.getvalue()


NPYS = [npy_of(PIXELS[0]), npy_of(PIXELS[0], (2, 0)), npy_of(np.asfortranarray(PIXELS[0])), npy_of(PIXELS[0] / 2)]
NPYS += [npy_of(np.array([{"an": "object"}])), npy_of(np.zeros(3, [("a", "u1"), ("b", "O")]))]
NPZS = [npz_of(np.savez), npz_of(np.savez_compressed)]


@st.composite
def damaged(draw, files):
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.one_of(st.integers(0, min(130, len(data))), st.integers(0, len(data))))
        new = draw(st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from([b"9" * 9, b"(", b"O", b"\xff" * 4])))
        if draw(st.booleans()):
            data[at : at + len(new)] = new
        else:
            data[at : at + draw(st.integers(0, 40))] = new
    return bytes(data)


@seed(0)
@given(damaged(NPYS))
@settings(max_examples=examples(500), deadline=None, database=None)
def test_arrays(data):
    if not is_array(data):
        return
    try:
        pixels = read_array(data)
    except UnreadableImage as error:
        assert str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (1, 3)


@seed(0)
@given(damaged(NPZS))
@settings(max_examples=examples(200), deadline=None, database=None)
def test_archives(data):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "x.npz").write_bytes(data)
        try:
            headers(root / "x.npz")
            read_small(root / "x.npz", "labels")
            with unpacked(root, ["x.npz/images/5"], root) as files:
                assert len(read_array(reader(root, files)("x.npz/images/5"))) > 0
        except (DataError, UnreadableImage) as error:
            assert str(error)
        assert [path.name for path in root.iterdir()] == ["x.npz"]


def test_no_pickle_is_ever_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    data = npy_of(np.array([Bomb()], object))
    for read in (
        lambda: read_array(data),
        lambda: headers(tmp_path / "x.npz"),
        lambda: read_small(tmp_path / "x.npz", "a"),
    ):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("a.npy", data)
        try:
            read()
        except (DataError, UnreadableImage):
            continue
        raise AssertionError("it was read")
    assert not (tmp_path / "exploded").exists()
