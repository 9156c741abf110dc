"""One suite over the whole registry: a model that is registered is tested."""

import math

import numpy as np
import pytest

from kit.errors import ConfigError


@pytest.fixture(scope="module")
def registry(keras):
    from kit.models import registry

    return registry


# Every network of the kit's own, and of each library's families one that is quick to build.
LARGE = ("convnext", "densenet", "efficientnet", "inception", "nasnet", "resnet", "vgg", "xception", "mobilenet")
BOTH = ("pcam_cnn", "pcam_cnn_tuned", "squeezenet")  # what JAX compiles in no time
QUICK = ("efficientnet_lite0", "resnet18", "vgg16_flat64", "mobilenet")
SLOW = ("efficientnetb0", "mobilenet_v3_small")  # of the same makers as mobilenet: by `make test-all`


def pytest_generate_tests(metafunc):
    if {"name", "built"} & set(metafunc.fixturenames):
        from kit.config import RuntimeSettings
        from kit.runtime import devices

        devices.set_up(RuntimeSettings())
        from kit.models import registry

        names = [
            n if n in BOTH else pytest.param(n, marks=[pytest.mark.once, *([pytest.mark.slow] if n in SLOW else [])])
            for n in registry.list_models()
            if (n in QUICK + SLOW or not n.startswith(LARGE)) and registry.model_card(n).prediction == "probabilities"
        ]
        which = "name" if "name" in metafunc.fixturenames else "built"
        metafunc.parametrize(which, names, indirect=which == "built", scope="module")


@pytest.fixture(scope="module")
def built(request, registry, keras):
    """A model of each name at 96 px with two outputs, built once."""
    keras.utils.set_random_seed(0)
    yield registry.build(request.param, shape=(96, 96, 3), outputs=2)
    keras.utils.clear_session()


@pytest.fixture(autouse=True)
def _seed(keras):
    keras.utils.set_random_seed(0)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # of the systems themselves, and of Keras's backbones under GAP-1024-1 as they were counted elsewhere
        ("nih_cnn", 26_002_606),
        ("pcam_cnn", 227_265),
        ("pcam_cnn_tuned", 3_402_241),
        ("pneumonia_mlp", 77_238_785),
        ("pneumonia_cnn", 26_212_545),
        ("rsna_separable_cnn", 3_593_473),
        ("rsna_cnn", 2_747_841),
        ("vgg16_flat64", 16_320_449),
        ("resnet50", 25_686_913),
        ("efficientnetb0", 5_362_340),
        ("resnet101", 44_757_377),
        ("resnet152", 60_470_145),
        ("resnet50v2", 25_664_001),
        ("densenet121", 8_088_129),
        ("inception_v3", 23_901_985),
        ("efficientnetb1", 7_888_008),
        ("mobilenet_v2", 3_570_753),
        ("vgg16", 15_241_025),
        ("resnet18", 11_689_512 - 513_000 + 9_600 + 512 * 1024 + 1024 + 1025),  # torchvision's, without and with a top
        ("squeezenet", 722_496 + 512 * 1024 + 1024 + 1025),
    ],
)
def test_cards_say_what_was_counted_elsewhere(registry, model, parameters):
    assert registry.model_card(model).parameters[0] == parameters


@pytest.mark.once
def test_resnet50_with_two_dense_layers_is_the_pneumonia_system(registry):
    model = registry.build("resnet50", shape=(224, 224, 3), outputs=1, units=[1024, 512])
    assert model.count_params() == 26_211_201
    model.get_layer("backbone").trainable = False
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == 2_623_489


def test_uint8_images_become_probabilities_that_repeat(built, images, keras):
    assert built.inputs[0].dtype == "uint8"
    p = built.predict_on_batch(images)
    assert p.shape == (4, 2)
    assert p.dtype == np.float32
    # an untrained deep network may well be so sure that float32 says 1
    assert ((p >= 0) & (p <= 1)).all()
    before = [np.array(weight) for weight in built.get_weights()]
    # relative to nothing but float noise: a bare call must not augment, drop out or use batch statistics
    assert np.allclose(p, keras.ops.convert_to_numpy(built(images)), atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(before, built.get_weights(), strict=True))


def test_every_trainable_weight_learns(built, images, keras):
    if built.name == "features_model":
        pytest.skip("a head is fitted on standardised features: tests/train/test_heads.py")
    eagerly = keras.backend.backend() == "tensorflow"  # a graph for one step takes longer than the step
    built.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", run_eagerly=eagerly)
    before = [keras.ops.convert_to_numpy(w).copy() for w in built.trainable_weights]
    built.train_on_batch(images, np.array([[0.0, 1], [1, 0], [0, 1], [1, 0]], np.float32))
    after = [keras.ops.convert_to_numpy(w) for w in built.trainable_weights]
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    # a bias before batch normalisation has no gradient but noise, and a dead ReLU none: so nearly all
    assert moved[0]
    assert np.mean(moved) > 0.8


def test_grey_images_and_softmax_after_save_and_load(registry, keras, name, images, tmp_path):
    from kit.models.saved import load_model, save_model

    spec = {"name": name, "shape": (96, 96, 1), "outputs": 3, "activation": "softmax"}
    model = registry.build(**spec)
    grey = images[..., :1]
    p = keras.ops.convert_to_numpy(model(grey))
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    assert [path.name for path in save_model(model, spec, tmp_path)] == ["model.json", "model.weights.h5"]
    assert np.array_equal(keras.ops.convert_to_numpy(load_model(tmp_path)(grey)), p)


