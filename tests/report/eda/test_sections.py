"""Figures and tables of a data set, from tables and arrays made by hand."""

import numpy as np
import pandas as pd
import pytest

from kit.boxes import Boxes
from kit.report import page
from kit.report.eda import boxes, findings, labels, metadata, pixels

pytestmark = pytest.mark.once
NAN = np.nan
NASTY = "<b>&$x$"


def _texts(blocks):
    return " ".join(block.text for block in blocks if isinstance(block, page.Text))


def _tables(blocks):
    return [block for block in blocks if isinstance(block, page.Table)]


def _figures(blocks):
    return {block.name: block for block in blocks if isinstance(block, page.Figure)}


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(6)],
            "group": list("aabbcc"),
            "split": ["train"] * 4 + ["test"] * 2,
            "y_a": [1, 1, 0, 0, NAN, NAN],
            "y_b": [1, 0, 0, NAN, NAN, NAN],
        }
    )


def test_counts_by_split_and_fold(table):
    (counts,) = _tables(labels.splits(table, table["split"], ["a", "b"]))
    assert counts.columns == ["", "train", "test"]
    assert counts.rows == [
        ["images", "4", "2"],
        ["groups", "2", "1"],
        ["a", "2 (50.0%)", "–"],
        ["b", "1 (33.3%)", "–"],  # of the three that are known
        ["unlabelled", "0", "2"],
    ]
    (folds,) = _tables(labels.folds(table[:4], np.array([0, 0, 1, 1]), ["a", "b"]))
    assert folds.rows[2] == ["a", "2 (100.0%)", "0 (0.0%)"] and folds.rows[-1][0] == "b"


def test_labels_that_occur_together(table):
    drawing = labels.together(table, ["a", "b"]).drawing
    texts = [text.get_text() for text in drawing.axes[0].texts]
    assert texts == ["100", "50", "100", "100"]  # of two a one is b, the b is an a


def test_shares_of_classes_by_kind_of_file():
    table = pd.DataFrame({"format": ["PNG"] * 3 + ["JPEG"], "channels": ["L", "L", "RGB", "RGB"]})
    members = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], bool)
    (kinds,) = _tables(pixels.kinds(table, ["a", "b"], members))
    assert kinds.rows[0] == ["PNG, L", "2", "50.0%", "100.0%", "0.0%"]
    assert ["JPEG, RGB", "1", "25.0%", "–", "–"] in kinds.rows
    many = labels.shares("sex", [("F", np.array([True, True, False, False]))], [*"abcdefg"], np.eye(4, 7, dtype=bool))
    assert many.columns == ["sex", "F"] and many.rows[:3] == [["images", "2"], ["of all", "50.0%"], ["a", "50.0%"]]


def test_sizes_are_drawn_where_they_differ():
    table = pd.DataFrame({"width": [10, 10, 20], "height": [10, 10, 20], "bytes": [5, 5, 5]})
    blocks = pixels.sizes(table, ["a", "b"], np.array([[1, 0], [1, 0], [0, 1]], bool))
    assert _tables(blocks)[0].rows == [["10 × 10", "2", "66.7%"], ["20 × 20", "1", "33.3%"]]
    assert [*_figures(blocks)] == ["sides"]


def test_histograms_hold_all_of_a_class_and_boxes_are_drawn_of_many():
    from kit.report import style

    values, members = np.array([1.0, 2, 2, 7, NAN]), np.ones((5, 1), bool)
    axes = style.drawn(pixels.by_class, ["a"], members, values, "x").axes[0]
    heights = axes.patches[0].get_xy()[:, 1]
    assert heights.max() == pytest.approx(50) and axes.get_xlabel() == "x"
    members = np.tile(np.eye(5, dtype=bool), (3, 1))
    axes = style.drawn(pixels.by_class, [*"abcde"], members, np.arange(15.0), "x").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [*"abcde"]
    assert [bar.get_width() for bar in axes.patches] == [5] * 5  # quartiles of n, n + 5, n + 10


def test_grey_images_have_no_colours():
    (text,) = pixels.colours(["a"], np.ones((2, 1), bool), np.full((2, 3, 64), NAN))
    assert "All images of the sample are grey" in text.text
    (figure,) = pixels.colours(["a"], np.ones((1, 1), bool), np.full((1, 3, 64), 1 / 64))
    assert figure.wide and "100% of the images" in figure.caption


def test_mean_images_of_classes_without_an_image_are_left_out():
    means = np.stack([np.full((4, 4, 3), 9.0), np.full((4, 4, 3), NAN)])
    gallery, edges = pixels.mean_images(["a", "b"], means, np.stack([np.ones((4, 4)), np.full((4, 4), NAN)]))
    assert [picture.caption for picture in gallery.pictures] == ["a"] == [each.caption for each in edges.pictures]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("age", [30.0, 412, 50, -1], "age: 412 (1), -1 (3): not between 0 and 120 years."),
        ("patient_age", [30.0, NAN], ""),
        ("voltage", [412.0, 410, 411, 413], ""),
        ("spacing", [0.1, 0.12, 0.15, 0.2] * 60 + [99], "spacing: 99 (240): far from the others (0.12 to 0.2 mostly)."),
        ("sex", ["M", "m ", "F"], "sex: 'M', 'm ': spellings of one value?"),
        ("sex", ["M", "F", None], ""),
    ],
)
def test_odd_values_are_named(name, values, expected):
    ids = pd.Series([str(n) for n in range(len(values))])
    assert metadata.odd_values(name, pd.Series(values), ids) == expected


