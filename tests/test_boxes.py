"""Boxes as columns of tables."""

import pandas as pd
import pytest

from kit.boxes import boxes_of, nothing, with_boxes

pytestmark = pytest.mark.once


@pytest.mark.parametrize("images", [0, 1, 3])
def test_a_table_without_boxes_or_rows_has_the_columns(images):
    table = with_boxes(pd.DataFrame({"id": [*"abc"[:images]]}), nothing(images), ["box"])
    assert [*table.columns] == ["id", "boxes", "box_scores", "box_labels"]
    assert table["boxes"].tolist() == [[]] * images
    assert boxes_of(table, ["box"]).images == images
