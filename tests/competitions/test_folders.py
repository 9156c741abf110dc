"""Class folders: any, and the two competitions that come so."""

import pytest

from kit.competitions import breast, folders, pneumonia
from kit.config import Source
from kit.data.table.examples import validate
from kit.errors import ConfigError, DataError

PEOPLE = ("person1_bacteria_1.jpeg", "person1_virus_2.jpeg", "person20_virus_3_1.jpeg")


def test_pneumonia(write_images):
    normal = ("IM-0115-0001.jpeg", "IM-0115-0002.jpeg", "NORMAL2-IM-0115-0001-0002.jpeg")
    root = write_images(
        *(f"chest_xray/train/PNEUMONIA/{name}" for name in PEOPLE),
        *(f"chest_xray/train/NORMAL/{name}" for name in normal),
        "chest_xray/val/PNEUMONIA/person1950_bacteria_4881.jpeg",
        "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg",
        "chest_xray/test/NORMAL/IM-0001-0001.jpeg",
        "__MACOSX/chest_xray/train/NORMAL/x.jpeg",
        "chest_xray/chest_xray/train/NORMAL/IM-0115-0001.jpeg",  # the download has everything twice
    )
    examples = validate(pneumonia.read(root, Source()), 0)
    table = examples.table.set_index("id")
    assert (examples.task, examples.labels) == ("binary", ("pneumonia",))
    assert table["split"].value_counts().to_dict() == {"train": 7, "test": 2}  # val is folded
    assert table.loc["PNEUMONIA/person1950_bacteria_4881.jpeg", "part"] == "val"
    groups = table["group"]
    assert groups["PNEUMONIA/person1_bacteria_1.jpeg"] == groups["PNEUMONIA/person1_virus_2.jpeg"] == "person1"
    assert groups["PNEUMONIA/person20_virus_3_1.jpeg"] == "person20"
    assert groups["NORMAL/IM-0115-0001.jpeg"] == groups["NORMAL/IM-0115-0002.jpeg"] == "IM-0115"
    assert groups["NORMAL/NORMAL2-IM-0115-0001-0002.jpeg"] == "NORMAL2-IM-0115"
    assert table["y_pneumonia"].to_dict()["NORMAL/IM-0001-0001.jpeg"] == 0  # the official test has labels
    assert table["y_pneumonia"].sum() == 5
    assert examples.remarks == {"images outside the split folders, left out (chest_xray/)": 1}
    assert table.loc["NORMAL/IM-0001-0001.jpeg", "path"] == "chest_xray/test/NORMAL/IM-0001-0001.jpeg"


def test_the_same_name_in_two_splits_keeps_both(write_images):
    root = write_images("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/2.png")
    table = validate(folders.read(root, Source(target="b")), 0).table
    assert sorted(table["id"]) == ["b/1.png", "b/2.png", "test/a/1.png", "train/a/1.png"]


def test_breast(write_images):
    splits = ("train", "val", "test")
    names = [f"dataset/{split}/{label}/{label} ({split}).png" for split in splits for label in breast.LABELS]
    examples = validate(breast.read(write_images(*names), Source()), 0)
    assert (examples.task, examples.labels) == ("multiclass", ("normal", "benign", "cancer"))
    table = examples.table.set_index("id")
    assert table.loc["cancer/cancer (test).png", ["y_normal", "y_benign", "y_cancer"]].tolist() == [0, 0, 1]
    assert table["split"].value_counts().to_dict() == {"train": 6, "test": 3}


def test_classes_outside_the_known_set(write_images):
    root = write_images("train/normal/1.png", "train/benign/1.png", "train/malignant/1.png")
    with pytest.raises(DataError, match=r"unknown class folders: malignant; expected normal, benign, cancer"):
        breast.read(root, Source())
    with pytest.raises(DataError, match=r"has no chest_xray/.*expected chest_xray/train\|val\|test.*found train/"):
        pneumonia.read(root, Source())
    root = write_images("dataset2/a/1.png", root=root.parent / "other")
    with pytest.raises(DataError, match=r"has no train/: expected train\|val\|test/normal\|benign\|cancer"):
        breast.read(root, Source())


def test_folders_of_your_own(write_images):
    root = write_images("mine/ill/p1_a.png", "mine/ill/p1_b.png", "mine/well/p2_a.png", "mine/well/p3/a.png")
    examples = validate(folders.read(root, Source()), 0)
    assert (examples.task, examples.labels) == ("binary", ("ill",))
    assert (examples.table["split"] == "train").all()
    assert (examples.table["group"] == examples.table["id"]).all()
    chosen = folders.read(root, Source(target="well", columns={"group": r"p\d+"}))
    assert chosen.labels == ("well",)
    assert chosen.table.set_index("id")["group"].to_dict() == {
        "ill/p1_a.png": "p1",
        "ill/p1_b.png": "p1",
        "well/p2_a.png": "p2",
        "well/p3/a.png": "p3",
    }


def test_a_test_folder_without_classes_is_predicted(write_images):
    root = write_images("Train/a/1.png", "Train/b/2.png", "Train/c/3.png", "Test/x.png", "Train/stray.png")
    examples = folders.read(root, Source())
    assert examples.labels == ("a", "b", "c")
    table = examples.table.set_index("id")
    assert table.loc["x.png", "split"] == "test"
    assert table.loc["x.png", ["y_a", "y_b", "y_c"]].isna().all()
    assert examples.surplus == ("Train/stray.png",)


def test_what_is_no_folder_of_classes(write_images, tmp_path):
    root = write_images("one/1.png")
    with pytest.raises(DataError, match="has only the class one: expected two or more classes"):
        folders.read(root, Source())
    with pytest.raises(DataError, match="no such data folder"):
        folders.read(tmp_path / "nowhere", Source())
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no image: expected train/CLASS/\*.*found a/"):
        folders.read(tmp_path / "empty", Source())
    root = write_images("train/a/1.png", "train/b/1.png", root=tmp_path / "two")
    with pytest.raises(ConfigError, match="target = 'c' is not one of the classes"):
        folders.read(root, Source(target="c"))
    with pytest.raises(ConfigError, match="not a regular expression"):
        folders.read(root, Source(target="a", columns={"group": "("}))
