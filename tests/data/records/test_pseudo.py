import numpy as np
import pandas as pd
import pytest

from kit.data.records import tfrecord
from kit.data.records.manifest import verify_records
from kit.data.records.pseudo import sure_labels, with_pseudo_labels


def test_what_is_sure():
    table = pd.DataFrame({"id": list("abc"), "p_x": [0.97, 0.5, 0.02], "p_z": [0.5, 0.5, 0.99]})
    sure = sure_labels(table, False, 0.95, 0.05)
    assert sure["id"].tolist() == ["a", "c"]
    assert sure["y_x"].tolist() == [1, 0]
    assert np.isnan(sure["y_z"].iloc[0]) and sure["y_z"].iloc[1] == 1


def test_of_classes_the_likeliest_counts():
    table = pd.DataFrame({"id": list("ab"), "p_x": [0.96, 0.02], "p_y": [0.03, 0.9], "p_z": [0.01, 0.08]})
    sure = sure_labels(table, True, 0.95, 0.05)
    assert sure.to_dict("list") == {"id": ["a"], "y_x": [1], "y_y": [0], "y_z": [0]}


@pytest.fixture
def labels(toy_records):
    ids = toy_records.rows(None)["id"].to_numpy()[[3, 7, 20]]
    return pd.DataFrame({"id": ids[::-1], "y_tumour": np.float32([1, 0, 1])})


def test_test_images_become_a_further_cell(toy_records, labels, tmp_path):
    records = with_pseudo_labels(toy_records, labels, tmp_path / "pseudo.tfrecord")
    verify_records(records)
    rows = records.rows([records.cells])
    assert rows.set_index("id")["y_tumour"].to_dict() == labels.set_index("id")["y_tumour"].to_dict()
    assert len(records.rows(None)) == len(toy_records.rows(None))  # the test set itself is as it was
    of_test = {}
    for path in toy_records.shard_paths(None):
        for data in tfrecord.read_records(path):
            example = tfrecord.parse(data)
            of_test[example["id"][0]] = example
    (path,) = records.shard_paths([records.cells])
    for data in tfrecord.read_records(path):
        example = tfrecord.parse(data)
        assert example["image"] == of_test[example["id"][0]]["image"]
    before = path.read_bytes()
    assert with_pseudo_labels(toy_records, labels, path).shards == records.shards and path.read_bytes() == before


def test_they_are_read_with_the_others(toy_records, labels, tmp_path):
    from kit.data.records.batches import batch_ids, steps_per_epoch

    records = with_pseudo_labels(toy_records, labels, tmp_path / "pseudo.tfrecord")
    cells = [0, records.cells]
    count = len(records.rows(cells))
    assert count == len(toy_records.rows([0])) + 3
    assert steps_per_epoch(records, cells, count) == 1
    assert set(batch_ids(records, cells, count, 0, 0, 0)) == set(records.rows(cells)["id"])
