from pathlib import Path

import pandas as pd
import pytest

from kit.config import ColumnSettings, load_config
from kit.data.table.labels import positive_class, read_labels
from kit.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("nein", "ja"),
        ("no", "yes"),
        ("non", "oui"),
        ("0", "1"),
        ("n", "y"),
        ("FALSE", "TRUE"),
        ("benign", "malignant"),
        ("NORMAL", "PNEUMONIA"),
        ("gesund", "krank"),
        ("Normal", "Abnormal"),
        ("non-COVID", "COVID"),
        ("Not sick", "Sick"),
        ("no tumor", "tumor"),
        ("without_mask", "with_mask"),
        ("No Finding", "Edema"),
        ("healthy", "glaucoma"),
        ("nevus", "melanoma"),
        ("Uninfected", "Parasitized"),
        ("tumor_negative", "tumor_positive"),
        ("control", "brca"),
    ],
)
def test_the_positive_one_of_two_classes_by_its_name(negative, positive):
    assert positive_class([negative, positive], None) == positive
    assert positive_class([positive, negative], None) == positive
    assert positive_class([positive, negative], negative) == negative


@pytest.mark.parametrize("classes", [("cat", "dog"), ("f", "m"), ("1", "2"), ("benign", "normal"), ("left", "right")])
def test_names_that_leave_the_positive_class_open(classes):
    says = f"which of the classes '{classes[0]}' and '{classes[1]}' is the positive one, .*--set target={classes[0]} or"
    with pytest.raises(ConfigError, match=says):
        positive_class(classes, None)
    with pytest.raises(ConfigError, match="target = 'x' is not one of the classes"):
        positive_class(classes, "x")


def read(*cells, target=None, **columns):
    """The labels of a column `x` with these cells; several columns, named a, b, …, if the cells are tuples."""
    several = isinstance(cells[0], tuple)
    names = tuple("abcdef"[: len(cells[0])]) if several else ("x",)
    raw = pd.DataFrame(list(cells), pd.RangeIndex(2, len(cells) + 2), list(names), dtype=str)
    return read_labels(Path("t.csv"), raw, ColumnSettings(label=names, **columns), target)


def values(labels):
    """The labels with their values, ? for unknown ones."""
    return {name: "".join("?" if v != v else f"{v:g}" for v in labels.y[name]) for name in labels.y}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0", "1", ""], "01?"),
        (["0.0", "1.0", " 1", "1.", "0 "], "01110"),
        (["TRUE", "False", "true"], "101"),
        (["0", "1", "NaN", "nan", "NA", "N/A", "na", "null", "None", "<NA>", "NULL", " "], "01??????????"),
    ],
)
def test_cells_that_mean_0_1_and_unknown(cells, expected):
    labels = read(*cells)
    assert (labels.task, values(labels), labels.remarks) == ("binary", {"y_x": expected}, {})


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["1.0", "0.0", "-1.0", "-1.0"], r"t.csv, line 4: x is '-1.0', not 0, 1 or empty \(2 lines are like this\): "),
        (["1.0", "0.0", "-1.0"], r"--set columns.unknown=-1.0 if it means unknown"),
        (["1", "0", "unknown"], "line 4: x is 'unknown', not 0, 1 or empty, as most lines are: .*unknown=unknown if"),
        (["1", "0", "not sure"], "--set columns.unknown='not sure' if"),
        (["1", "0", "0.25"], "line 4: x is '0.25', not 0, 1 or empty: .*--set columns.soft=true"),
        (["0.1", "0.9", "0.5"], "line 2: x is '0.1', .*--set columns.soft=true"),
        (["0", "1", "9", "1"], "line 4: x is '9', not one of the classes 0, 1"),
        (["0", "1", "1000000000", "1"], "line 4: x is '1000000000', not one of the classes"),
        (["0", "1", "2", "3", "99"], "line 6: x is '99', not one of the classes 0, 1, 2, 3"),
        (["0", "1", "2", "3", "bad"], "line 6: x is 'bad', not a number, as most lines are"),
        (["41.2", "38.5", "40"], "line 2: x is '41.2', not the number of a class.*not measurements"),
        (["nan", "", "NA"], "t.csv: x is empty, or unknown, in all lines"),
        (["same", "same "], r"x has 1 distinct values \(same\), not 2 to 100 classes"),
        ([f"s{n}" for n in range(101)], "x has 101 distinct values"),
        (["john", "mary", "sue"], r"t.csv: x is different in every line \(john, mary, sue\), so it names no classes"),
        (
            ["a|b", "a", "b"],
            r"several classes in a cell, such as 'a\|b': --set columns.separator='\|' makes",
        ),
        (["a;b", "b;c", "a;c"], "columns.separator=';'"),
        (["['edema', 'mass']", "['edema']", "['mass']"], "columns.separator=','"),
        ([("0", "1"), ("1", "2")], "line 3: b is '2', not 0, 1 or empty"),
        ([("0", "1"), ("1", ".5")], "line 3: b is '.5', not 0, 1 or empty: labels that are probabilities need"),
    ],
)
def test_strays_are_named_with_their_line_and_what_would_read_them(cells, says):
    with pytest.raises(DataError, match=says):
        read(*cells)


