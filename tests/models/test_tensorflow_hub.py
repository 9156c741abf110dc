"""TensorFlow-Hub models as backbones: SavedModels made here, no network."""

import numpy as np
import pytest

from kit.errors import ConfigError
from kit.runtime.devices import import_tensorflow

LABELS = np.array([[0.0], [1.0], [0.0], [1.0]], np.float32)


@pytest.fixture(scope="module")
def registry(keras):
    from kit.models import registry

    return registry


@pytest.fixture
def on_tensorflow(keras):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow-Hub's models run on TensorFlow alone")
    keras.utils.set_random_seed(0)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def save_network(folder, *, lists=True, callable_=True, pooled=True, side=None):
    """A convolution and batch normalisation, float32 [B, H, W, 3] -> [B, 4], or [B, H/2, W/2, 4] when not `pooled`.

    `lists`: it lists its variables, as TensorFlow-Hub wants it; not `callable_`: it has a signature alone.
    """
    tf = import_tensorflow()

    class Network(tf.Module):
        variables = trainable_variables = None  # not tf.Module's own, which are not saved

        def __init__(self):
            super().__init__()
            kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype("float32")
            self.kernel = tf.Variable(kernel, name="kernel")
            self.moving_mean = tf.Variable(tf.zeros(4), trainable=False, name="moving_mean")
            self.steps = tf.Variable(tf.constant(0, tf.int64), trainable=False, name="steps")
            if lists:
                self.variables = [self.moving_mean, self.kernel, self.steps]
                self.trainable_variables = [self.kernel]

        @tf.function
        def __call__(self, x, training=False):
            y = tf.nn.conv2d(x, self.kernel, 2, "SAME")
            mean = self.moving_mean
            if training:
                mean = tf.reduce_mean(y, (0, 1, 2))
                self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * mean)
                self.steps.assign_add(1)
            y = tf.nn.relu(y - mean)
            return tf.reduce_mean(y, (1, 2)) if pooled else y

        @tf.function
        def infer(self, x):
            return {"features": self(x)}

    network, pixels = Network(), tf.TensorSpec([None, side, side, 3], tf.float32)
    if not callable_:
        bare = tf.Module()
        bare.network = network.infer.get_concrete_function(pixels)
        bare.variables_ = [network.kernel, network.moving_mean, network.steps]
        tf.saved_model.save(bare, str(folder), signatures={"serving_default": bare.network})
        return folder
    for training in (True, False):
        network.__call__.get_concrete_function(pixels, training=training)
    tf.saved_model.save(network, str(folder))
    return folder


def spec(folder, **more):
    return {"name": f"tfhub:{folder}", "shape": (32, 32, 3), "outputs": 1, "units": 8, **more}


def pretrained(registry, spec, weights=None):
    from kit.models.weights import load_weights

    model = registry.build(**spec)
    load_weights(model, registry.model_card(spec["name"]), weights)
    return model


def held(model):
    return {
        v.name.split("_", 1)[1]: np.array(v) for v in model.get_layer("backbone").get_layer("saved_model").variables
    }


def train(model, images, keras):
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    for _ in range(2):
        model.train_on_batch(images, LABELS)


@pytest.mark.parametrize("lists", [True, False])
def test_frozen_nothing_of_it_changes(registry, on_tensorflow, tmp_path, images, keras, lists):
    model = registry.build(**spec(save_network(tmp_path, lists=lists)))
    before = held(model)
    assert set(before) >= {"kernel", "moving_mean"}
    dense = np.array(model.get_layer("dense").kernel)
    model.get_layer("backbone").trainable = True  # as unfreezing does with every backbone
    train(model, images, keras)
    assert all(np.array_equal(before[name], after) for name, after in held(model).items())
    assert not np.array_equal(dense, model.get_layer("dense").kernel)


@pytest.mark.parametrize("lists", [True, False])
def test_fine_tuned_its_weights_and_statistics_change(registry, on_tensorflow, tmp_path, images, keras, lists):
    model = registry.build(**spec(save_network(tmp_path, lists=lists), trainable=True))
    before = held(model)
    train(model, images, keras)
    after = held(model)
    assert not np.array_equal(before["kernel"], after["kernel"])
    assert not np.array_equal(before["moving_mean"], after["moving_mean"])
    assert after["steps"] == 2
    # frozen for some epochs, as a run may do, it infers
    model.get_layer("backbone").trainable = False
    train(model, images, keras)
    assert all(np.array_equal(value, held(model)[name]) for name, value in after.items())


