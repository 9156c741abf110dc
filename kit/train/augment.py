"""Random changes of training images on the accelerator: one fused affine, then colour. Wrapped around the model.

The saved model never holds this layer: a Keras model with augmentation inside augments when it is merely called.
"""

import math
from typing import Any

import keras
from keras import ops

from kit.config import AugmentSettings


class Augment(keras.layers.Layer):
    """uint8 images [B, H, W, C] -> uint8 images, changed in training and as they are otherwise.

    Flips, rotation, zoom and shift are composed into one matrix per image, so that pixels are interpolated once. The
    random numbers of a step depend only on the state of `seed_generator`.
    """

    def __init__(self, settings: AugmentSettings, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """The images, augmented when `training`."""
        if not training:
            return images
        s, (count, height, width, channels) = self.settings, ops.shape(images)
        # One draw for everything: columns 0-6 place the image, 7 is brightness, the rest one per channel.
        draw = keras.random.uniform((count, 8 + channels), -1.0, 1.0, dtype="float32", seed=self.seed_generator)
        x = ops.cast(images, "float32")
        if s.horizontal_flip or s.vertical_flip or s.rotation or s.shift or s.zoom:
            x = ops.image.affine_transform(
                x,
                affine(draw[:, :7], s, height, width),
                "bilinear",
                s.fill_mode,
                s.fill_value,
                data_format="channels_last",
            )
        x = x * (1 + s.brightness * draw[:, 7, None, None, None]) + s.channel_shift * draw[:, None, None, 8:]
        return ops.cast(ops.clip(ops.round(x), 0, 255), "uint8")

    def compute_output_spec(self, images: Any, training: bool = False) -> Any:
        """The same shape and dtype as the input."""
        return keras.KerasTensor(images.shape, images.dtype)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to make the layer again."""
        return {**super().get_config(), "settings": self.settings.model_dump()}


def affine(draw: Any, settings: AugmentSettings, height: int, width: int) -> Any:
    """The 8 values [B, 8] of `ops.image.affine_transform`, which map output pixels to input pixels.

    `draw` float32 [B, 7], uniform in [-1, 1]: horizontal flip, vertical flip, rotation, zoom, shift x, shift y, unused.
    Around the image's centre c, an output pixel p comes from  c + R·F·(p - c) / zoom - shift.
    """
    flip_x = ops.where(draw[:, 0] < 0, -1.0, 1.0) if settings.horizontal_flip else 1.0
    flip_y = ops.where(draw[:, 1] < 0, -1.0, 1.0) if settings.vertical_flip else 1.0
    angle = draw[:, 2] * (settings.rotation * math.pi / 180)
    scale = 1 / (1 + draw[:, 3] * settings.zoom)
    cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
    a0, a1 = cos * flip_x, -sin * flip_y
    b0, b1 = sin * flip_x, cos * flip_y
    cx, cy = (width - 1) / 2, (height - 1) / 2
    a2 = cx - a0 * cx - a1 * cy - draw[:, 4] * (settings.shift * width)
    b2 = cy - b0 * cx - b1 * cy - draw[:, 5] * (settings.shift * height)
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def wrapped(model: keras.Model, settings: AugmentSettings, seed: int) -> keras.Model:
    """A model to fit: augmentation, then `model` itself (the same object, so fitting one trains the other)."""
    inputs = keras.Input(model.input_shape[1:], dtype="uint8")
    return keras.Model(inputs, model(Augment(settings, seed)(inputs)), name="training")
