"""Which network `auto` is, and that nothing is taken silently."""

import json

import pytest

from kit.errors import ConfigError
from kit.models import auto
from kit.models.auto import ALWAYS, choose

pytestmark = pytest.mark.once


def never(name):
    pytest.fail(f"asks for the weights of {name}")


def offline(name):
    raise ConfigError(f"the weights of {name} could not be downloaded (Name or service not known)")


@pytest.mark.parametrize("side", [28, 96, 224, 512])
def test_a_cpu_gets_the_network_whose_weights_are_always_there(side):
    choice = choose("CPU", side, domain="tissue", get=never)
    assert (choice.name, choice.weights, choice.rate) == (ALWAYS, "imagenet", 1.0)
    assert choice.arguments == {"units": [], "dropout": 0, "pool": "levels"}
    assert choice.line == f"model.name = auto: {ALWAYS}, pre-trained on ImageNet, as fast as a CPU allows"


@pytest.mark.parametrize("kind", ["GPU", "TPU"])
@pytest.mark.parametrize(
    ("side", "name"),
    [
        (28, ALWAYS),
        (32, "efficientnetv2b2"),
        (224, "efficientnetv2b2"),
        (256, "efficientnetv2s"),
        (512, "efficientnetv2s"),
    ],
)
def test_an_accelerator_gets_a_larger_one(kind, side, name):
    asked = []
    choice = choose(kind, side, get=asked.append)
    assert (choice.name, choice.weights, choice.hint) == (name, "imagenet", "")
    assert asked == [] if name == ALWAYS else [name]
    assert choice.rate == (1 if name == ALWAYS else 0.25)
    assert f"{side} pixels" in choice.reason


def test_weights_that_cannot_be_had_are_named_with_the_commands_that_get_them():
    choice = choose("GPU", 384, get=offline)
    assert (choice.name, choice.weights) == (ALWAYS, "imagenet")
    assert "\n" not in choice.line
    for words in ("efficientnetv2s would suit better", "Name or service not known", "export KIT_WEIGHTS=DIR"):
        assert words in choice.hint
    assert "`kit weights get efficientnetv2s --out DIR`" in choice.hint


def test_random_weights_only_where_they_are_set():
    choice = choose("GPU", 384, weights="none", get=never)
    assert (choice.name, choice.weights) == ("efficientnetv2s", "none")
    assert "random weights, as model.weights = none" in choice.line
    for weights in ("imagenet", "preset", "w.weights.h5", "run:r"):
        with pytest.raises(ConfigError, match=f"= {weights} are those of one network.*model.name=NAME"):
            choose("CPU", 96, weights=weights)


def test_arguments_are_laid_over_its_own():
    assert choose("CPU", 96, arguments={"units": [64]}).arguments == {
        "units": [64],
        "dropout": 0,
        "pool": "levels",
    }


def test_boxes_are_found_on_it():
    choice = choose("CPU", 256, boxes=True, domain="chest", get=never)
    assert (choice.name, choice.weights) == ("fcos", "imagenet")
    assert choice.arguments == {"backbone": ALWAYS, "channels": 128, "depth": 2}
    assert choice.line.startswith(f"model.name = auto: fcos on {ALWAYS}, ")
    assert choose("GPU", 512, boxes=True, get=lambda _: None).arguments == {"backbone": "efficientnetv2s"}
    own = choose("CPU", 256, boxes=True, arguments={"backbone": "pcam_cnn", "depth": 1}, get=never)
    assert (own.weights, own.arguments) == ("none", {"backbone": "pcam_cnn", "depth": 1})


@pytest.fixture
def preset(monkeypatch, tmp_path):
    """Write a folder of a domain preset into $KIT_WEIGHTS, as Hugging Face has them; KerasHub counts as installed."""
    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(auto, "find_spec", lambda name: name == "keras_hub")

    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "patch_size": 14}))
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
        return folder

    return write


def test_a_preset_of_the_domain_where_one_is_at_hand(preset, monkeypatch):
    folder = preset("hibou-b")
    choice = choose("GPU", 224, domain="tissue", get=never)
    assert (choice.name, choice.weights) == (f"hub/{folder}", "preset")
    assert choice.rate <= 0.1 and "tissue" in choice.line and "Apache-2.0" in choice.line
    assert choose("CPU", 224, domain="tissue", get=never).name == ALWAYS
    assert choose("GPU", 224, domain="chest", get=lambda _: None).name == "efficientnetv2b2"
    whole_patches = choose("GPU", 96, domain="tissue", get=lambda _: None)
    assert whole_patches.name == "efficientnetv2b2" and f"--set model.name=hub/{folder}" in whole_patches.hint
    (folder / "preprocessor_config.json").unlink()  # its scaling would be guessed
    assert choose("GPU", 224, domain="tissue", get=lambda _: None).name == "efficientnetv2b2"
    monkeypatch.setattr(auto, "find_spec", lambda name: None)
    assert choose("GPU", 224, domain="tissue", get=lambda _: None).hint == ""


def test_a_licence_for_research_alone_is_never_taken_unasked(preset):
    folder = preset("rad-dino")
    choice = choose("GPU", 224, domain="chest", get=lambda _: None)
    assert choice.name == "efficientnetv2b2"
    assert f"for research only: --set model.name=hub/{folder} takes it" in choice.hint


def test_every_network_that_it_may_be_is_registered():
    from kit.models.registry import model_card

    for kind in ("CPU", "GPU", "TPU"):
        for side in (32, 256):
            assert model_card(auto.suited(kind, side)[0]).weights == "imagenet"
