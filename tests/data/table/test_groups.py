import pandas as pd
import pytest

from kit.data.table.groups import describe_groups, group_by, patient_hint
from kit.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"patient(\w+)_view\d", ["1", "22"]),
        (r"patient\d+", ["patient1", "patient22"]),
        (r"(x)?(?P<side>left|right)?/?(?P<group>patient\d+)", ["patient1", "patient22"]),
        (r"(p)(?P<patient>\d+|atient\d+)", ["atient1", "atient22"]),
        (r"^[^_]+", ["a/patient1", "b/patient22"]),
        (r"(\d)\.png$", ["1", "2"]),
    ],
)
def test_the_named_or_first_capture_group_or_the_whole_match(pattern, groups):
    paths = pd.Series(["a/patient1_view1.png", "b/patient22_view2.png"], [7, 3])
    result = group_by(paths, pattern, 0)
    assert result.tolist() == groups
    assert result.index.tolist() == [7, 3]


def test_images_that_a_pattern_does_not_match():
    paths = pd.Series(["p1_a.png", "p1_b.png", "p2_a.png", "other.png"])
    says = r"'p\\d' finds no group in 1 of 4 images \(25%\): other\.png\. Give .* --set columns\.ungrouped=0\.25$"
    with pytest.raises(DataError, match=says):
        group_by(paths, r"p\d", 0.2)
    groups = group_by(paths, r"p\d", 0.25)
    assert groups[:3].tolist() == ["p1", "p1", "p2"]
    assert groups.isna().tolist() == [False] * 3 + [True]
    with pytest.raises(DataError, match=r"4 of 4 images \(100%\): other\.png, p1_.* 1 more\. Give a pattern .* them$"):
        group_by(paths, r"\d*$", 0)  # an empty match is no group
    with pytest.raises(ConfigError, match=r"columns\.group = 'p\[' is not a regular expression: unterminated"):
        group_by(paths, "p[", 0)


def test_groups_in_one_line():
    assert describe_groups(pd.Series(["b", "a", "b", "c", "d", None])) == (
        "groups: 4 of 1 to 2 images, such as a (1), b (2), c (1); 1 more images are groups of their own"
    )
    assert describe_groups(pd.Series(["a", "a", "b", "b"])) == "groups: 2 of 2 images each, such as a (2), b (2)"
    assert describe_groups(pd.Series(["a"])) == "groups: 1 of 1 image, such as a (1)"
    assert describe_groups(pd.Series([None], dtype=object)) == "groups: none; each of 1 images is a group of its own"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("P{p:04d}_{n}.png", r"([^/]*?\d[^/_-]*)[_-][^/]*$"),
        ("images_001/{p:08d}_00{n}.png", r"([^/]*?\d[^/_-]*)[_-][^/]*$"),
        ("IM-{p:04d}-{n}.jpeg", r"([^/]*?\d[^/_-]*)[_-][^/]*$"),
        ("train/patient{p:05d}/study1/view{n}_frontal.jpg", r"(patient[-_ ]?\d+)"),
        ("Person{p}_virus_{n}.jpeg", r"(Person[-_ ]?\d+)"),
        ("sub-{p:02d}/anat/sub-{p:02d}_ses-{n}.png", r"(sub[-_ ]?\d+)"),
        ("a{p}/{n}.png", r"([^/]+)/[^/]+$"),
        ("a{p}/study/{n}.png", r"([^/]+)/[^/]+/[^/]+$"),
    ],
)
def test_names_that_look_like_patients(name, pattern):
    paths = pd.Series([name.format(p=n // 3, n=n) for n in range(12)])
    hint = patient_hint(paths)
    assert hint.endswith(f"--set columns.group='{pattern}'")
    assert group_by(paths, pattern, 0).value_counts().tolist() == [3] * 4


@pytest.mark.parametrize(
    "name",
    ["img/{n}.png", "ISIC_{n:07d}.jpg", "benign ({n}).png", "images_{b}/{n}.png", "{c}/{n}.png", "{n:03d}_left.png"],
)
def test_names_where_every_image_would_be_its_own_group_or_folders_are_no_patients(name):
    assert patient_hint(pd.Series([name.format(n=n, b=n // 3, c="abc"[n % 3]) for n in range(12)])) is None
    assert patient_hint(pd.Series([], dtype=object)) is None
