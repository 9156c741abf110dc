import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest

from kit.config import ImageSettings, InputSettings
from kit.data.pixels.images import read_image
from kit.data.pixels.steps import prepare
from kit.data.records import batches as batches_module
from kit.data.records import tfrecord
from kit.data.records.batches import (
    Host,
    balanced_weights,
    batch_ids,
    cache_bytes,
    eval_batches,
    naming_damage,
    shuffle_buffer,
    steps_per_epoch,
    train_batches,
)
from kit.errors import ConfigError, DataError
from kit.runtime.devices import import_tensorflow
from tests.data.conftest import build

CELLS = list(range(0, 60, 2))


@pytest.fixture(params=["tensorflow", "threads"], autouse=True)
def reader(request, monkeypatch):
    """Each test reads with TensorFlow and without."""
    monkeypatch.setattr(batches_module, "has_tensorflow", lambda: request.param == "tensorflow")
    return request.param


def epochs(records, count, first=0, batch_size=16, seed=5, **more):
    steps = steps_per_epoch(records, CELLS, batch_size)
    batches = arrays(train_batches(records, CELLS, batch_size, seed, first, **more), count * steps)
    return [batches[n * steps : (n + 1) * steps] for n in range(count)]


def arrays(batches, count):
    return [(np.asarray(batch["image"]), np.asarray(batch["label"])) for (batch,) in islice(batches, count)]


def as_bytes(epoch):
    return [
        image.tobytes() + label.tobytes()
        for images, labels in epoch
        for image, label in zip(images, labels, strict=True)
    ]


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
    assert not batches[-1].images[~batches[-1].mask].any()