@pytest.mark.parametrize("trainable", [True, False])
def test_save_and_load_give_the_same_output(registry, on_tensorflow, tmp_path, images, keras, capsys, trainable):
    from kit.models.saved import load_model, save_model

    arguments = spec(save_network(tmp_path / "network"), trainable=trainable)
    model = pretrained(registry, arguments)
    assert "saved_model: 100.0%" in capsys.readouterr().out
    train(model, images, keras)
    save_model(model, arguments, tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"from files outside the run: give --trust"):
        load_model(tmp_path / "saved")
    again = load_model(tmp_path / "saved", trust=True)
    assert np.array_equal(again.predict_on_batch(images), model.predict_on_batch(images))
    assert all(np.array_equal(value, held(again)[name]) for name, value in held(model).items())


def test_weights_of_another_run(registry, on_tensorflow, tmp_path, images, keras):
    from kit.models.saved import save_model

    arguments = spec(save_network(tmp_path / "network"), trainable=True)
    model = registry.build(**arguments)
    train(model, images, keras)
    save_model(model, arguments, tmp_path / "fold0")
    again = pretrained(registry, arguments, f"run:{tmp_path}")
    assert np.array_equal(held(again)["kernel"], held(model)["kernel"])


@pytest.mark.parametrize(("scale", "low", "high"), [("0..1", 0, 1), ("-1..1", -1, 1), ("0..255", 0, 255)])
def test_it_sees_the_range_it_expects(registry, on_tensorflow, tmp_path, keras, scale, low, high):
    backbone = registry.build(**spec(save_network(tmp_path)), scale=scale).get_layer("backbone")
    scaled = keras.Model(backbone.inputs, backbone.get_layer("scale").output)
    x = np.zeros((1, 32, 32, 3), np.float32)
    x[0, 0] = 255
    assert (scaled.predict_on_batch(x).min(), scaled.predict_on_batch(x).max()) == pytest.approx((low, high))


def test_vectors_go_to_the_dense_layers_and_maps_are_pooled(registry, on_tensorflow, tmp_path, images, keras):
    from kit.models.features import with_feature_map

    vector = registry.build(**spec(save_network(tmp_path / "vector")), pool="gem")
    assert "pool" not in [layer.name for layer in vector.layers]
    features = registry.build(**spec(save_network(tmp_path / "map", pooled=False)))
    assert features.get_layer("pool").input.shape == (None, 16, 16, 4)
    ours = keras.Model(features.inputs, features.get_layer("pool").output).predict_on_batch(images)
    theirs = keras.Model(vector.inputs, vector.get_layer("dense").input).predict_on_batch(images)
    assert np.allclose(ours, theirs, atol=1e-6)
    assert with_feature_map(features).output_shape == [(None, 16, 16, 4), (None, 1)]
    with pytest.raises(ConfigError, match="has no feature map: its head takes a vector"):
        with_feature_map(vector)
    grey = registry.build(**{**spec(tmp_path / "vector"), "shape": (48, 32, 1)})
    p = grey.predict_on_batch(np.zeros((2, 48, 32, 1), np.uint8))
    assert p.shape == (2, 1)
    assert ((p > 0) & (p < 1)).all()


def test_half_precision_reaches_the_head_alone(registry, on_tensorflow, tmp_path, images, keras):
    folder = save_network(tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = registry.build(**spec(folder, trainable=True))
        train(model, images, keras)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("dense").compute_dtype == "bfloat16"
    assert held(model)["kernel"].dtype == np.float32


def test_a_signature_can_infer_but_not_learn(registry, on_tensorflow, tmp_path, images, keras):
    folder = save_network(tmp_path, callable_=False)
    model = registry.build(**spec(folder))
    before = held(model)
    train(model, images, keras)
    assert all(np.array_equal(before[name], after) for name, after in held(model).items())
    with pytest.raises(ConfigError, match=r"cannot be trained .*set model\.arguments\.trainable=false"):
        registry.build(**spec(folder), trainable=True)


def test_what_cannot_be_built(registry, on_tensorflow, tmp_path):
    fixed = save_network(tmp_path / "fixed", side=64)
    with pytest.raises(ConfigError, match="cannot be built for images of 32x32: it takes 64x64"):
        registry.build(**spec(fixed))
    with pytest.raises(ConfigError, match=r"model tfhub:.*/none cannot load .*download the model elsewhere"):
        registry.build(**spec(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"scale = 0\.\.2: no such range; did you mean '0\.\.255'"):
        registry.build(**spec(fixed, scale="0..2"))
    with pytest.raises(ConfigError, match=r"no ImageNet weights: use model\.weights=saved_model, none, or a file"):
        pretrained(registry, {**spec(fixed), "shape": (64, 64, 3)}, "imagenet")


def test_jax_is_refused(registry, tmp_path, keras, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ConfigError, match=r"runs on TensorFlow only, not on jax: set runtime\.backend=tensorflow"):
        registry.build(**spec(tmp_path))
