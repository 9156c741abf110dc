"""Each use of a private attribute of Keras does what it promises on the Keras that is installed.

Passed on Keras 3.15.1 with TensorFlow 2.21.0 and JAX 0.10.2, Keras 3.13.2 with TensorFlow 2.20.0 and JAX 0.7.2, and
Keras 3.10.0 with TensorFlow 2.19.1 (see README.md, Versions). Run it on a new version before anything else.
"""

import numpy as np
import pytest


@pytest.fixture
def private(keras):
    from kit.runtime import keras_private

    return keras_private


def dense(keras, **optimizer):
    """A compiled linear model of two weights [1, 2] and a bias, all its weights 1."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones", name="dense")])
    model.layers[0].bias.assign([1.0])
    model.compile(keras.optimizers.SGD(0.1, **optimizer), "mse", jit_compile=False)
    return model


def train(model, batches=1):
    for _ in range(batches):
        model.train_on_batch(np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32))


def test_batch_norms_are_found_at_any_depth_and_once(keras, private):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="inner")], name="a")
    middle = keras.Sequential([keras.Input((4,)), inner, layers.Dense(4), layers.BatchNormalization(name="middle")])
    images = keras.Input((4,))
    shared = layers.BatchNormalization(name="outer")
    model = keras.Model(images, shared(middle(shared(images))))
    norms = private.batch_norms(model)
    assert sorted(layer.name for layer in norms) == ["inner", "middle", "outer"]
    assert all(isinstance(layer, layers.BatchNormalization) for layer in norms)
    assert private.batch_norms(inner)[0] is inner.layers[0]


def test_seed_states_decide_all_randomness_of_a_model(keras, private):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((64,)), layers.Dropout(0.5)])
    model = keras.Sequential([keras.Input((64,)), layers.GaussianNoise(1.0), inner])
    states = private.seed_states(model)
    assert len(states) == 2
    x, outputs = np.ones((1, 64), np.float32), []
    for seed in (1, 1, 2):
        for state in states:
            state.assign(np.array([seed, 7]).astype(state.dtype))
        outputs.append(keras.ops.convert_to_numpy(model(x, training=True)))
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


@pytest.mark.once
def test_an_adopted_variable_is_the_weights_storage(keras, private):
    import tensorflow as tf

    layer = keras.layers.Dense(1, use_bias=False)
    layer.build((None, 2))
    variable = tf.Variable([[2.0], [3.0]])
    private.adopt_variable(layer.kernel, variable)
    assert keras.ops.convert_to_numpy(layer.kernel).tolist() == [[2.0], [3.0]]
    assert keras.ops.convert_to_numpy(layer(np.ones((1, 2), np.float32))).tolist() == [[5.0]]
    layer.kernel.assign([[1.0], [1.0]])
    assert variable.numpy().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("scaled", [False, True])
def test_the_average_and_the_weights_change_places_and_back(keras, private, scaled):
    model = dense(keras, use_ema=True, ema_momentum=0.9)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer)
        model.compile(optimizer, "mse", jit_compile=False)
        assert private.inner_optimizer(optimizer) is not optimizer
    train(model, 3)
    weights = model.get_weights()
    private.swap_average(model)
    averages = model.get_weights()
    assert not np.allclose(weights[0], averages[0])
    assert (averages[0] > weights[0]).all()  # which shrink, and it lags behind
    private.swap_average(model)
    for before, after in zip(weights, model.get_weights(), strict=True):
        assert after == pytest.approx(before, abs=1e-6)


def test_without_an_average_nothing_is_swapped(keras, private):
    model = dense(keras)
    train(model)
    weights = model.get_weights()
    private.swap_average(model)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


def test_batches_are_counted_not_updates(keras, private):
    for parts in (None, 2):
        model = dense(keras, gradient_accumulation_steps=parts)
        train(model, 4)
        counter = private.batch_counter(model.optimizer)
        assert int(keras.ops.convert_to_numpy(counter)) == 4
        assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 4 // (parts or 1)
        counter.assign(6)
        assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 6 // (parts or 1)


def test_the_state_of_updates_is_the_same_for_any_number_of_batches_in_one(keras, private):
    momenta = []
    for parts in (None, 2):
        model = dense(keras, momentum=0.5, use_ema=True, gradient_accumulation_steps=parts)
        train(model, parts or 1)
        momenta.append([keras.ops.convert_to_numpy(v) for v in private.update_state(model.optimizer)])
    one, two = momenta
    assert [v.shape for v in one] == [v.shape for v in two]
    assert sum(v.size for v in one) == 1 + 2 * 3  # the rate; an average and a momentum of three values
    # the average moves with every batch, so of it only the shape is the same
    assert sum(np.allclose(a, b) for a, b in zip(one, two, strict=True)) >= 3


@pytest.mark.parametrize("decay", [None, 0.2])
def test_rates_are_multiplied_variable_by_variable(keras, private, decay):
    kind = private.with_rates(keras.optimizers.SGD, [0.1, 1.0])
    plain = keras.optimizers.SGD(0.5, weight_decay=decay)
    moved = []
    for optimizer, count in ((kind(0.5, weight_decay=decay), 2), (plain, 1)):
        variables = [keras.Variable(np.array([1.0, 2.0], np.float32)) for _ in range(count)]
        optimizer.build(variables)
        optimizer.apply([keras.ops.convert_to_tensor(np.array([3.0, -1.0], np.float32)) for _ in variables])
        moved += [keras.ops.convert_to_numpy(variable) - [1.0, 2.0] for variable in variables]
    slow, fast, expected = moved
    assert fast == pytest.approx(expected)
    assert slow == pytest.approx(expected / 10, rel=1e-5)
    excluded = kind(0.5, weight_decay=0.2)
    variables = [keras.Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "bias")]
    excluded.exclude_from_weight_decay(var_names=["bias"])
    excluded.build(variables)
    excluded.apply([keras.ops.zeros((2,)) for _ in variables])
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    assert values[0] == pytest.approx(np.full(2, 1 - 0.5 * 0.1 * 0.2))
    assert values[1] == pytest.approx(np.ones(2))


def test_the_calls_of_a_network_by_depth(keras, private):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    outputs = keras.layers.Add(name="sum")([hidden, keras.layers.Dense(3, name="other")(inputs)])
    depths = private.nodes_by_depth(keras.Model(inputs, outputs))
    assert sorted(node.operation.name for node in depths[1]) == ["hidden", "other"]
    (last,) = depths[0]
    assert last.operation.name == "sum" and last.output_tensors[0] is outputs
    assert any(tensor is hidden for tensor in last.input_tensors)
