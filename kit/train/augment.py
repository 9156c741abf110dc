"""Random changes of training images on the accelerator: one fused affine, then colour, then mixing of images.

The layer is part of the model that is fitted (`kit.train.fit.training_model`), never of the one that is saved.
"""

import math
import warnings
from typing import Any

import keras
from keras import ops

from kit.config import AugmentSettings
from kit.errors import ConfigError


class Augment(keras.layers.Layer):
    """A batch of random changes: {"image", ...} -> the same keys, shapes and dtypes; unchanged outside training.

    "image" uint8 [B, H, W, C] is augmented; "label" float32 [B, L] is mixed where images are (mixup, cutmix, Fourier);
    "boxes" float32 [B, N, 4] (x, y, w, h in pixels; see `move_boxes`) move with the pixels. Other keys pass through.

    Flips, rotation, zoom, shear and shift are composed into one matrix per image, so that pixels are interpolated once.
    The random numbers of a step depend only on the state of the layer's seed generators. Raises ConfigError when
    keras-cv is needed but not installed, and for boxes with a change that they could not follow.
    """

    def __init__(self, settings: AugmentSettings, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})  # half precision would round labels that are mixed
        self.settings = settings
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.changes, self.mixes = _changes(settings, seed), _mixes(settings, seed)

    def build(self, shapes: Any) -> None:
        pass  # no weights; Keras would warn that layers inside are not built

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        if not training or self.settings == AugmentSettings():
            return inputs
        _check_boxes(inputs, self.settings)
        s, (count, height, width, channels) = self.settings, ops.shape(inputs["image"])
        # One draw for everything: columns 0-6 place the image, 7 is brightness, the rest one per channel.
        draw = keras.random.uniform((count, 8 + channels), -1.0, 1.0, dtype="float32", seed=self.seed_generator)
        changed = dict(inputs)
        x = ops.cast(inputs["image"], "float32")
        if any((s.horizontal_flip, s.vertical_flip, s.rotation, s.shift, s.zoom, s.shear)):
            matrices = affine(draw[:, :7], s, height, width)
            x = warp(x, matrices, s.fill_mode, s.fill_value)
            if "boxes" in inputs:
                changed["boxes"] = move_boxes(inputs["boxes"], matrices, height, width)
        if s.brightness or s.channel_shift:
            x = x * (1 + s.brightness * draw[:, 7, None, None, None]) + s.channel_shift * draw[:, None, None, 8:]
            x = ops.clip(x, 0, 255)
        for change in self.changes:
            x = change(x, training=True)
        if self.mixes:
            x, changed["label"] = self._mix(x, inputs["label"])
        return {**changed, "image": ops.cast(ops.clip(ops.round(x), 0, 255), "uint8")}

    def _mix(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Images and labels by one of the mixes, drawn for the whole batch. All are computed: a step is one graph."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Explicitly requested dtype int64")  # by MixUp, of JAX: harmless
            mixed = [mix({"images": images, "labels": labels}, training=True) for mix in self.mixes]
        chosen = keras.random.randint((), 0, len(mixed), seed=self.seed_generator) if len(mixed) > 1 else 0
        parts = [ops.stack([batch[key] for batch in mixed]) for key in ("images", "labels")]
        return ops.take(parts[0], chosen, axis=0), ops.take(parts[1], chosen, axis=0)

    def compute_output_spec(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        _check_boxes(inputs, self.settings)
        return {key: keras.KerasTensor(x.shape, x.dtype) for key, x in inputs.items()}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "settings": self.settings.model_dump()}


def _check_boxes(inputs: dict[str, Any], settings: AugmentSettings) -> None:
    """Raise ConfigError for boxes together with a change that moves or mixes pixels by no matrix."""
    for name in ("rand_augment", "mixup", "cutmix", "fourier_mix"):
        if "boxes" in inputs and getattr(settings, name):
            raise ConfigError(f"augment.{name} does not move boxes along with the pixels: set it to 0")


def affine(draw: Any, settings: AugmentSettings, height: int, width: int) -> Any:
    """The 8 values [B, 8] of `ops.image.affine_transform`, which map output pixels to input pixels.

    `draw` float32 [B, 7], uniform in [-1, 1]: horizontal flip, vertical flip, rotation, zoom, shift x, shift y, shear.
    Around the image's centre c, an output pixel p comes from  c + R·S·F·(p - c) / zoom - shift.
    """
    flip_x = ops.where(draw[:, 0] < 0, -1.0, 1.0) if settings.horizontal_flip else 1.0
    flip_y = ops.where(draw[:, 1] < 0, -1.0, 1.0) if settings.vertical_flip else 1.0
    angle = draw[:, 2] * (settings.rotation * math.pi / 180)
    slant = ops.tan(draw[:, 6] * (settings.shear * math.pi / 180))
    scale = 1 / (1 + draw[:, 3] * settings.zoom)
    cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
    a0, a1 = cos * flip_x, (cos * slant - sin) * flip_y
    b0, b1 = sin * flip_x, (sin * slant + cos) * flip_y
    cx, cy = (width - 1) / 2, (height - 1) / 2
    a2 = cx - a0 * cx - a1 * cy - draw[:, 4] * (settings.shift * width)
    b2 = cy - b0 * cx - b1 * cy - draw[:, 5] * (settings.shift * height)
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def warp(x: Any, matrices: Any, fill_mode: str, fill_value: float = 0.0, interpolation: str = "bilinear") -> Any:
    """Images float32 [B, H, W, C], each transformed by its matrix [B, 8]; use interpolation="nearest" for masks."""
    return ops.image.affine_transform(x, matrices, interpolation, fill_mode, fill_value, data_format="channels_last")


