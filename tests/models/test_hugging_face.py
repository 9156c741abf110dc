"""What `preprocessor_config.json` says, without KerasHub."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kit.errors import ConfigError
from kit.models import hugging_face

pytestmark = pytest.mark.once
MEAN, STD = [0.7068, 0.5755, 0.722], [0.195, 0.2316, 0.1816]
BIT = {  # as such files look for DINOv2
    "crop_size": {"height": 518, "width": 518},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": MEAN,
    "image_processor_type": "BitImageProcessor",
    "image_std": STD,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 520},
}


@pytest.fixture
def folder(tmp_path):
    """A function: the values of `preprocessor_config.json` -> the folder of a model."""

    def write(values=None):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
        if values is not None:
            (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, lambda x: (x / 255 - MEAN) / STD),
        ({"rescale_factor": 1 / 127.5}, lambda x: (x / 127.5 - MEAN) / STD),
        ({"rescale_factor": None}, lambda x: (x / 255 - MEAN) / STD),  # what transformers takes where it is not there
        ({"do_rescale": False}, lambda x: (x - MEAN) / STD),
        ({"do_normalize": False}, lambda x: x / 255),
        ({"do_normalize": False, "image_mean": None, "image_std": None}, lambda x: x / 255),
        ({"do_normalize": False, "do_rescale": False}, lambda x: x),
    ],
)
def test_scaling_is_that_of_the_file(folder, change, expected):
    values = {key: value for key, value in (BIT | change).items() if value is not None}
    prepared = hugging_face.preparation(folder(values))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3)).astype(float)
    assert np.allclose(pixels * prepared.scale + prepared.offset, expected(pixels), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "side"),
    [
        (BIT, 518),
        (BIT | {"do_center_crop": False}, 520),
        ({"size": 224}, 224),
        ({"size": {"height": 256, "width": 256}}, 256),
        ({"crop_size": 224, "size": 256}, 224),
        ({}, None),
        (None, None),
    ],
)
def test_the_side_of_the_input(folder, values, side):
    assert hugging_face.side_of(folder(values)) == side


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, r"has no preprocessor_config\.json, so nothing says .*image_mean: \[R, G, B\], image_std"),
        ({}, r"preprocessor_config\.json of hub/.*: image_mean = None: three numbers are needed"),
        (BIT | {"image_std": [0.5]}, r"image_std = \[0\.5\]: three numbers are needed"),
        (BIT | {"image_std": [0.5, 0, 0.5]}, r"image_std = \[0\.5, 0\.0, 0\.5\]: standard deviations are positive"),
        (BIT | {"image_mean": [0.5, "a", 0.5]}, r"'a' is not a number"),
        (BIT | {"rescale_factor": True}, r"True is not a number"),
        (BIT | {"image_mean": [float("nan")] * 3}, r"nan is not a number"),
        (BIT | {"rescale_offset": True}, r"rescale_offset is a scaling that kit does not know"),
    ],
)
def test_nothing_is_guessed(folder, values, message):
    with pytest.raises(ConfigError, match=message):
        hugging_face.preparation(folder(values))


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_a_damaged_file_is_named(folder, tmp_path, content):
    path = folder(BIT)
    (tmp_path / "preprocessor_config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json.*download it again"):
        hugging_face.preparation(path)


def test_which_folders_are_in_this_layout(folder, tmp_path):
    assert hugging_face.is_hugging_face(folder())
    assert not hugging_face.is_hugging_face("resnet_18_imagenet")
    for config in ({"registered_name": "keras_hub>X", "model_type": "x"}, {"architecture": "resnet18"}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert not hugging_face.is_hugging_face(str(tmp_path))


def test_a_mean_and_deviation_by_hand():
    by_hand = hugging_face.normalisation([0.5, 0.4, 0.3], (0.5, 0.25, 0.2))
    assert np.allclose(np.multiply(255, by_hand.scale) + by_hand.offset, [1, 2.4, 3.5])
    with pytest.raises(ConfigError, match=r"model\.arguments: image_std = None: three numbers"):
        hugging_face.normalisation([0.5, 0.5, 0.5], None)


class Missing(Exception):
    pass


class Offline(OSError, Missing):  # as huggingface_hub's: no network is a kind of "no such file"
    pass


@pytest.fixture
def hub(folder, monkeypatch):
    """A function: an error, or None -> `huggingface_hub` has the repository me/model, or raises that for its files."""

    def put(error=None):
        def download(repository, name):
            assert repository == "me/model"
            if error:
                raise error
            return f"{folder(BIT)}/{name}"

        errors = SimpleNamespace(
            EntryNotFoundError=Missing, LocalEntryNotFoundError=Offline, HFValidationError=ZeroDivisionError
        )
        monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download, errors=errors))
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)

    return put


def test_a_repository(hub):
    hub()
    assert hugging_face.is_hugging_face("hf://me/model")
    assert hugging_face.preparation("hf://me/model").side == 518
    assert hugging_face.side_of("hf://me/model") is None  # not worth a download


def test_a_repository_without_the_file(hub):
    hub(Missing())
    with pytest.raises(ConfigError, match=r"hub/hf://me/model has no preprocessor_config\.json"):
        hugging_face.preparation("hf://me/model")


def test_no_network_is_not_taken_for_no_file(hub):
    hub(Offline())
    with pytest.raises(OSError):
        hugging_face.is_hugging_face("hf://me/model")


def test_no_such_name(hub):
    hub(ZeroDivisionError())
    with pytest.raises(ConfigError, match="hub/hf://me/model: write it as hub/hf://OWNER/NAME"):
        hugging_face.preparation("hf://me/model")


def test_huggingface_hub_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="need huggingface_hub: pip install huggingface_hub"):
        hugging_face.is_hugging_face("hf://me/model")
