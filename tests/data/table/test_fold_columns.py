import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config import DataSettings, ImageSettings
from kit.data.records.build import with_cells
from kit.data.records.manifest import fingerprints
from kit.data.table.cells import split_folds
from kit.data.table.examples import Examples, validate
from kit.data.table.fold_columns import deal_by, deal_cells, require_dealt, require_folds
from kit.errors import ConfigError, DataError

SITES = ["B", "A", "C", "A", "B", "C"] * 5


def examples(**columns):
    ids = [f"i{n:02}" for n in range(30)]
    table = pd.DataFrame({"id": ids, "path": ids, "bytes": 1, "split": "train", "group": ids})
    table["y_x"] = (table.index % 2).astype("float32")
    return validate(Examples(table.assign(**{"site": SITES, **columns}), ("x",), "binary"), 0)


def test_each_site_is_left_out_by_itself():
    dealt = deal_by(examples(), "site")
    table = with_cells(dealt.table)
    folds = split_folds(3, 3, seed=5)
    held = [set(table["site"][table["cell"].isin(cells)]) for cells in folds]
    assert held == [{"A"}, {"B"}, {"C"}]  # in order, whatever the seed


@given(
    st.lists(st.integers(0, 7), min_size=30, max_size=30).filter(lambda each: len(set(each)) > 2), st.integers(0, 99)
)
@settings(max_examples=30, deadline=None)
def test_no_fold_splits_a_value(years, seed):
    dealt = deal_by(examples(year=[2015.0 + year for year in years]), "year")
    cell = deal_cells(dealt.table)
    for folds in range(2, cell.max() + 2):
        fold_of = {cell: k for k, cells in enumerate(split_folds(int(cell.max()) + 1, folds, seed)) for cell in cells}
        assert (cell.map(fold_of).groupby(dealt.table["year"]).nunique() == 1).all()


def test_values_are_in_the_order_of_numbers():
    table = deal_by(examples(year=["10", "9", "2"] * 10), "year").table
    assert deal_cells(table)[:3].tolist() == [2, 1, 0]


def test_many_values_share_cells_and_none_is_split():
    table = pd.DataFrame(
        {"group": [f"p{n}" for n in range(400)], "y_x": 0.0, "fold_of": [f"s{n % 100}" for n in range(400)]}
    )
    cell = deal_cells(table)
    assert cell.nunique() == 60 and (cell.groupby(table["fold_of"]).nunique() == 1).all()


def test_what_deals_folds_is_part_of_what_is_trained_on():
    """Records of other cells must not be taken for these."""
    plain = examples()

    def training(each):
        return fingerprints("csv", each, ImageSettings(), DataSettings()).training

    assert training(deal_by(plain, "site")) != training(plain)
    assert training(deal_by(examples(site=SITES[::-1]), "site")) != training(deal_by(plain, "site"))
    assert training(examples(other=1)) == training(plain)


@pytest.mark.parametrize(
    ("columns", "column", "error", "message"),
    [
        ({}, "sit", ConfigError, "fold_by: the example table has no column 'sit'; did you mean 'site'"),
        ({}, "group", ConfigError, "fold_by: the example table has no column 'group'"),
        ({"site": ["A", None] * 15}, "site", DataError, "fold_by = site: 15 training images have no value: i01"),
        ({"site": "A"}, "site", DataError, "all training images have the value 'A', so none can be left out"),
        ({"group": "p"}, "site", DataError, r"1 group \(patient\) has images of several values, such as p \(A, B, C\)"),
    ],
)
def test_columns_that_cannot_deal_folds(columns, column, error, message):
    with pytest.raises(error, match=message):
        deal_by(examples(**columns), column)


def test_as_many_folds_as_fit():
    table = deal_by(examples(), "site").table
    with pytest.raises(ConfigError, match=r"folds = 5, but fold_by has 3 values \(A, B, C\): --set folds=3"):
        require_folds(table, 5, fixed=False)
    require_folds(table, 2, fixed=False)
    with pytest.raises(ConfigError, match=r"folds = 2, but columns.fold has 3 values"):
        require_folds(table, 2, fixed=True)
    require_folds(examples().table, 99, fixed=True)


def test_own_folds_that_split_a_patient():
    table = examples(group=["p"] * 30).table.assign(fold_of=["0", "1"] * 15)
    with pytest.raises(DataError, match=r"columns.fold: 1 group \(patient\) has images of several values"):
        require_dealt(Examples(table, ("x",), "binary"), "columns.fold")
