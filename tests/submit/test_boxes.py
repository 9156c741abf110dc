from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import Boxes, with_boxes
from kit.competition import Target
from kit.competitions.rsna import COMPETITION as RSNA
from kit.errors import SubmissionError
from kit.submit.boxes import parse
from kit.submit.submission import check_submission, make_submission, read_submission, same_cells

TARGET = replace(RSNA.targets["boxes"], frame=1024)
COMPETITION = replace(RSNA, targets={**RSNA.targets, "boxes": TARGET}, chosen="boxes")
UNFRAMED = replace(COMPETITION, targets={"boxes": replace(TARGET, frame=None)})
SAMPLE = pd.DataFrame({"patientId": ["a", "b", "c"], "PredictionString": ["0.5 0 0 100 100"] * 3})
SIZES = pd.DataFrame({"id": ["c", "a", "b"], "width": [512, 1024, 2000], "height": [512, 1024, 1000]})


def predictions(*images, ids="abc", labels=("pneumonia",)):
    """A table of predictions from lists of (x, y, width, height, score[, label])."""
    rows = [(n, *box, *(0,)[len(box) - 5 :]) for n, boxes in enumerate(images) for box in boxes]
    values = np.array(rows, np.float64).reshape(-1, 7)
    boxes = Boxes(len(images), values[:, 0].astype(int), values[:, 1:5], values[:, 6].astype(int), values[:, 5])
    return with_boxes(pd.DataFrame({"id": list(ids)}), boxes, labels)


def cells(table, competition=COMPETITION, sample=SAMPLE, examples=SIZES, column="PredictionString"):
    return make_submission(competition, table, sample, examples)[column].tolist()


def test_the_strings_kaggle_wants():
    table = predictions([(10, 20.5, 30.123, 40, 0.25), (0, 0, 5, 5, 0.875)], [], [(1, 2, 3, 4, 1)])
    # c is 512 pixels wide and high: in the competition's frame everything is twice as large
    assert cells(table) == ["0.875 0 0 5 5 0.25 10 20.5 30.12 40", "", "1 2 4 6 8"]
    assert cells(table, UNFRAMED) == ["0.875 0 0 5 5 0.25 10 20.5 30.12 40", "", "1 1 2 3 4"]
    oblong = predictions([], [(1000, 500, 1000, 500, 0.5)], [])
    assert cells(oblong) == ["", "0.5 512 512 512 512", ""]
    tiny = predictions([(0.001, 1023.999, 0.001, 0.001, 1e-7)], [], [])
    assert cells(tiny) == ["0 0 1023.99 0.01 0.01", "", ""]  # no exponents, no side of 0


def test_an_image_that_could_not_be_read_has_no_box():
    assert cells(predictions([(1, 2, 3, 4, 0.5)], ids="b")) == ["", "0.5 0.51 2.05 1.54 4.1", ""]


def test_every_label_has_a_column_of_its_own():
    target = Target("detection", (), "box_ap50")
    competition = replace(COMPETITION, targets={"boxes": target})
    table = predictions(
        [(1, 2, 3, 4, 0.5, 1)], [(1, 2, 3, 4, 0.5, 0), (5, 6, 7, 8, 0.25, 1)], labels=("x", "y"), ids="ab"
    )
    submission = make_submission(competition, table, None, SIZES.assign(y_x=1.0, y_y=0.0))
    expected = {"patientId": ["a", "b"], "x": ["", "0.5 1 2 3 4"], "y": ["0.5 1 2 3 4", "0.25 5 6 7 8"]}
    assert submission.to_dict("list") == expected
    assert check_submission(competition, submission, submission) == []


def test_boxes_outside_their_image_are_never_written():
    by_rounding = predictions([(-0.4, 1000, 500, 24.4, 0.5)], [], [])
    assert cells(by_rounding) == ["0.5 0 1000 500 24", "", ""]
    for box in (
        (-0.6, 0, 9, 9, 0.5),
        (1020, 0, 5, 9, 0.5),
        (0, 0, 9, 1025, 0.5),
        (5, 5, 0, 4, 0.5),
        (5, 5, np.nan, 4, 0.5),
    ):
        with pytest.raises(
            SubmissionError, match=r"a box of a, .*is not inside the image of 1024 x 1024 pixels: predict"
        ):
            cells(predictions([box], [], []))
    with pytest.raises(SubmissionError, match="no width and height of 2 images, such as b: build"):
        cells(predictions([], [], []), examples=SIZES[SIZES["id"] == "a"])


coordinate = st.floats(0, 1000, allow_subnormal=False)
box = st.tuples(
    coordinate, coordinate, st.floats(0.01, 24), st.floats(0.01, 24), st.integers(0, 1000).map(lambda n: n / 1000)
)