def test_further_texts_can_mean_unknown():
    assert values(read("1.0", "0.0", "-1.0", "?", unknown=["-1", "?"])) == {"y_x": "10??"}
    assert values(read(("1", "Maybe"), ("0", "1"), unknown=["maybe"])) == {"y_a": "10", "y_b": "?1"}
    labels = read("ill", "well", "unclear", unknown=["unclear"])
    assert (
        labels.task,
        values(labels),
        labels.remarks["classes have a single image, which cannot be both learnt and validated: ill, well"],
    ) == ("binary", {"y_ill": "10?"}, 2)


def test_probabilities_as_labels():
    labels = read("0", "0.25", "1,0", "", ".5", soft=True)
    assert labels.task == "binary"
    assert labels.y["y_x"].dropna().tolist() == [0, 0.25, 1, 0.5]
    assert values(read(("0.5", "1"), ("nan", "0.25"), soft=True)) == {"y_a": "0.5?", "y_b": "10.25"}
    with pytest.raises(DataError, match="line 3: x is '85', not a probability, 0 to 1, or empty"):
        read("0.5", "85", soft=True)


def test_spellings_of_a_class_are_one():
    labels = read("benign", "malignant", "benign ", "Benign", "Malignant", "malignant")
    assert (labels.task, values(labels)) == ("binary", {"y_malignant": "010011"})
    assert labels.remarks == {
        "spellings of 'benign' are taken as one class": 3,
        "spellings of 'malignant' are taken as one class": 2,
    }
    labels = read("m\u00fcde", "mu\u0308de", "wach  jetzt", "wach jetzt", "a", "a")
    assert list(labels.y) == ["y_a", "y_m\u00fcde", "y_wach  jetzt"]


def test_classes_by_number_keep_their_order():
    labels = read(*map(str, [*range(11), *range(11)]))
    assert (labels.task, list(labels.y)) == ("multiclass", [f"y_{n}" for n in range(11)])
    assert list(read("1.0", "2.0", "3", "2", "1", "3.0").y) == ["y_1", "y_2", "y_3"]
    with pytest.raises(ConfigError, match="which of the classes '1' and '2' is the positive one"):
        read("1", "2", "2", "1")


def test_vague_classes_are_said():
    remarks = read("a", "b", "None", "None", "b", "a").remarks
    assert remarks == {"lines are of the class 'None': --set columns.unknown=None if it is none": 2}


def test_several_names_in_a_cell():
    labels = read("Edema|Effusion", "Effusion", "No Finding", "edema", "", "NA", separator="|")
    assert labels.task == "multilabel"
    assert values(labels) == {"y_Edema": "1001??", "y_Effusion": "1100??"}
    assert labels.remarks == {
        "spellings of 'Edema' are taken as one class": 2,
        "lines with No Finding have none of the labels": 1,
    }
    assert values(read("['edema', 'mass']", "['mass']", "[]", separator=",")) == {"y_edema": "10?", "y_mass": "11?"}
    assert values(read("a, b", "b", separator=", ")) == {"y_a": "10", "y_b": "11"}
    assert list(read("normal;scar", "mass", separator=";").y) == ["y_mass", "y_normal", "y_scar"]
    assert list(read("a|b", "a", "b", "a|b", separator="none").y) == ["y_a", "y_a|b", "y_b"]
    with pytest.raises(DataError, match=r"no cell of x has the separator ';'"):
        read("a|b", "a", separator=";")
    with pytest.raises(ConfigError, match=r"columns\.separator reads one column of names"):
        read(("a", "b"), separator="|")


def test_names_with_a_separator_in_them_are_classes():
    cells = ["No Lung Opacity / Not Normal", "Normal", "Lung Opacity"]
    assert list(read(*cells, *cells).y) == [f"y_{name}" for name in sorted(cells)]
    assert list(read("Grade I/II", "Grade III/IV", "other", "other").y) == ["y_Grade I/II", "y_Grade III/IV", "y_other"]


def test_columns_of_yes_and_no():
    assert values(read(("yes", "negativ"), ("No", "positiv"), ("1", ""))) == {"y_a": "101", "y_b": "01?"}


def test_the_one_of_0_and_1_is_the_positive_one():
    for target in ("1", "true", "x"):
        assert values(read("0", "1", target=target)) == {"y_x": "01"}
    for target in ("0", "y"):
        with pytest.raises(ConfigError, match=f"target = '{target}': a positive class can only be chosen of two named"):
            read("0", "1", target=target)


def test_a_column_twice():
    with pytest.raises(ConfigError, match=r"columns\.label names a column twice: a, a"):
        read_labels(Path("t.csv"), pd.DataFrame({"a": ["0", "1"]}), ColumnSettings(label=("a", "a")), None)
    with pytest.raises(ConfigError, match=r"columns\.label = \[\]: "):
        load_config("csv", ["columns.label=[]"])


def test_a_positive_class_is_only_chosen_of_two():
    with pytest.raises(ConfigError, match="target = 'a'"):
        read(*"abcabc", target="a")


def test_columns_of_which_one_is_1_in_every_line_are_remarked_on():
    raw = pd.DataFrame({"a": ["1", "0", ""], "b": ["0", "1", ""], "c": ["0", "0", ""]}, [2, 3, 4])
    columns = ColumnSettings(label=["a", "b", "c"])
    (remark,) = read_labels(Path("t.csv"), raw, columns, None).remarks.items()
    assert remark == (
        "lines have exactly one of the labels, as classes do: a column that names it would make them classes",
        2,
    )
    assert not read_labels(Path("t.csv"), raw.assign(c=["0", "1", ""]), columns, None).remarks