@pytest.mark.parametrize(
    ("way", "module"),
    [("caffe", "resnet"), ("tf", "mobilenet"), ("torch", "densenet"), ("own", "efficientnet")],
)
def test_preprocessing_is_that_of_keras(keras, images, way, module):
    from kit.models.applications import preprocess

    expected = getattr(keras.applications, module).preprocess_input(images.astype("float32"))
    pixels = keras.ops.convert_to_numpy(preprocess(keras.ops.convert_to_tensor(images.astype("float32")), way))
    assert np.allclose(pixels, expected, atol=1e-4)


def test_every_application_of_keras_is_there_with_its_preprocessing(keras):
    from kit.models.applications import _TABLE

    classes = {name for name in dir(keras.applications) if name[0].isupper()}
    assert classes == {row[1] for row in _TABLE}
    ways = {"resnet_v2": "tf", "resnet": "caffe", "densenet": "torch", "inception_resnet_v2": "tf"}
    ways |= {"inception_v3": "tf", "mobilenet": "tf", "mobilenet_v2": "tf", "nasnet": "tf", "xception": "tf"}
    ways |= {"vgg16": "caffe", "vgg19": "caffe"}
    for _, name, way, *_ in _TABLE:
        module = getattr(keras.applications, name).__module__.rsplit(".", 1)[-1]
        assert way == ways.get(module, "own"), name


@pytest.mark.once
def test_published_files_are_those_that_keras_asks_for(keras, monkeypatch):
    import sys

    from kit.models.applications import _TABLE

    requests = []

    def get_file(name, *_, file_hash=None, **__):
        requests.append((name, file_hash))
        raise Exception("offline")

    for row in _TABLE:
        application = getattr(keras.applications, row[1])
        if row[0] in ("mobilenet", "mobilenet_v3_small", "resnet50", "vgg16", "efficientnetb0"):
            module = sys.modules[application.__module__]
            monkeypatch.setattr(module.file_utils, "get_file", get_file)
            with pytest.raises(Exception, match="offline"):
                application(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
            assert requests.pop() == row[5:7]


@pytest.mark.parametrize("pool", ["gap", "gem", "average+max", "flatten"])
def test_heads(registry, images, keras, pool):
    arguments = {"pool": pool, "units": [8, 4], "dropout": 0.3, "dropout_samples": 3, "l2": 0.01}
    model = registry.build("squeezenet", shape=(96, 96, 3), outputs=2, **arguments)
    width = {"gap": 512, "gem": 512, "average+max": 1024, "flatten": 5 * 5 * 512}[pool]
    assert model.get_layer("dense").kernel.shape == (width, 8)
    assert model.get_layer("dense_1").kernel.shape == (8, 4)
    assert len(model.losses) == 2
    assert model.predict_on_batch(images).shape == (4, 2)
    plain = registry.build("squeezenet", shape=(96, 96, 3), outputs=2, pool=pool, units=[8, 4])
    plain.set_weights(model.get_weights())  # without dropout the masks agree, and so do the models
    assert np.allclose(plain.predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)


def test_generalised_mean_is_between_mean_and_maximum(keras):
    from kit.models.pooling import GeneralizedMean

    x = np.random.default_rng(0).random((2, 5, 5, 3)).astype("float32") + 0.1
    layer = GeneralizedMean()
    assert np.allclose(keras.ops.convert_to_numpy(layer(x)), np.mean(x**3, (1, 2)) ** (1 / 3), atol=1e-6)
    layer.exponent.assign(1.0)
    assert np.allclose(keras.ops.convert_to_numpy(layer(x)), x.mean((1, 2)), atol=1e-6)
    layer.exponent.assign(60.0)
    assert np.allclose(keras.ops.convert_to_numpy(layer(x)), x.max((1, 2)), rtol=0.06)


def test_a_backbone_that_is_cut(registry, images):
    model = registry.build("mobilenet", shape=(96, 96, 3), outputs=1, until="conv_pw_5_relu")
    assert model.get_layer("backbone").output.shape == (None, 12, 12, 256)
    assert model.predict_on_batch(images).shape == (4, 1)
    with pytest.raises(ConfigError, match=r"until = conv_pw_5_rel: .* did you mean 'conv_pw_5_relu'"):
        registry.build("mobilenet", shape=(96, 96, 3), outputs=1, until="conv_pw_5_rel")


def test_large_images(registry):
    model = registry.build("squeezenet", shape=(512, 512, 1), outputs=1)
    assert model.predict_on_batch(np.zeros((1, 512, 512, 1), np.uint8)).shape == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5"}, "unknown model 'resnet5'; did you mean 'resnet50'"),
        ({"name": "pcam_cnn", "unit": 3}, "unexpected keyword argument 'unit'"),
        ({"name": "pcam_cnn_tuned", "shape": (48, 48, 3)}, r"cannot be built for images of \(48, 48, 3\)"),
        ({"name": "squeezenet", "pool": "gep"}, "no such pooling; did you mean 'gem'"),
    ],
)
def test_what_cannot_be_built(registry, arguments, message):
    with pytest.raises(ConfigError, match=message):
        registry.build(**{"shape": (96, 96, 3), "outputs": 1, **arguments})


def test_a_model_folder_that_is_broken(registry, tmp_path):
    from kit.errors import DataError
    from kit.models.saved import load_model, save_model

    spec = {"name": "pcam_cnn", "shape": (32, 32, 3), "outputs": 1}
    with pytest.raises(DataError, match=r"model\.json does not exist"):
        load_model(tmp_path)
    save_model(registry.build(**spec), spec, tmp_path)
    (tmp_path / "model.weights.h5").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"model\.weights\.h5 is damaged .* train it again"):
        load_model(tmp_path)
    other = {**spec, "outputs": 2}
    save_model(registry.build(**other), spec, tmp_path)
    with pytest.raises(DataError, match="does not hold the weights of pcam_cnn"):
        load_model(tmp_path)
