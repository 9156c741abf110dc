import numpy as np
import pytest

from kit.competitions import medmnist
from kit.config import Source
from kit.data.table.examples import validate
from kit.errors import DataError


def write(path, labels, shape=(28, 28), counts=(8, 4, 4), **changes):
    """A .npz as MedMNIST's; `labels` gives a part's from its number of rows."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        arrays[f"{part}_labels"] = labels(count)
    kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez_compressed(path, **kept)
    return kept


def classes(count, high=2):
    return (np.arange(count, dtype=np.uint8) % high)[:, None]


def read(root, table=None):
    return validate(medmnist.read(root, Source(table=table)), 0)


def test_two_classes(tmp_path):
    arrays = write(tmp_path / "breastmnist.npz", classes)
    examples = read(tmp_path)
    table = examples.table
    assert (examples.task, examples.labels) == ("binary", ("normal or benign",))
    assert table["part"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 4}
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 4}
    label = table.set_index("path")["y_normal or benign"]
    assert label["breastmnist.npz/val_images/1"] == arrays["val_labels"][1, 0]


def test_many_classes_in_colour_at_64_pixels(tmp_path):
    write(tmp_path / "bloodmnist_64.npz", lambda n: classes(n, 8), shape=(64, 64, 3))
    examples = read(tmp_path)
    assert (examples.task, len(examples.labels), examples.labels[0]) == ("multiclass", 8, "basophil")
    assert examples.table["y_platelet"].sum() == 1


def test_several_labels(tmp_path):
    write(tmp_path / "chestmnist.npz", lambda n: (np.arange(n * 14).reshape(n, 14) % 3 == 0).astype(np.uint8))
    examples = read(tmp_path)
    assert (examples.task, examples.labels[-1]) == ("multilabel", "hernia")


def test_labels_without_a_second_axis(tmp_path):
    write(tmp_path / "mine.npz", lambda n: np.arange(n) % 2)
    examples = read(tmp_path)
    assert (examples.task, examples.labels) == ("binary", ("class_1",))
    assert examples.table.set_index("id")["y_class_1"].to_dict() == {
        f"{part}{n:06d}": n % 2 for part, count in (("train", 8), ("val", 4), ("test", 4)) for n in range(count)
    }


@pytest.mark.parametrize("label", [10**9, 2**63, 101, -1])
def test_absurd_labels_are_refused_before_memory_is_taken(tmp_path, label):
    dtype = np.uint64 if label > 0 else np.int64
    write(tmp_path / "mine.npz", classes, train_labels=np.array([[0], [1]] * 3 + [[0], [label]], dtype))
    with pytest.raises(
        DataError, match=rf"labels are .*{label if label < 0 else ''}.*, not the numbers of at most 100"
    ):
        read(tmp_path)


def test_one_class_only(tmp_path):
    write(tmp_path / "breastmnist.npz", lambda n: np.zeros((n, 1), np.uint8))
    with pytest.raises(DataError, match="all training images have the same value, 0, of normal or benign"):
        read(tmp_path)


def test_a_set_that_nobody_knows(tmp_path):
    write(tmp_path / "mine.npz", lambda n: classes(n, 3).astype(np.int64), counts=(9, 3, 3))
    assert read(tmp_path).labels == ("class_0", "class_1", "class_2")


def test_without_a_test_part(tmp_path):
    write(tmp_path / "x.npz", classes, test_images=None, test_labels=None)
    assert (read(tmp_path).table["split"] == "train").all()


def test_which_file(tmp_path):
    write(tmp_path / "a.npz", classes)
    write(tmp_path / "b.npz", classes)
    with pytest.raises(DataError, match=r"2 \.npz files: choose one of a\.npz, b\.npz with --set table="):
        read(tmp_path)
    assert read(tmp_path, "b.npz").table["path"][0].startswith("b.npz/")
    with pytest.raises(DataError, match=r"has no c\.npz; found a\.npz, b\.npz"):
        read(tmp_path, "c.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"holds no \.npz: expected one of MedMNIST's, such as breastmnist\.npz; found nothing"
    ):
        read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_labels": None}, "is not MedMNIST's: expected train_images and train_labels; it has test_images"),
        ({"train_images": np.zeros((8, 28, 28, 28), np.uint8)}, "not 2-D images in 8 bit"),
        ({"train_images": np.zeros((8, 28, 28), np.float32)}, r"train_images is float32 of shape \(8, 28, 28\)"),
        ({"train_labels": np.zeros((7, 1), np.uint8)}, "not 8 rows of integers"),
        ({"train_labels": np.full((8, 1), 5, np.uint8)}, "labels are 0 to 5 in 1 column; expected 2 classes"),
        ({"train_labels": np.zeros((8, 1))}, "train_labels is float64"),
    ],
)
def test_files_that_are_not_medmnists(tmp_path, changes, says):
    write(tmp_path / "breastmnist.npz", classes, **changes)
    with pytest.raises(DataError, match=says):
        read(tmp_path)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["train_images", "train_labels", "extra"])
def test_pickled_objects_are_never_unpickled(tmp_path, name):
    bomb = np.empty(8, object)
    bomb[:] = [Bomb(tmp_path / "exploded")] * 8
    write(tmp_path / "breastmnist.npz", classes, **{name: bomb})
    with pytest.raises(DataError, match=rf"{name}\.npy holds pickled objects, which are never unpacked"):
        read(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_file_that_is_no_npz(tmp_path):
    (tmp_path / "breastmnist.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"cannot read .*breastmnist\.npz as \.npz"):
        read(tmp_path)
