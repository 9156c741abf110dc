"""Statistics of a sample of images by class, on images made by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.config import ImageSettings
from kit.data.table.survey import Classes, classes_of, draw, show, survey_images

pytestmark = pytest.mark.once
NAN = np.nan


def _table(y):
    return pd.DataFrame(np.array(y, np.float32), columns=[f"y_{n}" for n in "abc"[: len(y[0])]])


def test_classes_are_labels_and_none_of_them():
    classes = classes_of(_table([[1, 0], [1, 1], [0, 0], [0, NAN], [NAN, NAN], [0, 0.4]]), ["a", "b"], exclusive=False)
    assert classes.names == ("a", "b", "none of these")
    assert classes.members.astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert classes_of(_table([[1], [0]]), ["a"], exclusive=False).names == ("a", "not a")
    exclusive = classes_of(_table([[1, 0], [0, 1], [NAN, NAN]]), ["a", "b"], exclusive=True)
    assert exclusive.members.astype(int).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_the_largest_classes_stay_in_order():
    members = np.array([[1, 1, 0], [0, 1, 1], [0, 1, 1]], bool)
    assert Classes(("a", "b", "c"), members).largest(2).names == ("b", "c")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 300), st.integers(0, 5), st.floats(0, 1))
def test_a_sample_is_random_and_has_some_of_every_class(rows, images, seed, share):
    members = np.random.default_rng(seed).random((rows, 2)) < [share, 0.02]
    chosen, own = draw(Classes(("a", "b"), members), images, seed)
    assert len({*chosen}) == len(chosen) and own.sum() == min(rows, images)
    expected = np.minimum(members.sum(axis=0), np.minimum(100, images))
    assert (members[chosen].sum(axis=0) >= expected).all()
    again, _ = draw(Classes(("a", "b"), members), images, seed)
    assert (chosen == again).all()


@pytest.fixture
def folder(tmp_path):
    """Ten images: five of grey level 40, four of 200 and a file that is none; the table, and their classes."""
    for n in range(9):
        Image.fromarray(np.full((20, 30), 40 if n < 5 else 200, np.uint8)).save(tmp_path / f"{n}.png")
    (tmp_path / "9.png").write_bytes(b"no image")
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(10)]})
    return tmp_path, table, Classes(("dark", "bright"), np.arange(10)[:, None] // 5 == [[0, 1]])


def test_means_by_class_and_unreadable_files(folder):
    root, table, classes = folder
    survey = survey_images(table, classes, root, ImageSettings(), images=10, seed=0, edges=True)
    assert survey.rows.tolist() == [*range(9)] and survey.random.all()
    np.testing.assert_allclose(survey.means[0], 40)
    np.testing.assert_allclose(survey.means[1], 200)
    assert survey.edges is not None and np.abs(survey.edges).max() == 0
    assert (survey.grey.argmax(axis=1) == [10] * 5 + [50] * 4).all() and np.isnan(survey.colour).all()


def test_a_sample_with_workers_is_the_same(folder, monkeypatch):
    from kit.data.table import survey as module

    monkeypatch.setattr(module, "_AT_ONCE", 2)
    one = survey_images(folder[1], folder[2], folder[0], ImageSettings(), images=6, seed=3, edges=False)
    monkeypatch.setattr(module, "count_workers", lambda images: 2)
    two = survey_images(folder[1], folder[2], folder[0], ImageSettings(), images=6, seed=3, edges=False)
    for name in ("rows", "random", "grey", "means"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_images_to_be_shown_are_small_and_remember_their_size(folder):
    found = show(["0.png", "9.png"], folder[0], ImageSettings(), side=15)
    assert [*found] == ["0.png"]
    assert found["0.png"].image.shape == (10, 15, 1) and (found["0.png"].height, found["0.png"].width) == (20, 30)
