"""Models as compiled functions, and their gradients."""

import numpy as np


def test_gradients_by_hand(keras):
    from kit.runtime.functions import gradient_of

    one, other = keras.Input((3,)), keras.Input((2,))
    model = keras.Model([one, other], keras.ops.concatenate([keras.ops.square(one)[:, :1], one[:, 1:2]], axis=1))
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    weights = np.array([[1, 0], [2, 10]])
    first, second = gradient_of(model)([x, np.ones((2, 2), np.float32)], weights)
    assert first.tolist() == [[2, 0, 0], [2 * 2 * 4, 10, 0]]
    assert second.tolist() == [[0, 0], [0, 0]]  # the output does not depend on it


def test_what_comes_before_is_part_of_the_call(keras):
    from kit.runtime.functions import compiled

    inputs = keras.Input((2,))
    layer = keras.layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, {"sum": layer(inputs)})
    layer.set_weights([np.array([[1.0], [1.0]])])
    call = compiled(model, lambda x, y: keras.ops.concatenate([x, y], axis=1))
    x, y = np.array([[1.0]], np.float32), np.array([[2.0]], np.float32)
    assert call(x, y)["sum"].tolist() == [[3.0]]
    layer.set_weights([np.array([[1.0], [10.0]])])  # weights are no constants
    assert call(x, y)["sum"].tolist() == [[21.0]]
