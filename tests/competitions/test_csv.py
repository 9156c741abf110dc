import json

import numpy as np
import pandas as pd
import pytest

from kit.cli import main
from kit.competitions import csv
from kit.config import ColumnSettings, Source, load_config
from kit.data.table.examples import validate
from kit.errors import ConfigError, DataError
from tests.conftest import TINY

IMAGES = [f"images/{n}.png" for n in range(6)]


@pytest.fixture
def root(write_images):
    return write_images(*IMAGES)


def read(root, text, target=None, **columns):
    (root / "labels.csv").write_text(text)
    return csv.read(root, Source(table="labels.csv", target=target, columns=ColumnSettings(**columns)))


def rows(*values):
    return "\n".join(["id,label,who", *values]) + "\n"


def test_one_label_of_0_and_1(root):
    examples = validate(read(root, rows(*(f"{n},{n % 2},p{n // 2}" for n in range(6))), group="who"), 0)
    table = examples.table.set_index("id")
    assert (examples.task, examples.labels) == ("binary", ("label",))
    assert table["y_label"].tolist() == [0, 1] * 3
    assert table["group"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert table["path"].tolist() == IMAGES


@pytest.mark.parametrize("name", ["{n}", "{n}.png", "images/{n}.png"])
def test_images_are_named_by_path_name_or_stem(root, name):
    examples = read(root, rows(*(f"{name.format(n=n)},{n % 2},p" for n in range(6))))
    assert not examples.missing
    assert not examples.surplus
    assert sorted(examples.table["path"]) == IMAGES


def test_classes_by_name(root):
    three = validate(read(root, rows(*(f"{n},{'abc'[n % 3]},p" for n in range(6)))), 0)
    assert (three.task, three.labels) == ("multiclass", ("a", "b", "c"))
    text = rows(*(f"{n},{('ill', 'well')[n % 2]},p" for n in range(6)))
    two = read(root, text)
    assert (two.task, two.labels) == ("binary", ("ill",))
    assert two.table["y_ill"].tolist() == [1, 0] * 3
    assert read(root, text, target="well").table["y_well"].tolist() == [0, 1] * 3
    with pytest.raises(ConfigError, match="target = 'a': label has 3 classes, and the positive one is one of two"):
        read(root, rows(*(f"{n},{'abc'[n % 3]},p" for n in range(6))), target="a")


def test_several_labels_and_rows_to_predict(root):
    text = "id,a,b\n0,1,0\n1,0,\n2,0,0\n3,1,1\n4,,\n5,,\n"
    examples = validate(read(root, text, label="a, b"), 0)
    assert (examples.task, examples.labels) == ("multilabel", ("a", "b"))
    table = examples.table.set_index("id")
    assert table["split"].tolist() == ["test", "test", "train", "train", "train", "train"]
    assert table["y_b"].isna().sum() == 3


def test_a_split_of_its_own(root):
    text = "id,label,set\n0,0,train\n1,1,Train\n2,0,val\n3,1,train\n4,1,test\n5,,test\n"
    table = validate(read(root, text, split="set"), 0).table.set_index("id")
    assert table["split"].value_counts().to_dict() == {"train": 4, "test": 2}
    assert table.loc["4", "y_label"] == 1
    with pytest.raises(DataError, match="line 2: set is 'early', not train, val or test"):
        read(root, text.replace("0,0,train", "0,0,early"), split="set")
    with pytest.raises(DataError, match="line 2: label is '', not a label, although its split is train"):
        read(root, text.replace("0,0,train", "0,,train"), split="set")


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("name,label\n0,1\n", {}, "has no column id; it has label, name"),
        (rows("0,1,p"), {"group": "patient"}, "has no column 'patient'; known: id, label, who; and as a pattern"),
        (rows("0,1,p", "0,0,p"), {}, "id '0' is in lines 2, 3: keep one line for each"),
        (rows("0,1,p", "1,0,"), {"group": "who"}, "line 3: who is '', not a group"),
        (rows("0,0.25,p", "1,0.5,p"), {"label": "label,who"}, "line 2: label is '0.25', not 0, 1 or empty"),
        (rows("0,same,p", "1,same,p"), {}, r"label has 1 distinct values \(same\), not 2 to 100 classes"),
    ],
)
def test_tables_that_do_not_fit(root, text, columns, says):
    with pytest.raises(DataError, match=says):
        read(root, text, **columns)


def test_ids_that_name_no_image(root):
    says = r"labels\.csv: no id of the column id \('x', 'y'\) names an image \('images/0\.png', .*columns\.id="
    with pytest.raises(DataError, match=says):
        read(root, rows("x,1,p", "y,0,p"))


def test_missing_images_are_named(root):
    examples = read(root, rows("0,1,p", "1,0,p", "7,1,p"))
    assert examples.missing == ("7",)
    assert len(examples.surplus) == 4


def test_settings_that_are_missing_or_wrong(root, tmp_path):
    with pytest.raises(
        DataError, match=r"needs a table of labels: give one below it with --set table=FILE\.csv; found images/"
    ):
        csv.read(root, Source())
    with pytest.raises(DataError, match=r"has no other\.csv: give one"):
        csv.read(root, Source(table="other.csv"))
    with pytest.raises(ConfigError, match=r"did you mean 'columns\.label'"):
        load_config("csv", ["columns.labels=a"])
    assert load_config("csv", ["columns.label=a,b"]).columns.label == ("a", "b")


@pytest.mark.slow
def test_a_whole_run_with_unknown_labels_and_nothing_to_predict(write_images, tmp_path, keras, capsys):
    root = write_images(*(f"{n}.png" for n in range(36)))
    text = ["file,a,b,who", *(f"{n}.png,{n % 2},{('', '0', '1')[n % 3]},p{n // 2}" for n in range(36))]
    (root / "labels.csv").write_text("\n".join(text) + "\n")
    chosen = ["table=labels.csv", "columns.id=file", "columns.label=a,b", "columns.group=who", "train.batch_size=4"]
    settings = [argument for setting in [*TINY, *chosen] for argument in ("--set", setting)]
    run = tmp_path / "run"
    assert main(["run", "csv", "--data", str(root), "--run", str(run), *settings]) == 0
    assert f"no test images; out-of-fold predictions: {run / 'oof.parquet'}" in capsys.readouterr().out
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores["labels"]) == {"a", "b"}
    assert scores["rows"] == 36
    assert "test" not in scores
    assert np.isfinite(scores["metrics"]["average"]["micro"]["log_loss"])
    assert np.isfinite(pd.read_csv(run / "fold0" / "history.csv")["loss"]).all()
    assert not (run / "submission.csv").exists()
