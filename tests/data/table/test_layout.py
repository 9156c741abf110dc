"""Splits, classes and sites, seen from the names of folders."""

import pytest

from kit.data.table.layout import class_depth, find_layout, refuse_masks_among_classes, refuse_patients, splits_of
from kit.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "TRAIN", "training_set", "Train_data", "train-images", "trainset")),
        *(
            (name, "train")
            for name in ("stage_2_train_images", "TrainingData", "train2017", "Validation", "dev", "valid")
        ),
        *((name, "train") for name in ("fold0", "Fold_3", "fold-12")),
        *(
            (name, "test")
            for name in ("test", "Testing", "test_set", "Test Images", "holdout", "testset", "evaluation")
        ),
        *(
            (name, None)
            for name in ("normal", "strain", "contest", "data", "images", "training wheels", "positive_test")
        ),
        *((name, None) for name in ("restrained", "folding", "1", "肺炎")),
    ],
)
def test_splits_by_name(name, split):
    assert splits_of([name]).get(name) == split


def test_names_that_are_splits_together():
    assert splits_of(["chest_train", "chest_test"]) == {"chest_train": "train", "chest_test": "test"}
    assert splits_of(["rapid_test", "pcr_test"]) == {}
    assert splits_of(["chest_train", "normal"]) == {}


@pytest.fixture
def folders(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).mkdir(parents=True)
        return tmp_path

    return make


def test_the_shallowest_folder_with_splits(folders):
    root = folders("x/chest/train/a", "x/chest/chest/train/a", "x/chest/test/a", "x/__MACOSX/train")
    layout = find_layout(root)
    assert (layout.top, layout.splits, layout.split_at) == (root / "x/chest", {"train": "train", "test": "test"}, 0)


def test_splits_below_classes(folders):
    root = folders("d/normal/train", "d/normal/test", "d/ill/train", "d/ill/test")
    layout = find_layout(root)
    assert (layout.top, layout.split_at, layout.class_at) == (root / "d", 1, 0)


def test_several_data_sets(folders):
    root = folders("a/train/x", "b/train/x")
    with pytest.raises(DataError, match=r"2 folders have splits of their own \(a/, b/\): give one of them with --data"):
        find_layout(root)


def paths(tops, below):
    return [(top, name) for top in tops for name in below]


@pytest.mark.parametrize(
    ("folders", "depth"),
    [
        (paths(["A", "B"], ["normal", "pneumonia"]), 1),
        (paths(["MGH", "BIDMC"], ["benign", "malignant"]), 1),
        (paths(["hospital_1", "hospital_2"], ["grade1", "grade2"]), 1),
        (paths(["8860", "8861", "8862"], ["0", "1"]), 1),
        (paths(["images"], ["a", "b"]), 1),
        ([*paths(["images"], ["a", "b"]), *paths(["masks"], ["a", "b"])], 1),
        (paths(["benign", "malignant"], ["1", "2", "3"]), 0),
        (paths(["benign", "malignant"], ["left", "right"]), 0),
        (paths(["edema", "effusion"], ["patient1", "patient2"]), 0),
        (paths(["COVID", "Normal"], ["images", "masks"]), 0),
        ([("benign", "p1"), ("benign", "p2"), ("malignant", "p3")], 0),
        ([("a",), ("b",), ("a", "x"), ("b", "x")], 0),
        ([("a",), ("b",)], 0),
        ([()], 0),
    ],
)
def test_where_the_classes_are(folders, depth, tmp_path):
    assert class_depth(folders, None, tmp_path) == depth


def test_two_levels_that_both_may_be_classes(tmp_path):
    levels = paths(["cat", "dog"], ["left", "right"])
    with pytest.raises(
        ConfigError, match=r"left, right are in each of cat, dog: .*columns.class_folder=1 for cat, dog"
    ):
        class_depth(levels, None, tmp_path)
    assert class_depth(levels, 2, tmp_path) == 1


def test_what_is_no_class(tmp_path):
    with pytest.raises(DataError, match="images and masks are pictures and their masks, not classes"):
        refuse_masks_among_classes(["images", "masks"], tmp_path)
    refuse_masks_among_classes(["mask", "no_mask"], tmp_path)
    with pytest.raises(DataError, match="P001, P002, P003 look like patients, not classes"):
        refuse_patients(["P001", "P002", "P003"], tmp_path)
    refuse_patients(["0", "1", "2", "p53"], tmp_path)
