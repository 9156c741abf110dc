import numpy as np
import pandas as pd
import pytest

from kit.config import DataSettings, ImageSettings
from kit.data.pixels.arrays import is_array, read_array, reader, unpacked
from kit.data.records.batches import eval_batches
from kit.data.records.build import build_records
from kit.data.table.examples import Examples
from kit.errors import UnreadableImage


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
