import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from kit.config import LossSettings
from kit.errors import ConfigError

NAN = float("nan")


@pytest.fixture
def loss_of(keras):
    """A function: task, settings, labels y, probabilities p -> the losses [B]; `rows` are all training labels."""

    def values(task, y, p, rows=None, **chosen):
        from kit.train.losses import make_loss

        y = np.array(y, np.float32)
        loss = make_loss(task, LossSettings(**chosen), y if rows is None else np.array(rows, np.float32))
        return keras.ops.convert_to_numpy(loss(keras.ops.convert_to_tensor(y), np.array(p, np.float32)))

    return values


@pytest.fixture
def gradient_of(keras):
    """A function: task, settings, labels y, probabilities p -> the gradient of the mean loss by p."""

    def gradient(task, y, p, **chosen):
        from kit.train.losses import make_loss

        y = np.array(y, np.float32)
        loss = make_loss(task, LossSettings(**chosen), y)
        if keras.backend.backend() == "jax":
            import jax

            return np.asarray(jax.grad(lambda q: loss(y, q).mean())(np.array(p, np.float32)))
        import tensorflow as tf

        q = tf.Variable(np.array(p, np.float32))
        with tf.GradientTape() as tape:
            mean = tf.reduce_mean(loss(tf.constant(y), q))
        return tape.gradient(mean, q).numpy()

    return gradient


@pytest.fixture
def multilabel():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, (6, 3)).astype(np.float32), rng.uniform(0.02, 0.98, (6, 3)).astype(np.float32)


@pytest.fixture
def classes():
    rng = np.random.default_rng(1)
    return np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 1, 1]], rng.dirichlet(np.ones(4), 6).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plain_and_focal_losses_are_those_of_keras(keras, loss_of, multilabel, classes, smoothing):
    as_numpy, losses = keras.ops.convert_to_numpy, keras.losses
    y, p = multilabel
    expected = as_numpy(losses.binary_crossentropy(y, p, label_smoothing=smoothing))
    assert loss_of("multilabel", y, p, smoothing=smoothing) == pytest.approx(expected, rel=1e-5)
    expected = as_numpy(losses.binary_focal_crossentropy(y, p, gamma=3.0, label_smoothing=smoothing))
    focal = loss_of("multilabel", y, p, name="focal", gamma=3.0, smoothing=smoothing)
    assert focal == pytest.approx(expected, rel=1e-5)
    y, p = classes
    expected = as_numpy(losses.categorical_crossentropy(y, p, label_smoothing=smoothing))
    assert loss_of("multiclass", y, p, smoothing=smoothing) == pytest.approx(expected, rel=1e-5)
    expected = as_numpy(losses.categorical_focal_crossentropy(y, p, alpha=1.0, gamma=3.0, label_smoothing=smoothing))
    focal = loss_of("multiclass", y, p, name="focal", gamma=3.0, smoothing=smoothing)
    assert focal == pytest.approx(expected, rel=1e-5)


def test_focus_of_nothing_is_the_plain_loss(loss_of, multilabel, classes):
    for task, (y, p) in (("multilabel", multilabel), ("multiclass", classes)):
        assert loss_of(task, y, p, name="focal", gamma=0) == pytest.approx(loss_of(task, y, p), rel=1e-6)


@pytest.mark.parametrize(("gamma", "clip"), [(4.0, 0.05), (1.0, 0.2), (0.0, 0.0), (0.5, 0.05)])
def test_asymmetric_loss_is_ridniks(loss_of, multilabel, gamma, clip):
    y, p = multilabel
    # Ridnik et al. 2021, eq. 5 to 7, with gamma+ = 0
    shifted = np.maximum(p.astype(float) - clip, 0)
    positive, negative = np.log(p), shifted**gamma * np.log(1 - shifted)
    expected = -(y * positive + (1 - y) * negative).mean(axis=1)
    assert loss_of("multilabel", y, p, name="asymmetric", gamma=gamma, clip=clip) == pytest.approx(expected, rel=1e-4)


