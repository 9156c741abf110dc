import pandas as pd
import pytest

from kit.data.table.leaks import assert_no_leak, assert_unseen
from kit.errors import LeakError


def test_a_group_or_an_image_on_both_sides():
    table = pd.DataFrame({"id": ["a", "b", "c"], "group": ["p", "q", "p"]})
    assert_no_leak(table[:1], table[1:2])
    with pytest.raises(LeakError, match="1 group is in both training and validation, such as 'p'"):
        assert_no_leak(table[:2], table[2:])
    with pytest.raises(LeakError, match="1 id is in both training and validation, such as 'a'"):
        assert_no_leak(table[:1], table[:1].assign(group="r"))


def test_a_model_that_was_fitted_on_images_or_patients_of_the_validation():
    examples = pd.DataFrame(
        {
            "id": ["a", "b", "c", "t"],
            "group": ["p", "q", "r", "s"],
            "split": ["train", "train", "train", "test"],
            "cell": [0, 1, 2, -1],
        }
    )
    valid = pd.DataFrame({"id": ["a", "x"], "group": ["p", "y"]})
    assert_unseen(examples, [0], valid, "the run")
    assert_unseen(examples, [0], pd.DataFrame({"id": ["t"], "group": ["s"]}), "the run")  # its test set was not fitted
    with pytest.raises(LeakError, match=r"the run was fitted on 1 of the images or patients .*, such as a: "):
        assert_unseen(examples, [1, 2], valid, "the run")
    with pytest.raises(LeakError, match="such as q: "):
        assert_unseen(examples, [0], pd.DataFrame({"id": ["new"], "group": ["q"]}), "the run")
