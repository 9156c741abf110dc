import numpy as np
import pytest

NAN = float("nan")


def test_without_unknown_labels_it_is_keras_own(keras):
    from kit.train.losses import known_binary_crossentropy

    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (6, 3)).astype(np.float32), rng.random((6, 3)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.losses.binary_crossentropy(y, p))
    assert keras.ops.convert_to_numpy(known_binary_crossentropy(y, p)) == pytest.approx(expected, rel=1e-6)


def test_an_unknown_label_counts_for_nothing(keras):
    from kit.train.losses import known_binary_crossentropy

    y, p = np.array([[1, NAN], [NAN, NAN]], np.float32), np.array([[0.8, 0.3], [0.1, 0.9]], np.float32)
    values = keras.ops.convert_to_numpy(known_binary_crossentropy(y, p))
    assert values == pytest.approx([-np.log(0.8) / 2, 0])


def test_a_model_learns_the_known_labels_and_stays_finite(keras):
    from kit.train.losses import LOSSES

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((64, 2)).astype(np.float32)
    y = (x > 0.5).astype(np.float32)
    hidden = y.copy()
    hidden[::2, 1] = NAN
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="sigmoid")])
    model.compile(optimizer=keras.optimizers.Adam(0.2), loss=LOSSES["multilabel"])
    model.fit(x, hidden, epochs=40, verbose=0)
    assert ((model.predict(x, verbose=0) > 0.5) == y).mean() > 0.95
