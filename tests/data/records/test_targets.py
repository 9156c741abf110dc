import numpy as np
import pandas as pd
import pytest

from kit.config import ImageSettings
from kit.data.records import tfrecord
from kit.data.records.targets import target_format
from kit.errors import ConfigError, DataError
from kit.runtime.devices import import_tensorflow
from kit.tasks import TASKS

ROWS = pd.DataFrame(
    {
        "id": ["a", "b"],
        "y_x": np.float32([0.1, np.nan]),
        "y_z": np.float32([1, 0]),
        "boxes": [[[0, 50, 20, 25], [10, 0, 90, 100]], []],
        "box_labels": [["z", "x"], []],
        "width": [100, 640],
        "height": [200, 480],
    }
)
IMAGE = ImageSettings(size=32)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read(task):
    tf, target = import_tensorflow(), target_format(task)
    features = target.features(ROWS, IMAGE)
    assert len(features) == len(ROWS)
    examples = [tfrecord.serialise({"id": [b"x"], **written}) for written in features]
    parsed = tf.io.parse_example(examples, target.spec(2))
    assert set(parsed) == set(features[0])
    assert parsed["label"].dtype == tf.float32
    assert np.array_equal(parsed["label"], ROWS[["y_x", "y_z"]], equal_nan=True)


def test_boxes_are_written_as_shares_and_read_as_pixels_of_the_stored_image_with_padding():
    tf, target = import_tensorflow(), target_format("detection")
    features = target.features(ROWS, IMAGE)
    assert features[0]["boxes"] == pytest.approx([0, 0.25, 0.2, 0.125, 0.1, 0, 0.9, 0.5])
    assert features[0]["box_labels"] == [1, 0] and features[1]["boxes"] == features[1]["box_labels"] == []
    padding = target.padding(ROWS, None)
    assert padding == 2 == target.padding(ROWS, 2) and target.padding(ROWS, 5) == 5
    examples = [tfrecord.serialise({"id": [b"x"], **written}) for written in features]
    dataset = tf.data.Dataset.from_tensor_slices(examples).map(
        lambda each: target.keys(tf.io.parse_single_example(each, target.spec(2)), (32, 64, 1), 3)
    )
    assert all(spec.shape.is_fully_defined() for spec in dataset.element_spec.values())  # detectors rely on it
    keys = [*dataset.as_numpy_iterator()]
    assert np.allclose(keys[0]["boxes"], [[0, 8, 12.8, 4], [6.4, 0, 57.6, 16], [0, 0, 0, 0]])
    assert keys[0]["box_labels"].tolist() == [1, 0, 0] and keys[0]["box_mask"].tolist() == [True, True, False]
    assert not keys[1]["box_mask"].any() and not keys[1]["boxes"].any()
    assert keys[1]["boxes"].shape == (3, 4) and keys[1]["boxes"].dtype == np.float32


@pytest.mark.once
def test_boxes_that_a_crop_cuts_are_counted():
    cropped = ImageSettings.model_validate({"size": 32, "steps": [{"name": "center_crop", "size": 80}]})
    # of 100 x 200 pixels, columns 10 to 89 and rows 60 to 139 stay: 250 of 500 and 3200 of 9000 square pixels
    assert target_format("detection").remarks(ROWS, cropped) == {
        "boxes that the crops of image.steps cut": 2,
        "boxes that the crops of image.steps leave out": 0,
    }
    small = ImageSettings.model_validate({"size": 32, "steps": [{"name": "center_crop", "size": 60}]})
    assert list(target_format("detection").remarks(ROWS, small).values()) == [0, 2]
    assert target_format("detection").features(ROWS, small)[0]["boxes"] == []
    assert set(target_format("detection").remarks(ROWS, IMAGE).values()) == {0}
    assert target_format("binary").remarks(ROWS, small) == {}
    large = ImageSettings.model_validate({"size": 32, "steps": [{"name": "center_crop", "size": 120}]})
    with pytest.raises(DataError, match="center_crop to 120 pixels, but a has only 100x200: make the crop smaller"):
        target_format("detection").features(ROWS, large)


def test_more_boxes_than_the_padding_holds():
    with pytest.raises(ConfigError, match=r"input.most_boxes = 1, but a has 2 boxes: make it 2, or null"):
        target_format("detection").padding(ROWS, 1)


def test_an_unknown_task():
    with pytest.raises(ConfigError, match="unknown task 'segmentation'"):
        target_format("segmentation")