def test_an_easy_negative_does_not_count_in_the_asymmetric_loss(loss_of):
    assert loss_of("binary", [[0], [0]], [[0.04], [0.06]], name="asymmetric", clip=0.05) == pytest.approx(
        [0, 0], abs=1e-5
    )
    assert loss_of("binary", [[0]], [[0.06]], name="asymmetric", clip=0.05)[0] > 0


@pytest.mark.parametrize("name", ["crossentropy", "focal", "asymmetric"])
def test_an_unknown_label_does_not_count(loss_of, gradient_of, name):
    y, p = [[1, NAN], [NAN, NAN]], [[0.8, 0.3], [0.1, 0.9]]
    values = loss_of("multilabel", y, p, name=name)
    assert values == pytest.approx([loss_of("binary", [[1]], [[0.8]], name=name)[0] / 2, 0], rel=1e-5)
    gradient = gradient_of("multilabel", y, p, name=name)
    assert gradient[0, 0] < 0
    assert gradient[[0, 1, 1], [1, 0, 1]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["crossentropy", "focal"])
def test_a_row_of_unknown_class_does_not_count(loss_of, gradient_of, name):
    y, p = [[0, 1, 0], [NAN, NAN, NAN]], [[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]
    values = loss_of("multiclass", y, p, name=name)
    assert values == pytest.approx([loss_of("multiclass", y[:1], p[:1], name=name)[0], 0])
    gradient = gradient_of("multiclass", y, p, name=name)
    assert np.isfinite(gradient).all()
    assert gradient[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("name", ["crossentropy", "focal", "asymmetric"])
def test_certain_predictions_have_finite_losses_and_gradients(loss_of, gradient_of, name, gamma):
    p = [[0.0], [1.0], [0.0], [1.0], [0.03], [1e-7], [0.999999]]
    y = [[0], [0], [1], [1], [0], [0], [0]]
    chosen = {"name": name, "gamma": gamma}
    assert np.isfinite(loss_of("binary", y, p, **chosen)).all()
    assert np.isfinite(gradient_of("binary", y, p, **chosen)).all()
    if name != "asymmetric":
        p, y = np.eye(3)[[0, 1, 2]], np.eye(3)[[0, 2, 2]]
        assert np.isfinite(loss_of("multiclass", y, p, **chosen)).all()
        assert np.isfinite(gradient_of("multiclass", y, p, **chosen)).all()


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), p=st.floats(0.001, 0.999))
def test_the_loss_of_mixed_labels_is_the_mix_of_the_losses(keras, share, p):
    from kit.train.losses import make_loss

    def value(task, y, p):
        loss = make_loss(task, LossSettings(), np.array([y], np.float32))
        return float(loss(np.array([y], np.float32), np.array([p], np.float32))[0])

    mixed = share * value("binary", [1.0], [p]) + (1 - share) * value("binary", [0.0], [p])
    assert value("binary", [share], [p]) == pytest.approx(mixed, rel=1e-3, abs=1e-5)
    q = [p, 1 - p]
    mixed = share * value("multiclass", [1, 0], q) + (1 - share) * value("multiclass", [0, 1], q)
    assert value("multiclass", [share, 1 - share], q) == pytest.approx(mixed, rel=1e-3, abs=1e-5)


def test_balanced_weights_are_scikit_learns(keras):
    from kit.train.losses import class_weights

    rng = np.random.default_rng(0)
    y = rng.choice(4, 200, p=[0.1, 0.2, 0.3, 0.4])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=y)
    assert class_weights("multiclass", LossSettings(weights="balanced"), np.eye(4)[y]) == pytest.approx(expected)
    labels = np.column_stack([y == 0, y == 3]).astype(float)
    labels[:50, 0] = NAN  # unknown ones are in no count
    weights = class_weights("multilabel", LossSettings(weights="balanced"), labels)
    assert weights.shape == (2, 2)
    for label in range(2):
        values = labels[~np.isnan(labels[:, label]), label]
        assert weights[label] == pytest.approx(compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=values))


def test_balanced_weights_of_the_pneumonia_x_rays(keras):
    from kit.train.losses import class_weights

    labels = np.repeat([[0.0], [1.0]], [1341, 3875], axis=0)  # normal, pneumonia
    weights = class_weights("binary", LossSettings(weights="balanced"), labels)
    assert weights.round(4).tolist() == [[1.9448, 0.6730]]


