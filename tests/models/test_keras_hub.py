"""KerasHub's backbones: tiny configurations only, no network."""

import warnings

import numpy as np
import pytest

from kit.errors import ConfigError
from kit.models.saved import load_model, save_model
from tests.conftest import devices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own and its dependencies', at import alone
    devices.set_up(devices.RuntimeSettings())
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed: pip install keras-hub")

from kit.models import registry
from kit.models.keras_hub import _images_to_features, find_preset
from kit.models.weights import load_weights

RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 16],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "block_type": "basic_block",
}
VIT = {"patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
DINO = {
    "patch_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 16,
    "position_embedding_shape": [48, 48],
}
CLASSES = {
    "ResNetBackbone": RESNET,
    "ViTBackbone": VIT,
    "SwinTransformerBackbone": SWIN,
    "DINOV2Backbone": DINO,
}

FEATURES = {
    "ResNetBackbone": (None, 4, 4, 16),
    "ViTBackbone": (None, 17, 16),
    "SwinTransformerBackbone": (None, 16, 16),
    "DINOV2Backbone": (None, 17, 16),
}


def spec(name, config=None, size=32, channels=3, **more):
    own = {} if config is None else {"config": config}
    return {"name": f"hub/{name}", "shape": (size, size, channels), "outputs": 1, "units": 8, **own, **more}


def pretrained(spec, weights=None):
    model = registry.build(**spec)
    load_weights(model, registry.model_card(spec["name"]), weights)
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _seed(keras):
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_with_its_config(name, images, tmp_path):
    if not hasattr(keras_hub.models, name):
        pytest.skip(f"keras-hub {keras_hub.__version__} has no {name}")
    arguments = spec(name, CLASSES[name])
    model = registry.build(**arguments)
    assert model.get_layer("backbone").output.shape == FEATURES[name]
    p = model.predict_on_batch(images)
    assert p.shape == (4, 1)
    assert ((p > 0) & (p < 1)).all()
    assert len(np.unique(p)) == 4
    save_model(model, arguments, tmp_path)
    again = load_model(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


@pytest.mark.parametrize(
    "name", ["ResNetBackbone", "DINOV2Backbone"]
)  # convolutions; tokens, saved in a way of its own
def test_its_weights_learn_and_are_saved(name, images, tmp_path, keras):
    arguments = spec(name, CLASSES[name], dropout=0.0)
    model = registry.build(**arguments)
    before = [np.array(w) for w in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    model.train_on_batch(images, np.array([[0.0], [1.0], [0.0], [1.0]], np.float32))
    moved = [not np.array_equal(a, np.array(b)) for a, b in zip(before, model.trainable_variables, strict=True)]
    assert np.mean(moved) > 0.8  # a bias before batch normalisation has no gradient
    save_model(model, arguments, tmp_path)
    assert np.allclose(load_model(tmp_path).predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "feature_map", "levels"),
    [
        ("ResNetBackbone", (4, 4, 16), {"P2": (8, 8, 64), "P3": (4, 4, 16)}),
        ("ViTBackbone", (4, 4, 16), {"P3": (4, 4, 16)}),
        ("SwinTransformerBackbone", (4, 4, 16), {"P2": (8, 8, 8), "P3": (4, 4, 16)}),
        ("DINOV2Backbone", (4, 4, 16), {"P3": (4, 4, 16)}),
    ],
)
def test_feature_map_and_pyramid(name, feature_map, levels, images):
    from kit.models import features

    model = registry.build(**spec(name, CLASSES[name]))
    maps, probabilities = features.with_feature_map(model).predict_on_batch(images)
    assert maps.shape == (4, *feature_map)
    assert np.allclose(probabilities, model.predict_on_batch(images), atol=1e-5)
    body, head = features.split(model)
    tokens = body.predict_on_batch(images)
    assert np.allclose(head.predict_on_batch(tokens), probabilities, atol=1e-5)
    assert np.allclose(features.as_map(tokens, (32, 32)), maps, atol=1e-5)
    pyramid = features.with_pyramid(model).predict_on_batch(images)
    assert {level: level_map.shape[1:] for level, level_map in pyramid.items()} == levels
    assert np.allclose(pyramid[max(pyramid)], maps, atol=1e-5)


def test_of_several_feature_maps_the_smallest(keras):
    images = keras.Input((32, 32, 3), name="images")
    stem = keras.layers.Conv2D(4, 3, strides=2, padding="same")(images)
    pyramid = {"stem": stem, "stage1": keras.layers.Conv2D(8, 3, strides=2, padding="same")(stem)}
    backbone = _images_to_features(keras.Model({"images": images}, pyramid), "hub/Pyramid")
    assert backbone.output.shape == (None, 8, 8, 8)
    assert backbone(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 8, 8, 8)


def test_head_until_and_grey_images(images):
    model = registry.build(**spec("ResNetBackbone", RESNET, channels=1, until="conv1_conv", pool="average+max"))
    assert model.get_layer("backbone").output.shape == (None, 16, 16, 64)
    assert model.predict_on_batch(images[..., :1]).shape == (4, 1)


@pytest.fixture
def preset(tmp_path):
    """A folder with a preset for images of 32x32: its weights are its own, and its converter has a scale and offset."""

    def save(backbone_class, config, converter=None):
        backbone = getattr(keras_hub.models, backbone_class)(**config)
        backbone.save_to_preset(str(tmp_path / "preset"))
        if converter:
            converter.save_to_preset(str(tmp_path / "preset"))
        return backbone, tmp_path / "preset"

    return save


def test_a_preset_folder_brings_weights_and_preprocessing(preset, images, tmp_path, keras, capsys):
    scale, offset = [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0]
    converter = keras_hub.layers.ResNetImageConverter(image_size=(64, 64), scale=scale, offset=offset)
    backbone, folder = preset("ResNetBackbone", RESNET, converter)
    arguments = spec(folder)
    capsys.readouterr()
    model = pretrained(arguments)
    expected = f"weights from preset: 100.0% of {backbone.count_params():,} backbone parameters\n"
    assert capsys.readouterr().out == expected
    ours = keras.Model(model.inputs, model.get_layer("pool").input).predict_on_batch(images)
    theirs = backbone.predict_on_batch(images * np.float32(scale) + np.float32(offset))
    assert np.allclose(ours, theirs, atol=1e-5)

    save_model(model, arguments, tmp_path / "saved")
    assert np.array_equal(
        load_model(tmp_path / "saved", trust=True).predict_on_batch(images), model.predict_on_batch(images)
    )
    assert not np.allclose(
        registry.build(**arguments).get_layer("backbone").get_weights()[0], backbone.get_weights()[0]
    )


def test_a_preset_without_a_converter_sees_0_to_1(preset, images, keras, capsys):
    backbone, folder = preset("ResNetBackbone", RESNET)
    capsys.readouterr()
    model = pretrained(spec(folder))
    assert "was saved without an image converter: it gets images in 0..1" in capsys.readouterr().out
    ours = keras.Model(model.inputs, model.get_layer("pool").input).predict_on_batch(images)
    assert np.allclose(ours, backbone.predict_on_batch(images / np.float32(255)), atol=1e-5)


def test_position_embeddings_are_stretched_where_the_network_can(preset, keras):
    backbone, folder = preset("DINOV2Backbone", {**DINO, "image_shape": (32, 32, 3)})
    model = pretrained(spec(folder, size=64))
    images = np.zeros((1, 64, 64, 3), np.uint8)
    tokens = keras.Model(model.inputs, model.get_layer("tokens").input).predict_on_batch(images)
    assert tokens.shape == (1, 65, 16)
    same = pretrained(spec(folder, size=32))
    for ours, theirs in zip(same.get_layer("backbone").get_weights(), backbone.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_preset_that_cannot_take_the_size_says_which_it_can(preset):
    _, folder = preset("ViTBackbone", {**VIT, "image_shape": (32, 32, 3)})
    with pytest.raises(ConfigError, match=r"cannot be built for images of 64x64: it was made for 32x32"):
        pretrained(spec(folder, size=64))
    with pytest.raises(ConfigError, match=r"cannot be built for images of 36x36: it was made for 32x32"):
        pretrained(spec(folder, size=36))


def test_a_converter_that_cannot_be_fetched_is_not_guessed(preset, monkeypatch):
    def busy(*_, **__):
        raise ValueError("503 Server Error")

    _, folder = preset("ResNetBackbone", RESNET)
    monkeypatch.setattr(keras_hub.layers.ImageConverter, "from_preset", busy)
    with pytest.raises(ConfigError, match=r"is not available \(503 Server Error\)"):
        registry.build(**spec(folder))


def test_without_a_network(monkeypatch):
    def offline(*_, **__):
        raise OSError("Failed to resolve 'api.kaggle.com'\nsecond line")

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", offline)
    message = r"resnet_18_imagenet is not available \(Failed to resolve 'api.kaggle.com'\). .*attach it .*hub/FOLDER$"
    with pytest.raises(ConfigError, match=message):
        registry.build(**spec("resnet_18_imagenet"))


def test_a_preset_mounted_on_kaggle_is_taken_from_there(tmp_path):
    for version in ("9", "10"):
        folder = tmp_path / "models/keras/resnetv1/keras/resnet_18_imagenet" / version
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    assert find_preset("resnet_18_imagenet", tmp_path) == str(folder)
    assert find_preset("resnet_50_imagenet", tmp_path) == "resnet_50_imagenet"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (spec("resnet_18_imagent"), "no KerasHub preset, .*did you mean 'resnet_18_imagenet'"),
        (spec("ResNetBackbon"), "did you mean 'ResNetBackbone'"),
        (spec("qqqqqqqq"), r"has this name; see https://keras\.io"),
        (spec("ResNetBackbone"), "missing 6 required positional arguments"),
        (spec("ResNetBackbone", {**RESNET, "block_type": "none"}), "block_type"),
        (spec("ResNetBackbone", RESNET, unit=3), "unexpected keyword argument 'unit'"),
        (spec("BertBackbone", {"vocabulary_size": 9, "num_layers": 1, "num_heads": 1, "hidden_dim": 8,
                               "intermediate_dim": 8}), "not a backbone of images alone"),
    ],
)  # fmt: skip
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(ConfigError, match=message):
        registry.build(**arguments)


@pytest.mark.parametrize(
    ("weights", "message"),
    [("imagenet", "no ImageNet weights: use model.weights=none"), ("preset", "preset does not exist")],
)
def test_weights_that_a_class_does_not_have(weights, message):
    with pytest.raises(ConfigError, match=message):
        pretrained(spec("ResNetBackbone", RESNET), weights)


def test_keras_hub_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras_hub", None)
    with pytest.raises(ConfigError, match=r"need keras-hub .*: pip install keras-hub"):
        registry.model_card("hub/ResNetBackbone")
