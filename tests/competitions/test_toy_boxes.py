import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kit.competitions import csv, toy_boxes
from kit.config import Source
from kit.data.table.examples import validate
from kit.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy_boxes") / "raw"
    toy_boxes.make(folder, train=40, test=10, size=64)
    return folder


def test_it_is_made_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        toy_boxes.make(tmp_path / name, train=3, test=2, size=32)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 8
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_examples_and_answers(root):
    examples = validate(toy_boxes.read(root, Source()), 0)
    table = examples.table.set_index("id")
    assert (examples.task, examples.labels) == ("detection", ("ellipse",))
    assert table["split"].value_counts().to_dict() == {"train": 40, "test": 10}
    train = table[table["split"] == "train"]
    counts = train["boxes"].map(len)
    assert (train["y_ellipse"] == (counts > 0)).all()
    assert counts.max() > 1
    assert 0.15 < (counts == 0).mean() < 0.5
    assert table.loc[table["split"] == "test", "y_ellipse"].isna().all()
    sample = pd.read_csv(root / "sample_submission.csv")
    assert [*sample] == ["image", "PredictionString"]
    assert (
        {*sample["image"]}
        == {*table.index[table["split"] == "test"]}
        == {*pd.read_csv(root / toy_boxes.ANSWERS)["image"]}
    )


def test_the_inside_of_a_box_is_brighter_than_its_surroundings(root):
    table = toy_boxes.read(root, Source()).table
    inner, outer = [], []
    for path, boxes in zip(table["path"], table["boxes"], strict=True):
        pixels = np.asarray(Image.open(root / path)).astype(float)
        for x, y, w, h in boxes:
            middle = pixels[round(y + h / 3) : round(y + 2 * h / 3), round(x + w / 3) : round(x + 2 * w / 3)]
            around = pixels[
                max(0, round(y - h / 4)) : round(y + 5 * h / 4), max(0, round(x - w / 4)) : round(x + 5 * w / 4)
            ]
            inner.append(middle.mean())
            outer.append(around.mean())
    assert len(inner) > 20
    assert np.mean(np.array(inner) > np.array(outer)) > 0.9


def test_missing_images_and_the_folder_as_ones_own(root, tmp_path):
    table = csv.read(root, Source(target="boxes", table="boxes.csv")).table
    assert (table["split"] == "train").sum() == 40
    toy_boxes.make(tmp_path / "raw", train=6, test=3, size=32)
    next((tmp_path / "raw" / "test").iterdir()).unlink()
    with pytest.raises(DataError, match="1 expected image has no file"):
        validate(toy_boxes.read(tmp_path / "raw", Source()), 0)
