import numpy as np
import pytest

from kit.competitions import toy
from kit.config import DataSettings, ImageSettings
from kit.data.batches import eval_batches, steps_per_epoch, train_batches
from kit.data.build import build_records
from kit.data.examples import validate
from kit.data.images import read_image
from kit.data.steps import prepare
from kit.errors import ConfigError

CELLS = list(range(0, 60, 2))


def epochs(records, count, first=0, batch_size=16, seed=5):
    steps = steps_per_epoch(records, CELLS, batch_size)
    batches = list(train_batches(records, CELLS, batch_size, seed, first).take(count * steps).as_numpy_iterator())
    return [batches[n * steps : (n + 1) * steps] for n in range(count)]


def test_training_batches_have_their_shapes_and_no_image_twice(toy_records):
    (epoch,) = epochs(toy_records, 1)
    assert all(images.shape == (16, 32, 32, 3) and images.dtype == np.uint8 for images, _ in epoch)
    assert all(labels.shape == (16, 1) and labels.dtype == np.float32 for _, labels in epoch)
    images = {image.tobytes() for batch, _ in epoch for image in batch}
    assert len(images) == 16 * len(epoch)


def test_an_epoch_depends_on_seed_and_number_alone(toy_records):
    three = epochs(toy_records, 3)
    (again,) = epochs(toy_records, 1, first=2)
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(three[2], again, strict=True))
    assert not np.array_equal(three[0][0][0], three[1][0][0])
    assert not np.array_equal(three[0][0][0], epochs(toy_records, 1, seed=6)[0][0][0])


def test_training_reads_its_own_cells_only(toy_records):
    mine = {
        batch.images[n].tobytes() for batch in eval_batches(toy_records, CELLS, 8) for n in np.flatnonzero(batch.mask)
    }
    trained = {image.tobytes() for epoch in epochs(toy_records, 4) for images, _ in epoch for image in images}
    assert trained <= mine


@pytest.mark.parametrize("cells", [CELLS, None])
def test_evaluation_gives_every_id_once_in_order(toy_records, cells):
    batches = list(eval_batches(toy_records, cells, 16))
    rows = toy_records.rows(cells)
    assert [name for batch in batches for name in batch.ids] == rows["id"].tolist()
    assert all(batch.images.shape == (16, 32, 32, 3) and batch.mask.sum() == len(batch.ids) for batch in batches)
    labels = np.concatenate([batch.labels for batch in batches])[:, 0]
    assert np.array_equal(labels, rows["y_tumour"], equal_nan=True)
    assert not batches[-1].images[~batches[-1].mask].any()


@pytest.mark.parametrize("encoding", ["raw", "png"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_pixels_come_through_unchanged(toy_root, tmp_path, encoding, color):
    settings = ImageSettings(size=24, encoding=encoding, color=color)
    examples = validate(toy.COMPETITION.read(toy_root), 0)
    records = build_records("toy", examples, toy_root, tmp_path / "r", settings, DataSettings())
    paths = records.table.set_index("id")["path"]
    for batch in eval_batches(records, None, 32):
        for name, image in zip(batch.ids, batch.images, strict=False):
            assert np.array_equal(image, prepare(read_image(toy_root / paths[name]), settings))


def test_a_batch_larger_than_the_fold(toy_records):
    with pytest.raises(ConfigError, match=r"train\.batch_size = 500, but a fold trains on 60 images"):
        steps_per_epoch(toy_records, CELLS, 500)
