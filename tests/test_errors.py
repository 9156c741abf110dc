"""Suggestions and counted nouns in messages."""

import pytest

from kit.errors import close_names, counted, nearest, remarked
from kit.models import registry

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("efficientnet", "efficientnet_lite0"),
        ("EfficientNet-B0", "efficientnetb0"),
        ("resnet", "resnet18"),
        ("resnet5", "resnet50"),
        ("ResNet_50", "resnet50"),
        ("resnet55", "resnet50"),
        ("convnext", "convnext_tiny"),
        ("nasnet", "nasnet_mobile"),
        ("densenet", "densenet121"),
        ("mobilenett", "mobilenet"),
    ],
)
def test_the_plain_and_small_model_comes_first(name, first):
    with pytest.raises(Exception, match=f"did you mean '{first}'"):
        registry.model_card(name)


def test_names_that_are_almost_the_same_come_before_those_that_begin_with_it():
    assert close_names("pcamm", ["pcam", "pcam_mobilenet", "rsna"]) == ["pcam", "pcam_mobilenet"]
    assert close_names("image.sise", ["image.size", "image.steps"])[0] == "image.size"
    assert close_names("zzz", ["image.size"]) == []
    assert nearest("zzz", {"b", "a"}) == "; known: a, b"
    assert nearest("", {"b", "a"}) == "; known: a, b"


def test_counted_nouns():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(1, "patch", "patches") + ", " + counted(3, "patch", "patches") == "1 patch, 3 patches"


@pytest.mark.parametrize(
    "remark, text",
    [
        ("files that are no images, left out (1 .zip)", "1 file that is no image, left out (1 .zip)"),
        ("DICOMs whose window cannot be used: passed over", "1 DICOM whose window cannot be used: passed over"),
        ("classes have a single image, which: are", "1 class has a single image, which: are"),
        ("categories without a box, left out (never)", "1 category without a box, left out (never)"),
        ("lines are of the class 'have'", "1 line is of the class 'have'"),
    ],
)
def test_a_remark_on_one_thing_is_in_the_singular(remark, text):
    assert remarked(1, remark) == text
    assert remarked(2, remark) == f"2 {remark}"
