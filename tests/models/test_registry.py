"""One suite over the whole registry: a model that is registered is tested."""

import numpy as np
import pytest

from kit.errors import ConfigError


@pytest.fixture(scope="module")
def registry(keras):
    from kit.models import registry

    return registry


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        from kit.config import RuntimeSettings
        from kit.runtime import devices

        devices.set_up(RuntimeSettings())
        from kit.models import registry

        metafunc.parametrize("name", registry.list_models())


@pytest.fixture(autouse=True)
def _seed(keras):
    keras.utils.set_random_seed(0)


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)


def test_parameters_are_those_of_the_card(registry, name):
    card = registry.model_card(name)
    model = registry.build(name, shape=(card.size, card.size, 3), outputs=1, weights="none")
    assert (model.count_params(), count(model.trainable_weights)) == card.parameters


def test_uint8_images_become_probabilities(registry, name, images):
    model = registry.build(name, shape=(96, 96, 3), outputs=2, weights="none")
    assert model.inputs[0].dtype == "uint8"
    p = model.predict_on_batch(images)
    assert p.shape == (4, 2)
    assert p.dtype == np.float32
    # an untrained deep network may well be so sure that float32 says 1
    assert ((p >= 0) & (p <= 1)).all()
    assert len(np.unique(p)) > 1
    several = registry.build(name, shape=(96, 96, 3), outputs=3, activation="softmax", weights="none")
    assert np.allclose(several.predict_on_batch(images).sum(1), 1, atol=1e-5)


def test_calling_a_model_changes_nothing_and_repeats(registry, name, images, keras):
    model = registry.build(name, shape=(96, 96, 3), outputs=1, weights="none")
    before = [np.array(weight) for weight in model.get_weights()]
    first = keras.ops.convert_to_numpy(model(images, training=False))
    # relative to nothing but float noise: a bare call must not augment, drop out or use batch statistics
    assert np.allclose(first, keras.ops.convert_to_numpy(model(images)), atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_every_trainable_weight_learns(registry, name, images, keras):
    model = registry.build(name, shape=(96, 96, 3), outputs=1, weights="none", dropout=0.0)
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    before = [keras.ops.convert_to_numpy(w).copy() for w in model.trainable_weights]
    model.train_on_batch(images, np.array([[0.0], [1.0], [0.0], [1.0]], np.float32))
    after = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    # a bias before batch normalisation has no gradient but noise, and a dead ReLU none: so nearly all
    assert moved[0]
    assert np.mean(moved) > 0.9


def test_grey_images(registry, name):
    model = registry.build(name, shape=(96, 96, 1), outputs=1, weights="none")
    assert model.predict_on_batch(np.zeros((1, 96, 96, 1), np.uint8)).shape == (1, 1)


def test_save_and_load_give_the_same_output(registry, name, images, tmp_path):
    from kit.models.saved import load_model, save_model

    spec = {"name": name, "shape": (96, 96, 3), "outputs": 1, "weights": "none", "units": 16}
    model = registry.build(**spec)
    assert [path.name for path in save_model(model, spec, tmp_path)] == ["model.json", "model.weights.h5"]
    assert np.array_equal(load_model(tmp_path).predict_on_batch(images), model.predict_on_batch(images))


@pytest.mark.parametrize(("backbone", "trainable"), [("resnet50", 2_099_201), ("efficientnetb0", 1_312_769)])
def test_a_frozen_backbone_leaves_the_head(registry, backbone, trainable):
    model = registry.build(backbone, shape=(96, 96, 3), outputs=1, weights="none", freeze_backbone=True)
    assert count(model.trainable_weights) == trainable


def test_resnet_sees_what_keras_preprocessing_gives(registry, images, keras):
    model = registry.build("resnet50", shape=(96, 96, 3), outputs=1, weights="none", units=8)
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    seen = keras.Model(model.inputs, backbone.input_spec and backbone._inbound_nodes[-1].input_tensors[0])
    wanted = keras.applications.resnet.preprocess_input(images.astype("float32"))
    assert np.allclose(seen.predict_on_batch(images), wanted, atol=1e-4)


def test_weights_from_a_file_are_the_files(registry, keras, tmp_path, images):
    source = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(96, 96, 3))
    path = tmp_path / "efficientnetb0_notop.weights.h5"
    source.save_weights(path)
    model = registry.build("efficientnetb0", shape=(96, 96, 3), outputs=1, weights=str(path))
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    assert all(np.array_equal(a, b) for a, b in zip(source.get_weights(), backbone.get_weights(), strict=True))
    with pytest.raises(ConfigError, match="does not hold the weights of ResNet50"):
        registry.build("resnet50", shape=(96, 96, 3), outputs=1, weights=str(path))


def test_imagenet_weights_without_internet_are_an_error(registry, monkeypatch, keras):
    def offline(*_, **__):
        raise Exception("URL fetch failure on https://...: Name or service not known")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    offline.__name__ = "ResNet50"
    with pytest.raises(
        ConfigError, match=r"could not be downloaded \(URL fetch failure.*model\.weights=/path/to/resnet50"
    ):
        registry.build("resnet50", shape=(96, 96, 3), outputs=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "resnet5"}, "unknown model 'resnet5'; did you mean 'resnet50'"),
        ({"name": "pcam_cnn", "unit": 3}, "unexpected keyword argument 'unit'"),
        ({"name": "pcam_cnn", "weights": "imagenet"}, "no pre-trained weights"),
        ({"name": "pcam_cnn_tuned", "shape": (48, 48, 3)}, r"cannot be built for images of \(48, 48, 3\)"),
        ({"name": "resnet50", "weights": "/nowhere.h5"}, r"/nowhere\.h5: no such file"),
    ],
)
def test_what_cannot_be_built(registry, arguments, says):
    with pytest.raises(ConfigError, match=says):
        registry.build(**{"shape": (96, 96, 3), "outputs": 1, **arguments})


def test_a_model_folder_that_is_broken(registry, tmp_path):
    from kit.errors import DataError
    from kit.models.saved import load_model, save_model

    spec = {"name": "pcam_cnn", "shape": (32, 32, 3), "outputs": 1, "weights": "none"}
    with pytest.raises(DataError, match=r"model\.json does not exist"):
        load_model(tmp_path)
    save_model(registry.build(**spec), spec, tmp_path)
    (tmp_path / "model.weights.h5").write_bytes(b"junk")
    with pytest.raises(DataError, match="does not hold the weights of pcam_cnn"):
        load_model(tmp_path)
