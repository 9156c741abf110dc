import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from kit.data.table.ids import name_images
from kit.errors import DataError


def name(ids, paths, loose=False):
    """The image of each id, and the remarks."""
    images = pd.DataFrame({"path": paths})
    named = name_images(Path("t.csv"), "file", pd.Series(ids, dtype=str), images, loose)
    path_of = dict(zip(named.ids, paths, strict=True))
    return [path_of.get(row) for row in ids], named.remarks


def numbered(pattern, count=4):
    return [pattern.format(n=n) for n in range(count)]


@pytest.mark.parametrize("ids", ["img/{n}.a.png", "{n}.a.png", "img/{n}.a", "{n}.a"])
def test_paths_names_and_stems_match_without_a_word(ids):
    paths = numbered("img/{n}.a.png")
    assert name(numbered(ids), paths) == (paths, {})
    assert name(numbered(ids), [*paths, "other/x.png"]) == (paths, {})


@pytest.mark.parametrize(
    ("ids", "paths", "how"),
    [
        ("./img/{n}.png", "img/{n}.png", "without ./, backslashes, forms of Unicode and spaces around them"),
        ("img\\{n}.png", "img/{n}.png", "without ./, backslashes, forms of Unicode and spaces around them"),
        ("img/{n}.png", "img\\{n}.png", "without ./, backslashes, forms of Unicode and spaces around them"),
        (" {n}.png", "img/{n}.png", "without ./, backslashes, forms of Unicode and spaces around them"),
        ("M\u00fc{n}.png", "img/Mu\u0308{n}.png", "without ./, backslashes, forms of Unicode and spaces around them"),
        ("Chex-v1/train/p{n}/s/view.jpg", "train/p{n}/s/view.jpg", "below the folders that all are in"),
        ("train/p{n}/s/view.jpg", "Chex-v1/train/p{n}/s/view.jpg", "below the folders that all are in"),
        ("/kaggle/input/x/img/{n}.png", "img/{n}.png", "below the folders that all are in"),
        ("/kaggle/input/x/{n}.png", "{n}.png", "below the folders that all are in"),
        ("/kaggle/input/x/p{n}/view", "y/p{n}/view.png", "below the folders that all are in"),
        ("C:\\data\\img\\{n}.png", "img/{n}.png", "below the folders that all are in"),
        ("../img/{n}.png", "img/{n}.png", "below the folders that all are in"),
    ],
)
def test_what_is_written_otherwise_but_is_surely_the_same_matches_with_a_remark(ids, paths, how):
    ids, paths = numbered(ids), numbered(paths)
    assert name(ids, paths) == (paths, {f"ids are compared {how}, such as {ids[0]!r} for {paths[0]!r}": 4})


@pytest.mark.parametrize(
    ("ids", "paths"),
    [
        ("{n}.0", "img/{n}.png"),
        ("{n}", "img/00{n}.png"),
        ("{n}.0", "img/00{n}.png"),
        ("IMG_{n}.PNG", "img/img_{n}.png"),
        ("{n}.jpg", "img/{n}.png"),
        ("p{n}/{n}.png", "q{n}/{n}.png"),
    ],
)
def test_guesses_are_matched_only_when_that_is_set(ids, paths):
    ids, paths = numbered(ids), numbered(paths)
    says = f"4 of 4 ids name no image: the ids of column file are like '{ids[0]}', the files like '{paths[0]}'. .*loose"
    with pytest.raises(DataError, match=says):
        name(ids, paths)
    matched, (remark,) = name(ids, paths, loose=True)
    assert matched == paths
    assert remark.startswith("ids are compared without case, endings, folders, leading zeros and .0, such as")


def test_ids_that_would_be_guessed_beside_others_that_match():
    with pytest.raises(DataError, match=r"1 of 3 ids name no image: the ids of column file are like 'B.PNG', .* 'b.p"):
        name(["a.png", "B.PNG", "c.png"], ["a.png", "b.png", "c.png"])
    assert name(["a.png", "x.png"], ["a.png", "b.png"]) == (["a.png", None], {})


def test_no_guess_pairs_two_with_one():
    for ids, paths in ((["1", "01"], ["001.png", "x.png"]), (["1", "2"], ["01.png", "001.png"])):
        with pytest.raises(DataError, match=r"no id of the column file .* names an image .*columns.id="):
            name(ids, paths, loose=True)


def test_folders_that_differ_are_never_cut():
    with pytest.raises(DataError, match="2 of 2 ids name no image"):
        name(["a/1.png", "b/2.png"], ["c/1.png", "d/2.png"])


def test_ids_of_nothing_show_both_sides():
    says = r"no id of the column file \('x', 'y'\) names an image \('0.png', '1.png', \.\.\.\): .*--data"
    with pytest.raises(DataError, match=says) as error:
        name(["x", "y"], ["0.png", "1.png", "2.png"])
    assert "max_missing" not in str(error.value)


def test_one_name_of_several():
    with pytest.raises(DataError, match=r"'1.png' is the name of several files: a/1.png, b/1.png. Name images by"):
        name(["1.png"], ["a/1.png", "b/1.png"])
    with pytest.raises(DataError, match="is in two lines, written in two ways"):
        name(["./a.png", "b.png", ".\\a.png"], ["a.png", "b.png", "c.png"])


def test_unicode_of_both_forms_in_one_folder():
    paths = [unicodedata.normalize(form, "ü.png") for form in ("NFC", "NFD")]
    assert name(paths, paths) == (paths, {})
