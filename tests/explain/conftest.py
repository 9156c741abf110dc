"""Tiny networks whose maps can be computed by hand, and images for them."""

import numpy as np
import pytest

from tests.backbones import registered

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def build(keras):
    """A function: name and arguments -> a registered model for 32x32 images and two labels."""
    from kit.models import registry

    keras.utils.set_random_seed(0)
    with registered():
        yield lambda name, **arguments: registry.build(name, shape=SHAPE, outputs=2, **arguments)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)


@pytest.fixture
def by_hand(keras):
    """A function: head weights [places * 2] -> two channels (x and 2 - x) of 2x2 pixels, flattened, and one logit."""

    def model(weights):
        inputs = keras.Input((2, 2, 1), dtype="uint8")
        x = keras.layers.Rescaling(1.0)(inputs)
        x = keras.layers.Conv2D(2, 1, name="maps")(x)
        x = keras.layers.Dense(1, name="logits")(keras.layers.Flatten()(x))
        network = keras.Model(inputs, keras.layers.Activation("sigmoid", name="probabilities")(x))
        network.get_layer("maps").set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 2.0])])
        network.get_layer("logits").set_weights([np.reshape(weights, (8, 1)), np.array([0.5])])
        return network

    return model