@given(st.lists(st.lists(box, max_size=4), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_as_it_was(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("written") / "submission.csv"
    submission = make_submission(COMPETITION, predictions(*images), SAMPLE, SIZES.assign(width=1024, height=1024))
    submission.to_csv(path, index=False)
    again = read_submission(path, "patientId")
    assert again["PredictionString"].fillna("").tolist() == submission["PredictionString"].tolist()
    if any(images):
        check_submission(COMPETITION, again, SAMPLE)
    assert same_cells(COMPETITION, "PredictionString", again["PredictionString"], submission["PredictionString"]).all()
    for text, boxes in zip(again["PredictionString"].fillna(""), images, strict=True):
        numbers = np.array(sorted(boxes, key=lambda one: -one[4])).reshape(-1, 5)
        assert parse(text) == pytest.approx(numbers[:, [4, 0, 1, 2, 3]], abs=0.011)
        assert (np.diff(parse(text)[:, 0]) <= 0).all()  # the best first


def checked(*texts, competition=COMPETITION, **more):
    return check_submission(competition, SAMPLE.assign(PredictionString=texts), SAMPLE, **more)


def test_sound_ones_pass():
    assert checked("", "0.9 10 20 30 40.5", np.nan) == []
    assert checked("0.9 1 2 3 4 .8 5 6. 7 8 ", "1e-3 0 0 1024 1024", "") == []
    other = replace(COMPETITION, chosen="two_class")  # the columns are those of another target
    assert checked("", "0.9 10 20 30 40.5", "", competition=other) == []


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("0.9 1 2 3", "4 numbers, where every box has 5"),
        ("0.5", "1 number, where every box has 5"),
        ("0.9 1 2 3 4 5", "6 numbers, where"),
        ("0.9 a 2 3 4", "'a' is not a number"),
        ("0.9 1_0 2 3 4", "'1_0' is not a number"),
        ("0.9 nan 2 3 4", "'nan' is not a number"),
        ("inf 1 2 3 4", "'inf' is not a number"),
        ("0.9 1e999 2 3 4", "a number is too large"),
        ("0.9,1,2,3,4", "'0.9,1,2,3,4' is not a number; put spaces"),
        ("0.9 1 2 3 4, 0.8 1 2 3 4", "'4,' is not a number; put spaces"),
        ("1.9 1 2 3 4", "a confidence of 1.9 is not in 0..1"),
        ("-0.1 1 2 3 4", "a confidence of -0.1 is not in"),
        ("0.9 1 2 3 0", "a box of 3 x 0 pixels has no area"),
        ("0.9 1 2 -3 4", "a box of -3 x 4 pixels has no area"),
        ("0.9 -1 2 3 4", "x -1, y 2, 3 x 4 is not inside the image of 1024 x 1024 pixels"),
        ("0.9 1000 2 25 4", "x 1000, y 2, 25 x 4 is not inside the image"),
        ("0.9 1 2 3 4 0.8 1 1020 3 5", "y 1020, 3 x 5 is not inside"),
    ],
)
def test_malformed_ones_are_refused(bad, why):
    says = rf"column 'PredictionString', line 3 \(b\): .* is not `confidence x y width height` for each box: .*{why}"
    with pytest.raises(SubmissionError, match=says):
        checked("0.9 1 2 3 4", bad, "")
    with pytest.raises(SubmissionError, match=r"line 2 .a.: .*; 2 further cells like it"):
        checked(bad, bad, bad)


def test_images_of_their_own_size():
    inside = "0.9 1500 500 400 400"  # in b, which is 2000 x 1000
    assert checked("", inside, "", competition=UNFRAMED, examples=SIZES) == []
    assert checked(inside, "", "", competition=UNFRAMED) == []  # the sizes are not known
    with pytest.raises(SubmissionError, match=r"line 2 \(a\): .*is not inside the image of 1024 x 1024"):
        checked(inside, "", "", competition=UNFRAMED, examples=SIZES)


def test_a_file_without_a_box_is_refused():
    with pytest.raises(SubmissionError, match="no image has a box: the cut is above every score"):
        checked("", np.nan, "  ")


def test_of_your_own_images_none_may_have_a_box():
    own = replace(UNFRAMED, slug=None)
    (remark,) = checked("", "", "", competition=own, examples=SIZES)
    assert remark.startswith("no image has a box: the cut is above every score")


def test_ids(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("patientId,PredictionString\na,\nb,0.9 1 2 3 4\nx,\nb,\n")
    with pytest.raises(SubmissionError, match=r"1 duplicate id: b .first in line 5."):
        check_submission(COMPETITION, read_submission(path, "patientId"), SAMPLE)
    path.write_text("patientId,PredictionString\na,\nb,0.9 1 2 3 4\nx,\n")
    with pytest.raises(SubmissionError, match=r"1 id is missing: c; 1 id is not in the sample: x .first in line 4."):
        check_submission(COMPETITION, read_submission(path, "patientId"), SAMPLE)


def test_what_is_odd():
    text = "0.9 1 2 3 4"
    (remark,) = checked(text, text, text)
    assert remark.startswith("every image has a box")
    count = 60
    sample = pd.DataFrame({"patientId": [f"i{n}" for n in range(count)], "PredictionString": ""})
    sent = sample.assign(PredictionString=["" if n % 2 else f"{text} {text}" for n in range(count)])
    oof = pd.DataFrame({"id": ["t", "u"], "boxes": [[[1, 2, 3, 4]], []]})
    (remark,) = check_submission(COMPETITION, sent, sample, pd.concat([oof] * 2 + [oof.iloc[1:]]))
    assert remark == "an image has 1.00 boxes in the mean, out of fold 0.40: look at the cut"
    assert check_submission(COMPETITION, sent, sample, oof) == []


def test_same_cells():
    a = pd.Series(["", "0.9 1 2 3 4", "0.9 1 2 3 4", "0.9 1 2 3 4", "0.9 1 2 3 4", "x"])
    b = pd.Series([np.nan, "0.900001 1.01 2 3 4.00", "0.91 1 2 3 4", "", "0.9 1 2 3 4 0.8 1 2 3 4", "x"])
    assert same_cells(COMPETITION, "PredictionString", a, b).tolist() == [True, True, False, False, False, False]
    numbers = pd.Series(["0.5", "x"]), pd.Series([0.5000001, 0.5])
    assert same_cells(RSNA, "p", *numbers).tolist() == [True, False]
