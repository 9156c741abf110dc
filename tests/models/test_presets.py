import pytest

from kit.competitions import competition_names, find_competition
from kit.models import presets

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("hub/hf://microsoft/rad-dino", "microsoft/rad-dino"),
        ("hub//data/RAD-DINO", "microsoft/rad-dino"),
        ("hub/models--microsoft--rad-dino/snapshots/1a2b", "microsoft/rad-dino"),
        ("hub/histai_hibou-b/", "histai/hibou-b"),
        ("hub/C:\\models\\hibou-b", "histai/hibou-b"),
        ("hub/hf://microsoft/rad-dino-maira-2", None),
        ("hub/resnet_18_imagenet", None),
        ("mobilenet", None),
    ],
)
def test_which_preset_a_name_means(name, repository):
    preset = presets.find(name)
    assert (preset.repository if preset else None) == repository


def test_every_preset_is_found_by_its_own_name():
    assert [presets.find(preset.name) for preset in presets.PRESETS] == list(presets.PRESETS)


def test_who_has_seen_which_images():
    names = ["hub/hf://microsoft/rad-dino", "hub//data/rad-dino", "hub/hf://histai/hibou-b", "mobilenet"]
    warning = (
        "microsoft/rad-dino was pre-trained, without labels, on NIH ChestX-ray14, and so on images that are held out "
        "here: on images that it has never seen, scores may be worse"
    )
    assert presets.seen_before(names, "NIH ChestX-ray14") == [warning]
    assert presets.seen_before(names, "") == presets.seen_before(names, "CAMELYON16") == []


def test_competitions_of_nih_images():
    images = {name: find_competition(name).images for name in competition_names()}
    assert {name for name, each in images.items() if each == presets.CHEST_XRAY14} == {"nih", "rsna"}
    seen = {each for preset in presets.PRESETS for each in preset.seen}
    assert {each for each in images.values() if each} <= seen
