"""A loss and layers of augmentation in a file of one's own."""

from functools import partial

import numpy as np
import pytest

from kit.config import AugmentSettings, LossSettings
from kit.errors import ConfigError
from tests.own import CODE, name_in


@pytest.fixture
def named(tmp_path):
    """A function: the name, with its digest, of something in a file of that text."""
    return partial(name_in, tmp_path / "mine.py")


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_a_loss_is_what_its_function_says(task, keras, named):
    from kit.train.losses import make_loss

    count = 1 if task == "binary" else 3
    y = np.eye(3, count, dtype="float32")
    p = np.random.default_rng(0).random((3, count)).astype("float32")
    loss = make_loss(task, LossSettings(name=named("squares")), y)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss(y, p)), ((y - p) ** 2).sum(axis=1), rtol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(y): return y", r"loss in .*mine\.py: too many positional arguments: write it as `def loss\(y, p\)`"),
        ("(y, p): return ops.mean(ops.square(p))", r"loss returned .*: expected \(3,\), the loss of each row"),
        ("(y, p): return ops.mean(y * p, axis=-1)", r"not finite for a row whose labels are unknown \(NaN\)"),
        ("(y, p):\n    return p.nothing", r"mine\.py, line \d+: AttributeError: .*nothing"),
    ],
)
def test_what_is_wrong_with_a_loss_is_said_in_one_line(body, message, keras, named):
    from kit.train.losses import make_loss

    with pytest.raises(ConfigError, match=message):
        make_loss("multilabel", LossSettings(name=named("loss", f"{CODE}\ndef loss{body}\n")), np.zeros((4, 2)))


def test_a_layer_changes_pixels_by_the_seed(keras, named):
    from kit.train.augment import Augment, try_layers

    settings = AugmentSettings(layers=(named("Grain"),))
    try_layers(settings, (16, 16, 3))
    images = np.full((4, 16, 16, 3), 100, np.uint8)
    first, again, other = (
        keras.ops.convert_to_numpy(Augment(settings, seed)({"image": images}, training=True)["image"])
        for seed in (1, 1, 2)
    )
    assert first.dtype == np.uint8 and 1 < first.std() < 3
    assert (first == again).all() and (first != other).any()
    assert (keras.ops.convert_to_numpy(Augment(settings, 1)({"image": images})["image"]) == images).all()


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def Bad(): return 3\n", r"Bad is no layer of Keras: write it as `class Bad\(keras\.layers\.Layer\)`"),
        ("class Bad:\n    def __init__(self, size): pass\n", r"Bad in .*: missing a required argument: 'size'"),
        (
            "class Bad(layers.Layer):\n    def call(self, x): return x[:, :4]\n",
            r"makes \(2, 4, 8, 3\) of images",
        ),
        (
            "class Bad(layers.Layer):\n    def call(self, x):\n        return x / y\n",
            r"line \d+: NameError: name 'y'",
        ),
    ],
)
def test_what_is_wrong_with_a_layer_is_said_in_one_line(text, message, keras, named):
    from kit.train.augment import try_layers

    with pytest.raises(ConfigError, match=message) as raised:
        try_layers(AugmentSettings(layers=(named("Bad", CODE + text),)), (8, 8, 3))
    assert "\n" not in str(raised.value)
