import pandas as pd
import pytest

from kit.competitions import find_competition, pcam
from kit.config import Source
from kit.data.table.examples import validate
from kit.errors import ConfigError, DataError


def test_reads_the_layout(toy_root):
    examples = validate(pcam.read(toy_root, Source()), 0)
    table = examples.table
    assert table["split"].value_counts().to_dict() == {"train": 120, "test": 30}
    assert (table["group"] == table["id"]).all()
    labels = pd.read_csv(toy_root / "train_labels.csv").set_index("id")["label"]
    train = table[table["split"] == "train"].set_index("id")
    assert (train["y_tumour"] == labels[train.index]).all()
    assert table.loc[table["split"] == "test", "y_tumour"].isna().all()
    assert all(
        (toy_root / path).stat().st_size == size for path, size in zip(table["path"], table["bytes"], strict=True)
    )


def change_labels(root, change):
    table = pd.read_csv(root / "train_labels.csv", dtype=str)
    change(table).to_csv(root / "train_labels.csv", index=False)


def test_missing_and_surplus_images_are_named_and_may_be_allowed(toy_root):
    ids = sorted(path.stem for path in (toy_root / "train").iterdir())
    (toy_root / "train" / f"{ids[0]}.tif").unlink()
    (toy_root / "train" / f"{ids[1]}.tif").rename(toy_root / "train" / "stray.tif")
    examples = pcam.read(toy_root, Source())
    assert examples.missing == (ids[0], ids[1])
    assert examples.surplus == ("train/stray.tif",)
    with pytest.raises(DataError, match=rf"2 expected images have no file: {ids[0]}, {ids[1]}.*max_missing=0.014"):
        validate(examples, 0)
    assert len(validate(examples, 0.014).table) == 148


def test_surplus_alone(toy_root):
    change_labels(toy_root, lambda t: t.iloc[1:])
    with pytest.raises(DataError, match=r"1 image is unlabelled: train/\w+\.tif"):
        validate(pcam.read(toy_root, Source()), 0)


def test_duplicate_ids(toy_root):
    change_labels(toy_root, lambda t: pd.concat([t, t.iloc[:1]]))
    with pytest.raises(DataError, match=r"train_labels\.csv: id '\w+' is in lines 2, 122: keep one line for each"):
        pcam.read(toy_root, Source())


@pytest.mark.parametrize("label", ["2", "", "yes", "-1", "nan", "0.5"])
def test_labels_other_than_0_and_1(toy_root, label):
    change_labels(toy_root, lambda t: t.assign(label=[*t["label"][:3], label, *t["label"][4:]]))
    with pytest.raises(DataError, match=rf"train_labels\.csv, line 5: label is '{label}', not 0 or 1"):
        pcam.read(toy_root, Source())


def test_wrong_folders(toy_root, tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        pcam.read(tmp_path / "nowhere", Source())
    with pytest.raises(
        DataError, match=r"lacks sample_submission\.csv, test, train and 1 more: expected train/\*\.tif.*found raw/"
    ):
        pcam.read(tmp_path, Source())
    for image in (toy_root / "train").iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"train holds no \.tif image"):
        pcam.read(toy_root, Source())


def test_a_table_with_other_columns(toy_root):
    change_labels(toy_root, lambda t: t.rename(columns={"label": "target"}))
    with pytest.raises(DataError, match="has no column 'label'; it has id, target"):
        pcam.read(toy_root, Source())


def test_files_of_the_mac_are_no_images(toy_root):
    (toy_root / "train" / "._x.tif").write_bytes(b"junk")
    assert pcam.read(toy_root, Source()).surplus == ()


def test_unknown_competition():
    with pytest.raises(ConfigError, match="'pcm'; did you mean 'pcam'"):
        find_competition("pcm")