@pytest.mark.parametrize("encoding", ["raw", "png"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_pixels_come_through_unchanged(toy_root, tmp_path, encoding, color):
    settings = ImageSettings(size=24, encoding=encoding, color=color)
    records = build(toy_root, tmp_path / "r", settings)
    paths = records.table.set_index("id")["path"]
    for batch in eval_batches(records, None, 32):
        for name, image in zip(batch.ids, batch.images, strict=False):
            assert np.array_equal(image, prepare(read_image(toy_root / paths[name]), settings))


def test_a_batch_larger_than_the_fold(toy_records):
    with pytest.raises(ConfigError, match=r"train\.batch_size = 500, but a fold trains on 60 images"):
        steps_per_epoch(toy_records, CELLS, 500)


def test_a_small_buffer_shuffles_shards_too_and_shows_every_example_once(toy_records):
    whole, small, other = (as_bytes(epochs(toy_records, 1, batch_size=10, buffer=n)[0]) for n in (None, 4, 5))
    assert len({tuple(whole), tuple(small), tuple(other)}) == 3
    assert sorted(whole) == sorted(small) == sorted(other)
    in_order = [batch.images[n].tobytes() for batch in eval_batches(toy_records, CELLS, 10) for n in range(10)]
    place = [in_order.index(example[: len(in_order[0])]) for example in small]
    assert abs(np.diff(place)).mean() > 10  # neighbours in the files (two to a shard) are far apart in the epoch


def test_the_buffer_is_a_share_of_the_free_memory(toy_records):
    encoded = sum(shard.bytes for shard in toy_records.shards if shard.cell in CELLS)
    assert shuffle_buffer(toy_records, CELLS, free=2**40) == 60
    assert shuffle_buffer(toy_records, CELLS, free=2 * encoded) == 30
    assert shuffle_buffer(toy_records, CELLS, free=0) == 1


@pytest.mark.parametrize("cache", ["encoded", "decoded"])
@pytest.mark.parametrize("balance", ["none", "classes"])
def test_cached_epochs_are_whole_and_repeatable(toy_records, cache, balance):
    options = InputSettings(cache=cache, balance=balance)
    cached = epochs(toy_records, 3, batch_size=10, options=options)
    if balance == "none":
        (plain,) = epochs(toy_records, 1, batch_size=10)
        assert [sorted(as_bytes(epoch)) for epoch in cached] == [sorted(as_bytes(plain))] * 3
    assert as_bytes(cached[0]) != as_bytes(cached[1])
    (again,) = epochs(toy_records, 1, first=2, batch_size=10, options=options)
    assert as_bytes(again) == as_bytes(cached[2])


def test_cached_images_are_read_once(toy_records, tmp_path):
    copy = replace(toy_records, directory=tmp_path / "copy")
    shutil.copytree(toy_records.directory, copy.directory)
    steps = steps_per_epoch(copy, CELLS, 10)
    batches = iter(train_batches(copy, CELLS, 10, 0, options=InputSettings(cache="encoded")))
    for _ in range(steps + 1):
        next(batches)
    shutil.rmtree(copy.directory)
    assert all(len(next(batches)[0]["image"]) == 10 for _ in range(3 * steps))


def test_a_cache_that_does_not_fit_is_refused_with_what_would(toy_records):
    assert cache_bytes(toy_records, CELLS, "decoded", free=2**20) == 60 * 32 * 32 * 3
    assert cache_bytes(toy_records, CELLS, "none", free=0) == 0
    with pytest.raises(ConfigError, match=r"input\.cache = decoded takes 0\.00 GiB .* set it to none"):
        cache_bytes(toy_records, CELLS, "decoded", free=1000)


def test_hosts_share_the_batches_of_one(toy_records):
    one = epochs(toy_records, 2, batch_size=12)
    parts = [epochs(toy_records, 2, batch_size=12, host=Host(n, 3)) for n in range(3)]
    for e in range(2):
        for step in range(len(one[e])):
            shared = [part[e][step] for part in parts]
            assert all(images.shape[0] == 4 for images, _ in shared)
            assert sorted(as_bytes(shared)) == sorted(as_bytes([one[e][step]]))
    with pytest.raises(ConfigError, match="cannot be split over 5 hosts"):
        train_batches(toy_records, CELLS, 12, 0, host=Host(0, 5))


def test_the_parts_of_batches_are_the_same_images_in_the_same_order(toy_records):
    steps = steps_per_epoch(toy_records, CELLS, 12)
    parts = arrays(train_batches(toy_records, CELLS, 12, 5, 0, parts=3), 2 * 3 * steps)
    assert {images.shape[0] for images, _ in parts} == {4}
    for e, epoch in enumerate(epochs(toy_records, 2, batch_size=12)):
        assert as_bytes(parts[e * 3 * steps : (e + 1) * 3 * steps]) == as_bytes(epoch)
    with pytest.raises(ConfigError, match="into 5 parts"):
        train_batches(toy_records, CELLS, 12, 0, parts=5)


@pytest.mark.parametrize(("hosts", "batch_size"), [(1, 7), (2, 8), (3, 19), (4, 60), (7, 3), (7, 4), (7, 8), (59, 1)])
def test_every_id_is_evaluated_on_one_host_in_equally_many_batches(toy_records, hosts, batch_size):
    seen = [list(eval_batches(toy_records, CELLS, batch_size, Host(n, hosts))) for n in range(hosts)]
    ids = [name for batches in seen for batch in batches for name in batch.ids]
    assert sorted(ids) == sorted(toy_records.rows(CELLS)["id"])
    assert len({len(batches) for batches in seen}) == 1
    for batch in (batch for batches in seen for batch in batches):
        assert batch.images.shape == (batch_size, 32, 32, 3)
        assert batch.mask.sum() == len(batch.ids)


# --- balanced sampling ---


def test_balanced_weights_by_hand():
    binary = pd.DataFrame({"y_a": [1.0, 0, 0, 0]})
    assert balanced_weights(binary).tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    several = pd.DataFrame({"y_a": [1.0, 1, 0, np.nan], "y_b": [1.0, 0, 0, 0], "y_never": [0.0, 0, 0, 0]})
    # classes a (rows 0, 1), b (row 0), none (rows 2, 3), each a third of the draws
    assert balanced_weights(several).tolist() == pytest.approx([4 * (1 / 2 + 1) / 3, *[4 * 1 / 2 / 3] * 3])


def test_classes_come_up_equally_often(toy_records):
    rows = toy_records.rows(CELLS)
    share = rows["y_tumour"].mean()
    assert abs(share - 0.5) > 0.03
    many = epochs(toy_records, 20, batch_size=20, options=InputSettings(balance="classes"))
    labels = np.concatenate([labels for epoch in many for _, labels in epoch])
    assert abs(labels.mean() - 0.5) < 0.01
    assert len(many[0]) == 3
    (again,) = epochs(toy_records, 1, first=7, batch_size=20, options=InputSettings(balance="classes"))
    assert as_bytes(again) == as_bytes(many[7])
    # labels stay with their images
    label_of = dict(zip(epoch_images(toy_records), rows["y_tumour"], strict=True))
    assert all(label_of[i.tobytes()] == y[0] for images, labels in many[0] for i, y in zip(images, labels, strict=True))


def epoch_images(records):
    return [b.images[n].tobytes() for b in eval_batches(records, CELLS, 16) for n in np.flatnonzero(b.mask)]


# --- damage ---


@pytest.fixture
def damaged(toy_root, tmp_path):
    """A function: what to do to the bytes of one training shard -> the records, opened before, and the shard's name."""
    records = build(toy_root, tmp_path / "r")
    shard = records.directory / next(s.file for s in records.shards if s.cell == CELLS[7])

    def damage(change):
        data = shard.read_bytes()
        shard.write_bytes(change(data, list(tfrecord.read_records(shard))))
        return records, shard.name

    return damage


DAMAGES = {
    "flipped": (lambda data, _: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:], r"record 0 \(bytes 0 to \d+\)"),
    "truncated": (lambda data, _: data[:-100], r"record 1 \(bytes \d+ to \d+\) is damaged"),
    "cut between records": (lambda _, records: tfrecord.framed(records[0]), r"holds 1 examples, examples.parquet 2"),
    "longer": (lambda data, records: data + tfrecord.framed(records[0]), r"record 2: not any example"),
    "no image": (
        lambda _, records: b"".join(
            tfrecord.framed(tfrecord.serialise({**tfrecord.parse(record), "image": [b"nonsense"]}))
            for record in records
        ),
        r"SHA-256 differs",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_shard_is_named_and_makes_no_shorter_epoch(damaged, name):
    change, message = DAMAGES[name]
    records, shard = damaged(change)
    with pytest.raises(DataError, match=f"{shard}.*{message}"), naming_damage(records):
        epochs(records, 1)
    with pytest.raises(DataError, match=f"{shard}.*{message}"):
        list(eval_batches(records, CELLS, 16))


def test_other_errors_are_not_blamed_on_the_records(toy_records):
    tf = import_tensorflow()
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"), naming_damage(toy_records):
        raise tf.errors.InvalidArgumentError(None, None, "mine")


@pytest.mark.parametrize("reader", ["tensorflow"], indirect=True)
def test_nothing_is_autotuned(reader, toy_records, monkeypatch):
    """The end of an autotuned iterator waits for a thread that sleeps, as long as the reading took at worst."""
    dataset = import_tensorflow().data.Dataset
    used, iterate = [], dataset.as_numpy_iterator
    monkeypatch.setattr(dataset, "as_numpy_iterator", lambda each: used.append(each) or iterate(each))
    assert list(eval_batches(toy_records, CELLS, 16))
    used.append(train_batches(toy_records, CELLS, 16, 5, 0))
    assert [each.options().autotune.enabled for each in used] == [False, False]


def test_a_global_seed_makes_no_difference(toy_records, keras):
    orders = []
    for seed in (0, 7):
        keras.utils.set_random_seed(seed)
        orders.append(batch_ids(toy_records, [0, 1], 4, 0, 0, 0))
    assert orders[0] == orders[1]
