"""Parameters, feature maps, pyramids and stages of every registered model."""

import math

import numpy as np
import pytest

from kit.errors import ConfigError

# Those with fewer levels than P2 to P5.
LEVELS = {
    "breast_cnn": "P2 P3 P4",
    "nih_cnn": "P2 P3",
    "pcam_cnn": "P2",
    "pcam_cnn_tuned": "P2 P3 P4",
    "pneumonia_cnn": "P2 P3 P4",
    "rsna_cnn": "P2 P3 P4",
    "squeezenet": "P2 P3 P4",
}


@pytest.fixture(scope="module")
def features(keras):
    from kit.models import features

    return features


@pytest.fixture
def build(keras):
    from kit.models import registry

    keras.utils.set_random_seed(0)
    return lambda name, side=64, **arguments: registry.build(name, shape=(side, side, 3), outputs=2, **arguments)


@pytest.fixture
def images():
    return lambda side=64: np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)


@pytest.fixture
def levels(keras, features):
    """A function: model -> the shapes of its pyramid's maps, by level."""

    def shapes(model):
        pyramid = features.with_pyramid(model)(keras.Input(model.input_shape[1:], dtype="uint8"))
        return {level: tuple(feature_map.shape) for level, feature_map in pyramid.items()}

    return shapes


@pytest.mark.once
def test_parameters_are_those_of_the_card(outline, registered):
    from kit.models.registry import model_card

    model = outline(registered)
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == model_card(registered).parameters


@pytest.mark.once
def test_every_model_has_a_feature_map_and_a_pyramid(features, outline, levels, classifier):
    model = outline(classifier)
    if classifier == "pneumonia_mlp":
        with pytest.raises(ConfigError, match="model pneumonia_mlp has no feature map: its head takes a vector"):
            features.with_feature_map(model)
        with pytest.raises(ConfigError, match="model pneumonia_mlp has no feature maps of stride 4 to 32"):
            features.with_pyramid(model)
        return
    feature_map, probabilities = features.with_feature_map(model).output_shape
    assert len(feature_map) == 4
    assert feature_map[1] == feature_map[2] >= 2
    assert probabilities == model.output_shape
    maps, side = levels(model), model.input_shape[1]
    assert list(maps) == LEVELS.get(classifier, "P2 P3 P4 P5").split()
    for level, (_, height, width, _) in maps.items():
        stride = 2 ** int(level[1:])
        assert 0.7 * side / stride <= height == width <= math.ceil(side / stride), level  # borders may be lost
    if classifier != "rsna_separable_cnn":  # whose last map has a stride of 64
        assert maps[max(maps)] == feature_map


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "channels"),
    [  # what has passed whole blocks, not one of their branches, as detectors on these networks take it
        ("resnet50", [256, 512, 1024, 2048]),
        ("resnet50v2", [256, 512, 1024, 2048]),
        ("densenet121", [128, 256, 512, 1024]),
        ("inception_v3", [192, 288, 768, 2048]),
        ("efficientnetb0", [144, 240, 672, 1280]),
        ("efficientnet_lite0", [144, 240, 672, 1280]),
        ("convnext_tiny", [96, 192, 384, 768]),
        ("nasnet_mobile", [44, 264, 528, 1056]),  # whose cells take the one before the last, too
    ],
)
def test_levels_are_the_ends_of_stages(outline, levels, name, channels):
    assert [shape[-1] for shape in levels(outline(name)).values()] == channels


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("squeezenet", {"pool": "average+max", "units": [8, 4]}, marks=pytest.mark.once),
        ("pcam_cnn", {"units": 8}),
        pytest.param("nih_cnn", {}, marks=pytest.mark.once),
        pytest.param("vgg16_flat64", {}, marks=pytest.mark.once),
        pytest.param("efficientnet_lite0", {"units": []}, marks=pytest.mark.once),
        pytest.param("mobilenet", {"units": 8, "until": "conv_pw_5_relu", "pool": "gem"}, marks=pytest.mark.once),
    ],
)
def test_the_head_on_the_feature_map_gives_the_models_probabilities(features, build, images, name, arguments):
    model = build(name, **arguments)
    body, head = features.split(model)
    expected = model.predict_on_batch(images())
    feature_map = body.predict_on_batch(images())
    assert np.allclose(head.predict_on_batch(feature_map), expected, atol=1e-5)
    both = features.with_feature_map(model).predict_on_batch(images())
    assert np.allclose(both[0], feature_map, atol=1e-5)
    assert np.allclose(both[1], expected, atol=1e-5)
    # the layers are shared, and the model stays what it was
    head.set_weights([np.zeros_like(weight) for weight in head.get_weights()])
    assert np.allclose(model.predict_on_batch(images()), 0.5)
    assert [layer.name for layer in model.layers][-1] == "probabilities"