def test_effective_numbers_are_cuis(keras):
    from kit.train.losses import class_weights

    labels = np.eye(3)[np.repeat([0, 1, 2], [1, 2, 3])]
    # with beta .5 the effective numbers (1 - .5^n) / (1 - .5) are 1, 1.5 and 1.75; weights in proportion to 1 / those
    inverse = np.array([1, 1 / 1.5, 1 / 1.75])
    weights = class_weights("multiclass", LossSettings(weights="effective", effective_beta=0.5), labels)
    assert weights == pytest.approx(3 * inverse / inverse.sum())
    of_label = class_weights("binary", LossSettings(weights="effective", effective_beta=0.5), labels[:, :1])
    inverse = np.array([0.5 / (1 - 0.5**5), 1.0])  # five negatives, one positive
    assert of_label == pytest.approx((2 * inverse / inverse.sum())[None])


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=6).filter(any),
    way=st.sampled_from(["balanced", "effective"]),
)
def test_weights_are_positive_finite_and_larger_for_rarer_classes(keras, counts, way):
    from kit.train.losses import class_weights

    labels = np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]
    weights = class_weights("multiclass", LossSettings(weights=way), labels)
    assert np.isfinite(weights).all() and (weights > 0).all()
    order = np.argsort(counts, kind="stable")
    assert (np.diff(weights[order]) <= 1e-12).all()
    if way == "balanced":  # every class that occurs weighs the same in all, and on average a row weighs 1
        present = np.array(counts) > 0
        assert (weights * counts)[present] == pytest.approx(sum(counts) / len(counts))


def test_weights_multiply_the_loss_of_what_they_are_for(loss_of):
    plain = loss_of("binary", [[0], [1]], [[0.3], [0.3]])
    weighted = loss_of("binary", [[0], [1]], [[0.3], [0.3]], weights=(0.5, 3.0))
    assert weighted == pytest.approx(plain * [0.5, 3.0])
    y, p = np.eye(3), np.full((3, 3), 1 / 3)
    assert loss_of("multiclass", y, p, weights=(0.1, 3.0, 4.0)) == pytest.approx(np.log(3) * np.array([0.1, 3.0, 4.0]))
    # of several labels each one's positives; a label half mixed in weighs half of both
    y, p = [[1, 0], [0, 1], [0.5, 0]], np.full((3, 2), 0.5)
    expected = np.log(2) * np.array([2.0 + 1, 1 + 7.0, 1.5 + 1]) / 2
    assert loss_of("multilabel", y, p, weights=(2.0, 7.0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("task", "labels", "wrong", "message"),
    [
        ("binary", [[0.0], [1.0]], (1.0,), "1 values, not 2: .negative, positive"),
        ("multiclass", np.eye(3), (1.0, 2.0), "2 values, not 3: one for each class"),
        ("multilabel", np.eye(3), (1.0, 2.0, 3.0, 4.0), "4 values, not 3: one for each label"),
    ],
)
def test_a_wrong_number_of_weights_is_refused(loss_of, task, labels, wrong, message):
    with pytest.raises(ConfigError, match=message):
        loss_of(task, labels, labels, weights=wrong)


def test_asymmetric_is_not_for_classes_that_exclude_each_other(loss_of):
    with pytest.raises(ConfigError, match="asymmetric is for labels"):
        loss_of("multiclass", np.eye(3), np.eye(3), name="asymmetric")


def test_a_model_learns_the_known_labels_and_stays_finite(keras):
    from kit.train.losses import make_loss

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((64, 2)).astype(np.float32)
    y = (x > 0.5).astype(np.float32)
    hidden = y.copy()
    hidden[::2, 1] = NAN
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="sigmoid")])
    model.compile(optimizer=keras.optimizers.Adam(0.2), loss=make_loss("multilabel", LossSettings(), hidden))
    model.fit(x, hidden, epochs=40, verbose=0)
    assert ((model.predict(x, verbose=0) > 0.5) == y).mean() > 0.95
