"""Small backbones for tests of frozen features, registered for as long as a test needs them."""

from collections.abc import Iterator
from contextlib import contextmanager

from kit.models import registry


def feature_map(shape):
    """A map [B, h, w, 6]."""
    from keras import Input, Model, layers

    inputs = Input(shape)
    x = layers.Conv2D(6, 5, strides=4, activation="relu", name="conv")(inputs)
    return Model(inputs, layers.BatchNormalization(name="norm")(x))


def levels(shape):
    """Maps of strides 8, 16 and 32, the last of them [B, h, w, 6]."""
    from keras import Input, Model, layers

    x = inputs = Input(shape)
    for n, (channels, stride) in enumerate(((3, 8), (4, 2), (6, 2))):
        x = layers.Conv2D(channels, stride, strides=stride, activation="relu", name=f"conv{n}")(x)
    return Model(inputs, x)


def tokens(shape):
    """A class token and a register before those of 8x8 patches: [B, 2 + n, 5]."""
    from keras import Input, Model, layers

    inputs = Input(shape)
    x = layers.Reshape((-1, 5))(layers.Conv2D(5, 8, strides=8, name="patches")(inputs))
    first = layers.Dense(5, name="first")(layers.GlobalAveragePooling1D(keepdims=True)(x))
    return Model(inputs, layers.Concatenate(axis=1)([first, first, x]))


def vector(shape):
    """A vector [B, 7]."""
    from keras import Input, Model, layers

    inputs = Input(shape)
    return Model(inputs, layers.Dense(7, name="dense")(layers.GlobalAveragePooling2D()(inputs)))


@contextmanager
def registered() -> Iterator[None]:
    """In the block, the models tiny_map, tiny_levels, tiny_tokens and tiny_vector are there."""
    backbones = {"tiny_map": feature_map, "tiny_levels": levels, "tiny_tokens": tokens, "tiny_vector": vector}
    registry.list_models()
    for name, backbone in backbones.items():
        registry.register_backbone(name, backbone, lambda x: x / 255.0, size=32)
    try:
        yield
    finally:
        for name in backbones:
            del registry._CARDS[name]
