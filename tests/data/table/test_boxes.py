"""Boxes of a file, held against the sizes of their images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.data.table.boxes import CORNER, inside, listed, require_boxes
from kit.errors import DataError

PATH = Path("boxes.csv")


def table(*boxes, name="a"):
    index = pd.Index(range(2, 2 + len(boxes)), name="line")
    return pd.DataFrame(np.array(boxes, float).reshape(-1, 4), index, CORNER).assign(id=name)


def check(boxes, width=100.0, height=80.0):
    return inside(PATH, boxes, pd.DataFrame({"width": width, "height": height}, boxes.index))


def test_boxes_inside_are_as_they_were():
    boxes = table([0, 0, 100, 80], [10.25, 5, 3, 4])
    result, remarks = check(boxes)
    pd.testing.assert_frame_equal(result, boxes)
    assert remarks == {}


def test_half_a_pixel_outside_is_rounding_and_is_said():
    result, remarks = check(table([-0.5, 0, 10, 80.5], [90.4, 70, 10, 10], [1, 1, 2, 2]))
    assert result[CORNER].to_numpy().tolist() == [[0, 0, 9.5, 80], [90.4, 70, pytest.approx(9.6), 10], [1, 1, 2, 2]]
    assert remarks == {"boxes that are up to half a pixel outside of their image, cut to it (such as line 2)": 2}


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ([-0.51, 0, 10, 10], "line 3: a box of a, x -0.51, y 0, 10 x 10, is not inside the image of 100 x 80 pixels"),
        ([0, 70.6, 10, 10], "x 0, y 70.6, 10 x 10, is not inside the image of 100 x 80"),
        ([95, 0, 10, 10], "x 95, y 0, 10 x 10, is not inside"),
        ([100.2, 0, 0.2, 10], "x 100.2, y 0, 0.2 x 10, is not inside"),  # nothing of it would be left
        ([5, 5, 0, 10], "x 5, y 5, 0 x 10, has a width or height that is not above 0"),
        ([5, 5, 10, -1], "x 5, y 5, 10 x -1, has a width or height that is not above 0"),
        ([5, 5, 10, np.nan], "has numbers that are not finite"),
        ([5, np.inf, 10, 5], "has numbers that are not finite"),
    ],
)
def test_a_box_that_is_wrong_is_named_by_its_line(box, says):
    with pytest.raises(DataError, match=f"boxes.csv, .*{says}") as error:
        check(table([50, 5, 3, 4], box))
    assert "lower right" not in str(error.value)  # the first box would end left of its start


def test_corners_in_the_place_of_sizes_are_recognised():
    with pytest.raises(DataError, match=r"2 of 3 boxes are like this\): .*width and height were x and y of the lower"):
        check(table([60, 40, 90, 70], [10, 50, 20, 60], [1, 2, 5, 8]))


def test_shares_in_the_place_of_pixels_are_recognised():
    with pytest.raises(DataError, match=r"is smaller than a pixel.*if they are shares of the image"):
        check(table([0.25, 0.5, 0.5, 0.5], [0.1, 0.1, 0.2, 0.2]))
    check(table([0.25, 0.5, 0.5, 0.5], [10, 10, 20, 20]))


def test_a_box_that_is_listed_twice_counts_once():
    result, remarks = check(table([1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]))
    assert [*result.index] == [2, 3]
    assert remarks == {"boxes that are listed again, taken once (such as line 4)": 1}
    other = pd.concat([table([1, 2, 3, 4]), table([1, 2, 3, 4], name="b")])
    assert len(check(other)[0]) == 2


def test_an_image_of_unknown_size_takes_boxes_anywhere_but_before_it():
    assert len(check(table([500, 600, 10, 10]), np.nan, np.nan)[0]) == 1
    with pytest.raises(DataError, match="is not inside"):
        check(table([-5, 600, 10, 10]), np.nan, np.nan)
    assert len(check(table())[0]) == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(*[st.floats(-2, 30)] * 4), min_size=1, max_size=4, unique=True),
    st.floats(3, 20),
    st.floats(3, 20),
)
def test_what_is_accepted_lies_inside_and_is_at_most_half_a_pixel_off(boxes, width, height):
    before = table(*boxes)
    try:
        after, _ = check(before, width, height)
    except DataError:
        return
    x, y, w, h = after[CORNER].to_numpy().T
    assert (np.array([x, y, width - x - w, height - y - h]) >= -1e-6).all()
    assert (w > 0).all() and (h > 0).all()
    corners = [
        np.hstack([b[:, :2], b[:, :2] + b[:, 2:]])
        for b in (before.loc[after.index][CORNER].to_numpy(), after[CORNER].to_numpy())
    ]
    assert np.abs(corners[0] - corners[1]).max() <= 0.5 + 1e-5


def test_columns_of_the_example_table():
    ids, has_truth = pd.Series(["a", "b", "c"]), pd.Series([True, True, False])
    boxes = pd.concat([table([1, 2, 3, 4], [5, 6, 7, 8]), table([9, 9, 1, 1], name="elsewhere")])
    one = listed(boxes, ids, ("x",), has_truth)
    assert one["boxes"].tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]], [], []]
    assert one["y_x"].fillna(-1).tolist() == [1, 0, -1]
    assert (one["y_x"].dtype, "box_labels" in one.columns) == (np.float32, False)
    two = listed(boxes.assign(label=["p", "q", "p"]), ids, ("p", "q", "r"), has_truth)
    assert two["box_labels"].tolist() == [["p", "q"], [], []]
    assert two[["y_p", "y_q", "y_r"]].fillna(-1).to_numpy().tolist() == [[1, 1, 0], [0, 0, 0], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("boxes", [1, 2, 3, 4], r"boxes of the image b are \[1, 2, 3, 4\], not lists of \[x, y, width, height\]"),
        ("boxes", [[1, 2, 3]], r"boxes of the image b are \[\[1, 2, 3\]\], not lists"),
        ("boxes", None, "boxes of the image b are None, not lists"),
        ("boxes", [[1, 2, 3, "x"]], "the boxes or sizes of the example table are not all numbers"),
        ("boxes", [[1, 2, 0, 4]], r"a box of the image b, \[1.0, 2.0, 0.0, 4.0\], is not inside .* or has no size"),
        ("boxes", [[1, 2, 3, 6.6]], r"a box of the image b, \[1.0, 2.0, 3.0, 6.6\], is not inside its 10 x 8 pixels"),
        ("boxes", [[1, 2, 3, np.nan]], "a box of the image b, .* is not inside"),
        ("box_labels", ["p", "p"], r"box_labels of the image b are \['p', 'p'\], not a label for each of its boxes"),
        ("box_labels", ["r"], r"box_labels of the image b are \['r'\]"),
        ("y_p", 0.0, r"y_\* of the image b says otherwise than its boxes"),
    ],
)
def test_an_example_table_with_unsound_boxes(column, value, says):
    boxes = {"boxes": [[], [[1, 2, 3, 6.5]]], "box_labels": [[], ["p"]], "y_p": [0.0, 1.0], "y_q": [0.0, np.nan]}
    sound = pd.DataFrame({"id": ["a", "b"], "width": [10, 10], "height": [8, 8], **boxes})
    require_boxes(sound, ("p", "q"))
    with pytest.raises(DataError, match=says):
        require_boxes(sound.assign(**{column: [sound[column].iloc[0], value]}), ("p", "q"))
    with pytest.raises(DataError, match="the example table lacks the columns width, which boxes need"):
        require_boxes(sound.drop(columns="width"), ("p", "q"))
