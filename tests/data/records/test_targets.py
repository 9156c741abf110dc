import numpy as np
import pandas as pd
import pytest

from kit.data.records import tfrecord
from kit.data.records.targets import target_format
from kit.errors import ConfigError
from kit.runtime.devices import import_tensorflow
from kit.tasks import TASKS

ROWS = pd.DataFrame({"id": ["a", "b"], "y_x": np.float32([0.1, np.nan]), "y_z": np.float32([1, 0])})


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read(task):
    tf, target = import_tensorflow(), target_format(task)
    features = target.features(ROWS)
    assert len(features) == len(ROWS)
    examples = [tfrecord.serialise({"id": [b"x"], **written}) for written in features]
    parsed = tf.io.parse_example(examples, target.spec(2))
    assert set(parsed) == set(features[0])
    assert parsed["label"].dtype == tf.float32
    assert np.array_equal(parsed["label"], ROWS[["y_x", "y_z"]], equal_nan=True)


def test_an_unknown_task():
    with pytest.raises(ConfigError, match="unknown task 'segmentation'"):
        target_format("segmentation")
