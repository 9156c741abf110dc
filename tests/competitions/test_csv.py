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


def test_cases_of_several_images(root):
    text = "id,label,who,side\n" + "".join(f"{n},{n % 2},p{n // 4},{'LR'[n % 4 // 2]}\n" for n in range(6))
    table = validate(read(root, text, case=("who", "side"), group="who"), 0).table.set_index("id")
    assert table["case"].tolist() == ["p0_L", "p0_L", "p0_R", "p0_R", "p1_L", "p1_L"]
    assert table["group"].tolist() == ["p0"] * 4 + ["p1"] * 2
    kept = read(root, text, case=("who", "side"), metadata=("side",)).table.set_index("id")
    assert kept["side"].tolist() == ["L", "L", "R", "R", "L", "L"]
    (note,) = read(root, text, case="who,side").notes
    assert note.startswith("groups: 3 of 2 images each, such as p0_L (2), p0_R (2), p1_L (2), the cases; where a pa")
    alone = validate(read(root, text, case="who,side"), 0).table  # a case is never split, whatever is known of patients
    assert alone["group"].tolist() == alone["case"].tolist()
    with pytest.raises(DataError, match=r"1 case is of several groups \(patients\).* such as L"):
        validate(read(root, text, case="side", group="who"), 0)
    with pytest.raises(DataError, match=r"labels.csv, line 3: side is '', not a part of the name of a case"):
        read(root, text.replace("1,1,p0,L", "1,1,p0,"), case=("who", "side"))
    with pytest.raises(DataError, match="3 cases are of several classes; such as p0_L"):
        validate(read(root, text.replace("4,0", "4,2"), case=("who", "side")), 0)


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
        ("name,label\n0,1\n", {}, "has no column 'id'; it has label, name"),
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


def test_columns_of_metadata(root):
    cells = ["61, f,1", ",m,2", "7.5,,x", "NA,f,4", "50,-1,5", "nan,m,6"]
    text = "id,label,age,sex,site\n" + "".join(f"{n},{n % 2},{each}\n" for n, each in enumerate(cells))
    table = validate(read(root, text, metadata=["age", "sex", "site"], unknown=[-1]), 0).table
    np.testing.assert_array_equal(table["age"], [61, np.nan, 7.5, np.nan, 50, np.nan])
    assert [None if pd.isna(sex) else sex for sex in table["sex"]] == ["f", "m", None, "f", None, "m"]
    assert table["site"].tolist() == ["1", "2", "x", "4", "5", "6"]
    assert "age" not in read(root, text).table.columns
    with pytest.raises(ConfigError, match="'label' is the id, a label, the split or the group"):
        read(root, text, metadata="label")
    with pytest.raises(DataError, match=r"labels\.csv.*weight"):
        read(root, text, metadata="weight")
    with pytest.raises(DataError, match="'fold' cannot be metadata"):
        read(root, text.replace("site", "fold"), metadata="fold")


def test_a_table_as_excel_writes_it(root, caplog):
    caplog.set_level("INFO")
    text = "\ufeffid;label;who;\r\n" + "".join(f"images/{n}.png;{n % 2};p{n // 2};\r\n" for n in range(6)) + ";;;\r\n"
    table = validate(read(root, text, group="who"), 0).table
    assert table["y_label"].tolist() == [0, 1] * 3
    assert table["group"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert caplog.messages == [
        "noticed: labels.csv: columns are separated by semicolons",
        "noticed: labels.csv: 1 row is blank and left out",
    ]


def test_groups_by_column_or_pattern(root, write_images):
    text = rows(*(f"{n},{n % 2},{('p', 'q', '')[n % 3]}" for n in range(6)))
    with pytest.raises(DataError, match=r"line 4: who is '', not a group .*\(2 lines .*columns\.ungrouped=0\.334"):
        read(root, text, group="who")
    examples = read(root, text, group="who", ungrouped=0.334)
    assert examples.table.set_index("id")["group"].to_dict() == {
        "0": "p", "1": "q", "2": "2", "3": "p", "4": "q", "5": "5",
    }  # fmt: skip
    assert examples.notes == (
        "groups: 2 of 2 images each, such as p (2), q (2); 2 more images are groups of their own",
    )
    images = [f"x/P{n // 3}_{n}.png" for n in range(12)]
    patients = write_images(*images)
    text = "id,label\n" + "".join(f"{name},{n % 2}\n" for n, name in enumerate(images))
    hint = read(patients, text).notes[0]
    assert hint.startswith("names look like patients: 4 of 3 images each, such as P0 (3), P1 (3), P2 (3).")
    examples = read(patients, text, group=hint.rpartition("columns.group=")[2].strip("'"))
    assert examples.table["group"].nunique() == 4
    assert read(patients, text, group=r"/(P\d)_").notes == (
        "groups: 4 of 3 images each, such as P0 (3), P1 (3), P2 (3)",
    )
    stems = text.replace("x/", "").replace(".png", "")
    assert read(patients, stems, group=r"/(P\d)_").table["group"].nunique() == 4  # in the paths, if not in the ids
    with pytest.raises(DataError, match="finds the same group, 'x', in all 12 images"):
        read(patients, text, group="x")
    with pytest.raises(
        DataError, match=r"columns\.group = '_\(\[0-3\]\)\\\.' finds no group in 8 of 12 images \(67%\)"
    ):
        read(patients, text, group=r"_([0-3])\.")


def test_labels_of_cells_that_name_several(root):
    text = rows(*(f"{n},{('a|b', 'a', 'No Finding')[n % 3]},p" for n in range(6)))
    with pytest.raises(DataError, match=r"labels\.csv: label seems to name several .*columns\.separator='\|'"):
        read(root, text)
    examples = validate(read(root, text, separator="|"), 0)
    assert (examples.task, examples.labels) == ("multilabel", ("a", "b"))
    assert examples.table["y_b"].tolist() == [1, 0, 0] * 2


def test_all_of_one_class_is_refused(root, capsys):
    (root / "labels.csv").write_text(rows(*(f"{n},0,p" for n in range(6))))
    command = ["csv", "--data", str(root), "--set", "table=labels.csv"]
    assert main(["examples", *command, "--out", str(root / "e.parquet")]) == 2
    says = "all training images have the same value, 0, of label: there is nothing to learn"
    assert says in capsys.readouterr().err
    assert not (root / "e.parquet").exists()
    assert main(["examples", *command, "--check"]) == 0
    assert f"a run would be refused: {says}" in capsys.readouterr().out


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


def test_masks_and_other_files_are_left_out_and_counted(write_images):
    root = write_images(*(f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(4)))
    (root / "notes.pdf").write_bytes(b"%PDF")
    text = "id,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(4))
    examples = validate(read(root, text), 0)
    assert examples.table["path"].tolist() == [f"images/{n}.png" for n in range(4)]
    assert examples.remarks == {
        "masks beside their pictures, left out": 4,
        "file that is no image, left out (1 .pdf)": 1,
    }
    by_path = "id,label\n" + "".join(f"masks/{n}.png,{n % 2}\n" for n in range(4))
    assert read(root, by_path).table["path"].tolist() == [f"masks/{n}.png" for n in range(4)]