def test_metadata_are_tables_or_figures():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"i{n}" for n in range(40)], "age": rng.integers(20, 90, 40).astype(str)})
    table["sex"] = ["F", "M", None, "F"] * 10
    table["view"], table["boxes"], table["name"] = "PA", [[]] * 40, [NASTY + str(n) for n in range(40)]
    members = np.arange(40)[:, None] % 2 == [[0, 1]]
    columns = metadata.columns(table, ["age", "sex", "view", "boxes", "name"])
    assert columns == ["age", "sex", "view", "name"]
    blocks = metadata.blocks(table, ["even", "odd"], members, columns)
    assert [*_figures(blocks)] == ["metadata0"]
    sex, name = _tables(blocks)
    assert sex.rows[0] == ["F", "20", "50.0%", "50.0%", "50.0%"] and sex.rows[-1][:2] == ["missing", "10"]
    assert name.rows[-1][:2] == ["28 other values", "28"]
    assert "view: PA in all images." in _texts(blocks)


def _boxes(image, xywh):
    image = np.array(image, np.int64)
    xywh = np.array(xywh, float).reshape(-1, 4)
    return Boxes(4, image, xywh, np.zeros(len(image), np.int64), np.ones(len(image)))


def test_boxes_are_counted_by_part():
    own = _boxes([0, 0, 1], [[0.1, 0.2, 0.2, 0.4], [0.5, 0.5, 0.2, 0.2], [0, 0, 0.4, 0.2]])
    every, front = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)
    parts = [boxes.Part("all", every, own), boxes.Part("front", front, own.where(own.image == 0))]
    none = boxes.Part("side", ~front & every, own.where(own.image == 3))
    blocks = boxes.blocks(parts, [none])
    assert "3 boxes in 2 of 3 images." in _texts(blocks)
    assert [*_figures(blocks)] == ["box_counts", "box_sizes", "box_areas", "box_centres"]
    assert _tables(blocks)[0].rows == [
        ["all", "3", "2 (67%)", "3", "20% × 20%"],
        ["front", "1", "1 (100%)", "2", "20% × 30%"],
        ["side", "2", "0 (0%)", "0", "–"],
    ]
    counts = [bar.get_height() for bar in _figures(blocks)["box_counts"].drawing.axes[0].patches]
    assert counts == [1, 1, 1]
    heat = np.asarray(_figures(blocks)["box_centres"].drawing.axes[0].images[0].get_array())
    assert heat.sum() == 3 and heat[int(0.4 * 24), int(0.2 * 24)] == 1  # the centre of the first


def test_boxes_outside_their_images_are_told():
    parts = [boxes.Part("all", np.ones(4, bool), _boxes([0, 1], [[0, 0, 16, 16], [0, 0, 0.5, 0.5]]))]
    blocks = boxes.blocks(parts, [])
    assert "1 box reaches beyond the image" in _texts(blocks) and "1 box in 1 of 4 images" in _texts(blocks)
    (text,) = boxes.blocks([boxes.Part("all", np.ones(4, bool), _boxes([], []))], [])
    assert text.text == "No image has a box."


CHECKS = {
    "missing": ["m1"],
    "surplus": [],
    "unreadable": [{"path": "u.png", "reason": "cut off"}],
    "remarks": {"ages above 120, taken as missing (the highest 412)": 1},
    "notes": ["groups: 3"],
    "groups_in_several_splits": ["p7"],
    "duplicates": {
        "images": 5,
        "within_class": [["c", "d", "e"]],
        "across_classes": [["a", "b"]],
        "across_boxes": [],
        "across_groups": [["a", "b"], ["c", "d", "e"]],
        "across_splits": [["a", "b"]],
    },
}


def test_findings_are_told_the_worst_first_and_shown_once():
    assert findings.duplicates_to_show(CHECKS) == [
        ("across_classes", ["a", "b"]),
        ("across_groups", ["c", "d", "e"]),
    ]
    texts = {name: f"{name}\ntrain: tumour" for name in "abcde"}
    blocks = findings.blocks(CHECKS, dict.fromkeys("abcde", b"\xff\xd8"), texts, complete=True)
    told = _texts(blocks)
    for part in (
        "Every image was decoded.",
        "1 expected image has no file: m1.",
        "1 file cannot be read: u.png (cut off).",
        "1 set of images with the same pixels with different labels: one is wrong.",
        "1 group (patient) is on two sides of the official split: p7.",
        "1 age above 120, taken as missing (the highest 412).",
        "5 images have the same pixels as another, in 2 sets.",
    ):
        assert part in told
    galleries = [block for block in blocks if isinstance(block, page.Gallery)]
    assert [[picture.badge for picture in gallery.pictures] for gallery in galleries] == [["set 1"] * 2, ["set 1"] * 3]
    assert galleries[0].pictures[0].tone == "bad"


def test_nothing_odd_is_said():
    nothing = {
        "missing": [],
        "surplus": [],
        "unreadable": [],
        "remarks": {},
        "notes": [],
        "groups_in_several_splits": [],
    }
    duplicates = {kind: [] if kind != "images" else 0 for kind in CHECKS["duplicates"]}
    (text,) = findings.blocks({**nothing, "duplicates": duplicates}, {}, {}, complete=False)
    assert text.text.startswith("Only the sample was decoded (--quick). Nothing odd was found")