def move_boxes(boxes: Any, matrices: Any, height: int, width: int) -> Any:
    """Boxes float32 [B, N, 4] (x, y, w, h in pixels) where `warp` puts them: each encloses its four moved corners.

    Boxes are clipped to the image; a box outside it, or empty (padding), becomes zeros. A pixel (column i, row j)
    covers i to i + 1 and j to j + 1.
    """
    a0, a1, a2, b0, b1, b2 = (matrices[:, n, None, None] for n in range(6))
    x, y, w, h = (boxes[..., n, None] for n in range(4))
    # The matrix takes output pixels (centres at whole numbers) to input pixels: the corners go the other way.
    corners_x = ops.concatenate([x, x + w, x, x + w], axis=-1) - 0.5 - a2
    corners_y = ops.concatenate([y, y, y + h, y + h], axis=-1) - 0.5 - b2
    determinant = a0 * b1 - a1 * b0
    moved_x = ops.clip((b1 * corners_x - a1 * corners_y) / determinant + 0.5, 0, width)
    moved_y = ops.clip((a0 * corners_y - b0 * corners_x) / determinant + 0.5, 0, height)
    left, top = ops.min(moved_x, axis=-1), ops.min(moved_y, axis=-1)
    wide, high = ops.max(moved_x, axis=-1) - left, ops.max(moved_y, axis=-1) - top
    moved = ops.stack([left, top, wide, high], axis=-1)
    visible = (wide > 0) & (high > 0) & (w[..., 0] > 0) & (h[..., 0] > 0)
    return ops.where(visible[..., None], moved, ops.zeros_like(moved))


def _changes(settings: AugmentSettings, seed: int) -> list[Any]:
    """Layers that change each image on its own, on floats in 0..255."""
    layers, changes = keras.layers, []
    if settings.rand_augment:
        factor = settings.rand_augment
        changes.append(layers.RandAugment((0, 255), num_ops=2, factor=factor, seed=seed + 1, dtype="float32"))
    if settings.erasing:
        share = (settings.erasing, settings.erasing)  # Keras would read one number as a range from 0
        changes.append(
            layers.RandomErasing(share, scale=(0.02, 0.33), value_range=(0, 255), seed=seed + 2, dtype="float32")
        )
    if settings.grid_mask:
        grid = _keras_cv("grid_mask").GridMask(ratio_factor=(0.2, 0.5), seed=seed + 3, dtype="float32")
        changes.append(_Sometimes(grid, settings.grid_mask, seed + 4))
    return changes


class _Sometimes(keras.layers.Layer):
    """Applies a layer to a random share of the images. (keras-cv's RandomApply does not run in a compiled step.)"""

    def __init__(self, change: Any, share: float, seed: int) -> None:
        super().__init__(dtype="float32")
        self.change, self.share, self.seed_generator = change, share, keras.random.SeedGenerator(seed)

    def build(self, shape: Any) -> None:
        pass

    def call(self, x: Any, training: bool = False) -> Any:
        drawn = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), seed=self.seed_generator)
        return ops.where(drawn < self.share, self.change(x, training=training), x)


def _mixes(settings: AugmentSettings, seed: int) -> list[Any]:
    """Layers that mix the images of a batch, and their labels with them."""
    mixes = []
    if settings.mixup:
        mixes.append(keras.layers.MixUp(alpha=settings.mixup, seed=seed + 5, dtype="float32"))
    if settings.cutmix:
        mixes.append(keras.layers.CutMix(factor=settings.cutmix, seed=seed + 6, dtype="float32"))
    if settings.fourier_mix:
        mixes.append(_keras_cv("fourier_mix").FourierMix(alpha=settings.fourier_mix, seed=seed + 7, dtype="float32"))
    return mixes


def _keras_cv(setting: str) -> Any:
    try:
        import keras_cv
    except ImportError as error:
        raise ConfigError(f"augment.{setting} needs keras-cv: pip install keras-cv, or set it to 0") from error
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"augment.{setting} is keras-cv's, which runs on the tensorflow backend only: set it to 0")
    return keras_cv.layers
