"""The two readers of records, batch for batch."""

import gc
import threading
from itertools import islice

import cv2
import numpy as np
import pandas as pd
import pytest

from kit.config import DataSettings, ImageSettings, InputSettings
from kit.data.records import batches as batches_module
from kit.data.records.batches import Host, batch_ids, eval_batches, train_batches
from kit.data.records.build import build_records
from kit.data.table.examples import Examples
from kit.parallel import ahead
from tests.data.conftest import build

CELLS = list(range(0, 60, 2))


@pytest.fixture
def both(monkeypatch):
    """A function: what to read with TensorFlow and without -> both results."""

    def read(call):
        results = []
        for has in (True, False):
            monkeypatch.setattr(batches_module, "has_tensorflow", lambda has=has: has)
            results.append(call())
        return results

    return read


def training(records, cells, size, count, **more):
    """The first batches, as arrays."""
    batches = islice(train_batches(records, cells, size, **more), count)
    return [{name: np.asarray(values) for name, values in batch.items()} for (batch,) in batches]


def assert_equal(theirs, ours, pixels=0):
    """Equal in keys, types, shapes and values; pixels may differ by so much."""
    assert len(theirs) == len(ours) > 0
    for a, b in zip(theirs, ours, strict=True):
        assert {name: (v.dtype, v.shape) for name, v in a.items()} == {
            name: (v.dtype, v.shape) for name, v in b.items()
        }
        assert np.abs(a["image"].astype(int) - b["image"]).max() <= pixels
        assert all(np.array_equal(a[name], b[name], equal_nan=name == "label") for name in a if name != "image")


@pytest.mark.parametrize("more", [{}, {"buffer": 7}, {"host": Host(2, 3)}, {"parts": 3}], ids=str)
@pytest.mark.parametrize("options", [{}, {"balance": "classes"}, {"cache": "decoded", "balance": "classes"}], ids=str)
def test_training_batches_are_the_same(toy_records, both, options, more):
    def read():
        return training(toy_records, CELLS, 12, 12, seed=5, first_epoch=3, options=InputSettings(**options), **more)

    assert_equal(*both(read))


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize(("encoding", "rounding"), [("raw", 0), ("png", 0), ("jpeg:95", 1)])
def test_pixels_are_the_same(toy_root, tmp_path, both, encoding, rounding, color):
    records = build(toy_root, tmp_path / "r", ImageSettings(size=40, encoding=encoding, color=color))
    assert_equal(*both(lambda: training(records, CELLS, 12, 3, seed=1)), pixels=rounding)
    theirs, ours = both(lambda: list(eval_batches(records, None, 16)))
    for a, b in zip(theirs, ours, strict=True):
        assert a.ids == b.ids and np.array_equal(a.mask, b.mask)
        assert np.abs(a.images.astype(int) - b.images).max() <= rounding


def test_boxes_are_the_same(tmp_path, both):
    root, rng = tmp_path / "raw", np.random.default_rng(0)
    root.mkdir()
    names = [f"{n}.png" for n in range(12)]
    for name in names:
        cv2.imwrite(str(root / name), rng.integers(0, 255, (50, 80), np.uint8))
    counts = [n % 4 for n in range(12)]
    table = pd.DataFrame({"id": names, "path": names, "bytes": 1, "split": "train", "group": names})
    table = table.assign(y_x=np.float32([count > 0 for count in counts]), y_z=np.float32(0), width=80, height=50)
    table["boxes"] = [rng.uniform(1, 20, (count, 4)).tolist() for count in counts]
    table["box_labels"] = [["x"] * count for count in counts]
    examples = Examples(table, ("x", "z"), "detection")
    image = ImageSettings.model_validate({"size": 32, "color": "gray"})
    records = build_records("x", examples, root, tmp_path / "r", image, DataSettings(), 1)
    theirs, ours = both(lambda: training(records, [*range(records.cells)], 4, 5, seed=2))
    assert_equal(theirs, ours)
    assert theirs[0]["boxes"].shape == (4, 3, 4) and theirs[0]["box_mask"].any()


@pytest.mark.parametrize("buffer", [None, 9])
def test_the_ids_of_a_step_are_the_same(toy_records, both, buffer):
    theirs, ours = both(lambda: batch_ids(toy_records, CELLS, 10, 3, 2, 4, buffer=buffer))
    assert theirs == ours


def test_no_thread_outlives_the_batches(toy_records, monkeypatch):
    monkeypatch.setattr(batches_module, "has_tensorflow", lambda: False)
    before = threading.active_count()
    for options in (InputSettings(), InputSettings(cache="decoded")):
        batches = train_batches(toy_records, CELLS, 10, 0, options=options)
        next(batches)
        del batches
        gc.collect()
        assert threading.active_count() == before


def test_ahead_gives_everything_in_order_and_raises_what_was_raised():
    assert list(ahead(range(100), 3)) == [*range(100)]

    def failing():
        yield 1
        raise ZeroDivisionError("mine")

    elements = ahead(failing(), 3)
    assert next(elements) == 1
    with pytest.raises(ZeroDivisionError, match="mine"):
        next(elements)
