import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.data.table.cells import CELLS, assign_cells, count_cells, split_folds
from kit.errors import ConfigError


def make_table(groups, labels, seed=0):
    """`groups` rows per group; `labels` shares of positives."""
    rng = np.random.default_rng(seed)
    group = [f"g{n:04d}" for n, size in enumerate(groups) for _ in range(size)]
    table = pd.DataFrame({"id": [f"i{n:05d}" for n in range(len(group))], "group": group})
    for name, share in labels.items():
        table[f"y_{name}"] = (rng.random(len(group)) < share).astype("float32")
    return table


tables = st.builds(
    make_table,
    groups=st.lists(st.integers(1, 6), min_size=2, max_size=90),
    labels=st.fixed_dictionaries({"a": st.floats(0, 1)}, optional={"b": st.floats(0, 1), "c": st.just(0.05)}),
    seed=st.integers(0, 99),
)


@given(tables, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_group_in_two_cells_and_no_row_without_one(table, seed):
    cell = assign_cells(table, seed)
    assert cell.index.equals(table.index)
    assert (cell.groupby(table["group"]).nunique() == 1).all()
    assert set(cell) == set(range(count_cells(table["group"].nunique())))


@given(tables, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = table.iloc[order].reset_index(drop=True)
    assert assign_cells(shuffled).set_axis(shuffled["id"])[table["id"]].tolist() == assign_cells(table).tolist()


def test_the_seed_does():
    table = make_table([1] * 200, {"a": 0.5})
    assert assign_cells(table, 0).tolist() == assign_cells(table, 0).tolist()
    assert assign_cells(table, 0).tolist() != assign_cells(table, 1).tolist()


@given(st.integers(60, 900), st.floats(0.02, 0.98), st.sampled_from([2, 3, 4, 5, 6, 10]), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_single_label_is_spread_as_evenly_as_can_be(rows, share, folds, seed):
    table = make_table([1] * rows, {"a": share})
    cell = assign_cells(table)
    for parts in ([[c] for c in range(CELLS)], split_folds(CELLS, folds, seed)):
        sizes = [cell.isin(part).sum() for part in parts]
        positives = [table["y_a"][cell.isin(part)].sum() for part in parts]
        assert max(positives) - min(positives) <= 1
        assert max(sizes) - min(sizes) <= 2


def test_grouped_multi_label_with_unknowns():
    table = make_table(np.random.default_rng(1).integers(1, 12, 900), {"a": 0.3, "b": 0.1, "rare": 0.03})
    table.loc[table["group"] < "g0300", "y_b"] = np.nan
    cell = assign_cells(table)
    for fold in split_folds(CELLS, 5, seed=3):
        inside = table[cell.isin(fold)]
        assert len(inside) == pytest.approx(len(table) / 5, rel=0.02)
        for name in ("y_a", "y_b", "y_rare"):
            assert inside[name].sum() == pytest.approx(table[name].sum() / 5, rel=0.1)
        assert inside["y_b"].isna().sum() == pytest.approx(table["y_b"].isna().sum() / 5, rel=0.05)


@pytest.mark.parametrize("folds", [2, 3, 4, 5, 6, 10])
def test_folds_are_a_partition_and_depend_on_the_seed(folds):
    first, second = split_folds(CELLS, folds, 0), split_folds(CELLS, folds, 1)
    assert sorted(c for fold in first for c in fold) == list(range(CELLS))
    assert {len(fold) for fold in first} == {CELLS // folds}
    assert first != second
    assert first == split_folds(CELLS, folds, 0)


@pytest.mark.parametrize(("cells", "folds"), [(60, 7), (2, 3), (1, 2)])
def test_folds_that_do_not_divide_the_cells(cells, folds):
    with pytest.raises(ConfigError, match=f"these records have {cells} cells, so folds can be"):
        split_folds(cells, folds, 0)


@pytest.mark.parametrize(("groups", "cells"), [(1, 1), (2, 2), (9, 9), (59, 59), (60, 60), (10**6, 60)])
def test_small_sets_have_fewer_cells(groups, cells):
    assert count_cells(groups) == cells
