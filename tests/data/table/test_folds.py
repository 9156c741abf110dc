"""What is known of folds before anything is built."""

import numpy as np
import pandas as pd
import pytest

from kit.data.table.cells import CELLS, assign_cells, split_folds
from kit.data.table.folds import check_dealt, check_folds
from kit.errors import ConfigError


def table(groups, positive=lambda n: n % 2, images=4):
    rows = [(f"g{n}", float(positive(n))) for n in range(groups) for _ in range(images)]
    return pd.DataFrame(rows, columns=["group", "y_a"]).assign(id=[str(n) for n in range(len(rows))])


@pytest.mark.parametrize("groups", [*range(2, 31), 47, 59])
def test_any_number_of_folds_up_to_the_number_of_groups(groups):
    cell = assign_cells(table(groups))
    for folds in {2, 3, 5, groups} - {n for n in (2, 3, 5) if n > groups}:
        held = split_folds(int(cell.max()) + 1, folds, 0)
        sizes = [int(cell.isin(cells).sum()) for cells in held]
        assert sum(sizes) == len(cell) and max(sizes) - min(sizes) <= 4  # one group
        assert check_folds(table(groups), (), folds, 0, 1) == []


def test_positives_are_spread_over_few_groups():
    for groups in range(10, CELLS):
        rows = table(groups, lambda n: n < 5)
        cell = assign_cells(rows)
        held = split_folds(int(cell.max()) + 1, 5, 0)
        assert [rows["y_a"][cell.isin(cells)].sum() for cells in held] == [4] * 5


def test_fewer_groups_than_folds():
    with pytest.raises(
        ConfigError, match=r"folds = 5, but there are 3 groups \(patients\) of 12 images.*--set folds=3"
    ):
        check_folds(table(3), ("a",), 5, 0, 2)
    with pytest.raises(ConfigError, match=r"folds = 5, but there are 3 training images.*--set folds=3"):
        check_folds(table(3, images=1), ("a",), 5, 0, 2)
    with pytest.raises(ConfigError, match=r"all training images \(4\) are of one group .*needs two"):
        check_folds(table(1), ("a",), 2, 0, 2)


@pytest.mark.parametrize("groups", [10, 6000])
def test_a_batch_that_is_larger_than_what_a_fold_trains_on(groups):
    images = groups * 4 * 4 // 5
    with pytest.raises(ConfigError, match=rf"train.batch_size = {images + 1}, but a fold trains on {images} images.*="):
        check_folds(table(groups), ("a",), 5, 0, images + 1)
    assert check_folds(table(groups), ("a",), 5, 0, images) == []


def test_what_folds_lack():
    (few,) = check_folds(table(10, lambda n: n in (3, 4)), ("a",), 5, 0, 2)
    assert few.startswith("noticed: 3 of 5 folds have no image of a (there are 8 images)")
    (alone,) = check_folds(table(10, lambda n: n == 3), ("a",), 5, 0, 2)
    assert alone == "noticed: one fold holds all 4 images of a: its model never sees one"
    (only,) = check_folds(table(10, lambda n: n < 9), ("a",), 5, 0, 2)
    assert only == "noticed: 4 of 5 folds have images of a alone"


def test_a_fold_whose_images_were_all_rejected():
    rows = table(5).assign(cell=np.repeat(range(5), 4))
    with pytest.raises(ConfigError, match="fold 2 of 5 has no image that can be read"):
        check_dealt(rows[rows["cell"] != 2], ("a",), [[0], [1], [2], [3], [4]], 2)


def test_the_folds_advised_give_each_fold_every_class_where_that_is_possible():
    rows = table(4, lambda n: n < 2)
    with pytest.raises(ConfigError, match=r"there are 4 groups.*--set folds=2$"):
        check_folds(rows, ("a",), 5, 0, 2)
    assert all(note.endswith("; --set folds=2 gives each fold some") for note in check_folds(rows, ("a",), 4, 0, 2))
    assert check_folds(rows, ("a",), 2, 0, 2) == []