def test_gradients_reach_the_feature_map(keras, features, build, images):
    body, head = features.split(build("pcam_cnn", units=8))
    feature_map = keras.ops.convert_to_tensor(body.predict_on_batch(images()))
    if keras.backend.backend() == "jax":
        import jax

        gradient = jax.grad(lambda x: head(x)[:, 0].sum())(feature_map)
    else:
        from kit.runtime.devices import import_tensorflow

        with import_tensorflow().GradientTape() as tape:
            tape.watch(feature_map)
            probability = head(feature_map)[:, 0]
        gradient = tape.gradient(probability, feature_map)
    assert np.abs(keras.ops.convert_to_numpy(gradient)).max() > 0


def test_a_pyramids_maps_are_the_networks_own(features, build, images):
    model = build("squeezenet", units=8)
    pyramid = features.with_pyramid(model).predict_on_batch(images())
    assert {level: feature_map.shape for level, feature_map in pyramid.items()} == {
        "P2": (2, 15, 15, 128),
        "P3": (2, 7, 7, 256),
        "P4": (2, 3, 3, 512),
    }
    assert np.allclose(pyramid["P4"], features.split(model)[0].predict_on_batch(images()), atol=1e-5)
    model = build("pcam_cnn", units=8)
    (last,) = features.with_pyramid(model).predict_on_batch(images()).values()
    assert np.allclose(last, features.split(model)[0].predict_on_batch(images()), atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "image", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (197, (224, 224), (14, 14)),  # a class token
        (201, (224, 224), (14, 14)),  # and four registers
        (257, (224, 224), (16, 16)),
        (9, (32, 32), (2, 2)),  # 2x2 patches of 16 pixels and five, rather than 3x3
        (15, (96, 160), (3, 5)),
        (1297, (512, 512), (36, 36)),  # patches of 14 pixels; the border is cut
    ],
)
def test_tokens_as_a_map(features, tokens, image, grid):
    extra = tokens - math.prod(grid)
    places = np.concatenate([np.full(extra, -1), np.arange(math.prod(grid))])
    feature_map = features.as_map(np.repeat(places[None, :, None], 2, axis=2).astype("float32"), image)
    assert np.array_equal(np.array(feature_map)[0, ..., 1], np.arange(math.prod(grid)).reshape(grid))


def test_tokens_that_form_no_grid(features):
    with pytest.raises(ConfigError, match="180 tokens of images of 224x224 form no grid of patches"):
        features.as_map(np.zeros((1, 180, 2), "float32"), (224, 224))


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "largest", "first"),
    [
        ("mobilenet", [7, 14, 28, 56, 112], "conv_dw_12"),
        ("efficientnetb0", [7, 14, 28, 56, 112], "block6a_dwconv"),  # with maps of 1x1 inside every stage
        ("efficientnet_lite0", [7, 14, 28, 56, 112], "blocks_11_depthwise_conv"),
        ("inception_v3", [8, 17, 35, 73, 149], None),  # with borders that shrink the maps as well
        ("vgg16", [14, 28, 56, 112, 224], "block5_conv1"),  # the last pooling has no weights
    ],
)
def test_stages_are_the_sizes_of_the_maps(features, outline, name, largest, first):
    backbone = outline(name).get_layer("backbone")
    stage_of = {layer.name: stage for layer, stage in zip(backbone.layers, features.stages(backbone), strict=True)}
    learnt = [layer for layer in backbone.layers if layer.weights]
    sizes = [{layer.output.shape[1] for layer in learnt if stage_of[layer.name] == n} for n in range(len(largest))]
    assert [max(size) for size in sizes] == largest
    assert first in (None, next(layer.name for layer in learnt if stage_of[layer.name] == 0))


@pytest.mark.once
def test_a_head_on_levels_takes_the_means_of_three_maps(features, build, images, keras):
    model = build("mobilenet", until="conv_pw_12_relu", pool="levels", units=[])
    maps, rest = features.split(model)
    found = maps.predict_on_batch(images())
    assert [each.shape for each in found] == [(2, 2, 2, 1024), (2, 8, 8, 256), (2, 4, 4, 512)]
    widths = model.get_layer("logits").kernel.shape[0]
    assert widths == 1024 + 256 + 512
    assert np.allclose(rest.predict_on_batch(found), model.predict_on_batch(images()), atol=1e-6)
    vector = keras.Model(model.input, model.get_layer("logits").input).predict_on_batch(images())
    assert np.allclose(vector, np.concatenate([each.mean(axis=(1, 2)) for each in found], axis=1), atol=1e-5)


@pytest.mark.once
def test_every_model_can_be_cut_at_its_logits(features, outline, classifier):
    model = outline(classifier)
    if classifier == "pneumonia_mlp":
        with pytest.raises(ConfigError, match="its head takes a vector"):
            features.up_to_logits(model)
        return
    parts = features.up_to_logits(model)
    assert parts.scorer.output_shape == model.output_shape
    assert len(parts.maps) >= 1
