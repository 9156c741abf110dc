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


def sizes(examples):
    """Number of images of each class."""
    return {label: int(examples.table[f"y_{label}"].sum()) for label in examples.labels}


def test_masks_are_no_training_images(write_images):
    busi = [
        f"BUSI/{label}/{label} ({n}){mask}.png" for label in "abc" for n in (1, 2) for mask in ("", "_mask", "_mask_1")
    ]
    examples = folders.read(write_images(*busi), Source())
    assert sizes(examples) == {"a": 2, "b": 2, "c": 2}
    assert examples.remarks == {"masks, left out (BUSI/a/a (1)_mask.png and 11 more)": 12}
    radiography = [f"{label}/{kind}/{label}-1.png" for label in "abc" for kind in ("images", "masks")]
    assert sizes(folders.read(write_images(*radiography, root=_beside(write_images, "r")), Source())) == dict.fromkeys(
        "abc", 1
    )
    root = write_images("images/1.png", "masks/1.png", root=_beside(write_images, "pairs"))
    with pytest.raises(DataError, match="images and masks are pictures and their masks, not classes"):
        folders.read(root, Source())


def _beside(write_images, name):
    """Another folder of the test."""
    return write_images().parent / name


@pytest.mark.parametrize("names", [("training_set", "test_set"), ("Train_data", "Test_data"), ("TRAIN", "holdout")])
def test_splits_of_other_names(write_images, names):
    root = write_images(*(f"{split}/{label}/1.png" for split in names for label in ("normal", "ill")))
    table = folders.read(root, Source()).table
    assert table.groupby("part")["split"].unique().map(list).to_dict() == {names[0]: ["train"], names[1]: ["test"]}
    assert sorted(table["id"]) == sorted(f"{split}/{label}/1.png" for split in names for label in ("normal", "ill"))


def test_splits_below_the_classes(write_images):
    root = write_images(*(f"{label}/{split}/{split}.png" for split in ("train", "test") for label in ("normal", "ill")))
    table = folders.read(root, Source()).table.set_index("id")
    assert table["split"].to_dict() == {
        f"{label}/{split}.png": split for split in ("train", "test") for label in ("normal", "ill")
    }
    assert table.loc["ill/test.png", "y_ill"] == 1


def test_splits_are_no_classes(write_images):
    root = write_images("test/1.png", "normal/1.png", "ill/1.png")
    with pytest.raises(
        DataError, match=r"named like splits \(test\) beside others \(ill, normal\), but no training split"
    ):
        folders.read(root, Source())
    root = write_images("train/a/1.png", "train/b/1.png", "a/1.png", root=_beside(write_images, "both"))
    with pytest.raises(DataError, match=r"folders of the classes a are both in and beside the splits \(train\)"):
        folders.read(root, Source())


def test_sites_are_no_classes(write_images):
    root = write_images(*(f"{site}/{label}/1.png" for site in ("A", "B") for label in ("normal", "ill")))
    examples = validate(folders.read(root, Source()), 0)
    assert (examples.labels, sizes(examples)) == (("ill",), {"ill": 2})
    assert examples.table.set_index("id")["folder"].to_dict() == {
        f"{site}/{label}/1.png": site for site in ("A", "B") for label in ("normal", "ill")
    }
    assert "--set columns.group='^[^/]+'" in examples.notes[0]
    by_site = folders.read(root, Source(columns={"group": "^[^/]+"}))
    assert sorted(by_site.table["group"]) == ["A", "A", "B", "B"]
    tops = folders.read(root, Source(target="A", columns={"class_folder": 1}))
    assert tops.labels == ("A",)


def test_patients_below_the_class_are_a_hint(write_images):
    root = write_images(
        *(f"{label}/patient{n}/{i}.png" for label in ("normal", "ill") for n in range(4) for i in range(2))
    )
    examples = folders.read(root, Source())
    assert "look like patients" in examples.notes[0]
    grouped = folders.read(root, Source(columns={"group": r"patient(\d+)"}))
    assert set(grouped.table["group"]) == set("0123")
    assert grouped.notes[0].startswith("groups: 4 of 4 images each, such as 0 (4), 1 (4), 2 (4)")
    root = write_images(*(f"P{n}/{i}.png" for n in range(4) for i in range(2)), root=_beside(write_images, "patients"))
    with pytest.raises(DataError, match="P0, P1, P2 and 1 more look like patients, not classes"):
        folders.read(root, Source())


def test_what_is_left_out_is_said(write_images):
    root = write_images("normal/1.png", "ill/1.png")
    (root / "scans").mkdir()
    (root / "scans" / "1.nii").write_bytes(b"x")
    assert folders.read(root, Source()).remarks == {
        "file that is no image, left out (1 .nii)": 1,
        "folder of a class without any image (scans/)": 1,
    }
    root = write_images(root=_beside(write_images, "packed"))
    root.mkdir()
    (root / "train.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"holds no image.*1 file that is no image, left out \(1 \.zip\)\. Unpack"):
        folders.read(root, Source())


def test_spellings_of_a_class_are_one(write_images):
    root = write_images(
        "train/Normal/1.png", "train/Normal/2.png", "train/normal /3.png", "train/ill/1.png", "test/ILL/2.png"
    )
    examples = folders.read(root, Source())
    assert sizes(examples) == {"ill": 2}
    assert [count for remark, count in examples.remarks.items() if "spellings" in remark] == [2, 2]


def test_class_names_are_text(write_images):
    root = write_images("0/1.png", "1/1.png")
    assert folders.read(root, Source()).labels == ("1",)
    assert folders.read(root, Source(target="0")).labels == ("0",)


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("A", "B"), ("grade1", "grade2"), ("type_9", "type_10")])
def test_names_that_say_nothing_but_their_order(write_images, first, second):
    root = write_images(f"{first}/1.png", f"{second}/1.png")
    examples = folders.read(root, Source())
    assert examples.labels == (second,)
    assert examples.notes[0].endswith(f"{second} is taken. For the other: --set target={first}")
    assert folders.read(root, Source(target=first)).notes == ()


@pytest.mark.parametrize(("first", "second"), [("left", "right"), ("f", "m"), ("1", "2"), ("a1", "b2"), ("a", "c")])
def test_names_that_leave_the_positive_class_open(write_images, first, second):
    root = write_images(f"{first}/1.png", f"{second}/1.png", f"{second}/2.png")
    with pytest.raises(
        ConfigError, match=rf"which of the classes '{first}' and '{second}'.*\(there are 1 and 2 images\)"
    ):
        folders.read(root, Source())
