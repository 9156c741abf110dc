"""Single images of records, by id."""

import numpy as np
import pytest

from kit.data.records.batches import eval_batches
from kit.data.records.images import images_of
from kit.errors import DataError


def test_images_by_id_are_those_that_batches_hold(toy_records):
    every = {
        name: image
        for cells in ([*range(toy_records.cells)], None)
        for batch in eval_batches(toy_records, cells, 16)
        for name, image in zip(batch.ids, batch.images, strict=False)
    }
    some = [*every][::7]
    found = images_of(toy_records, some)
    assert sorted(found) == sorted(some)
    assert all(np.array_equal(found[name], every[name]) for name in some)


def test_an_id_that_is_not_there_is_named(toy_records):
    with pytest.raises(DataError, match="holds no image nobody"):
        images_of(toy_records, ["nobody"])
