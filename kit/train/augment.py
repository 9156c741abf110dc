"""Random changes of training images on the accelerator: one fused affine, then colour, then mixing of images.

The layer is part of the model that is fitted (`kit.train.fit.training_model`), never of the one that is saved.
"""

import inspect
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from kit import extensions
from kit.config import AugmentSettings, check_augment
from kit.errors import ConfigError
from kit.train import border
from kit.train.erasing import Erasing, inside
from kit.train.moving import affine, drop_hidden, move_boxes, warp, without_dropped
from kit.train.stain import Stain
from kit.train.tones import Tones


class Augment(keras.layers.Layer):
    """A batch of random changes: {"image", ...} -> the same keys, shapes and dtypes; unchanged outside training.

    "image" uint8 [B, H, W, C] is augmented; "label" float32 [B, L] is mixed where images are (mixup, cutmix, Fourier).
    With the pixels move "mask" float32 [B, H, W, L], 0 where it comes from outside the image or is erased, and "boxes"
    float32 [B, N, 4] (x, y, w, h in pixels; see `move_boxes`). Boxes of which too little stays visible become padding:
    zeros, "box_mask" false, "box_labels" 0. Other keys pass through.

    Flips, rotation, zoom, shear, shift and border are composed into one matrix per image, so that pixels are
    interpolated once. The random numbers of a step depend only on the state of the layer's seed generators. Raises
    ConfigError when keras-cv is needed but not installed, and for images, boxes or masks with a change that they could
    not follow.
    """

    def __init__(self, settings: AugmentSettings, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})  # half precision would round labels that are mixed
        self.settings = settings
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.changes, self.mixes = _changes(settings, seed), _mixes(settings, seed)
        self.erasing = Erasing(settings.erasing, seed + 2) if settings.erasing else None

    def build(self, shapes: Any) -> None:
        pass  # no weights; Keras would warn that layers inside are not built

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        if not training or self.settings == AugmentSettings():
            return inputs
        _check(inputs, self.settings)
        s, (_, height, width, channels) = self.settings, ops.shape(inputs["image"])
        # One draw for everything: columns 0-6 place the image, 7 is brightness, the rest one per channel.
        draw = self._draw(inputs, 8 + channels)
        batch = {**inputs, "image": ops.cast(inputs["image"], "float32")}
        if s.moves:
            batch = self._move(batch, draw[:, :7], height, width)
        x = batch["image"]
        if s.brightness or s.channel_shift:
            x = x * (1 + s.brightness * draw[:, 7, None, None, None]) + s.channel_shift * draw[:, None, None, 8:]
            x = ops.clip(x, 0, 255)
        for change in self.changes:
            x = change(x, training=True)
        batch["image"] = x
        if self.erasing is not None:
            image, rectangles = self.erasing(x)
            batch = _erased(batch, image, rectangles, s.min_visible)
        if self.mixes:
            batch["image"], batch["label"] = self._mix(batch["image"], batch["label"])
        if "boxes" in batch:
            batch = without_dropped(batch)
        return {**batch, "image": ops.cast(ops.clip(ops.round(batch["image"]), 0, 255), "uint8")}

    def _draw(self, batch: dict[str, Any], columns: int) -> Any:
        """Uniform numbers in -1 to 1 for each image, float32 [B, columns]."""
        shape = (ops.shape(batch["image"])[0], columns)
        return keras.random.uniform(shape, -1.0, 1.0, dtype="float32", seed=self.seed_generator)

    def _move(self, batch: dict[str, Any], draw: Any, height: int, width: int) -> dict[str, Any]:
        """The batch with images, masks and boxes moved by one matrix each."""
        s = self.settings
        if isinstance(s.zoom, tuple):
            draw = ops.concatenate([draw, self._draw(batch, 1)], axis=1)
        matrices, frames = affine(draw, s, height, width), None
        if s.border:
            frames = border.frames(self._draw(batch, 4), s.border, height, width)
            matrices = border.framed(matrices, frames, height, width)
        moved = {**batch, "image": warp(batch["image"], matrices, s.fill_mode, s.fill_value)}
        if "mask" in batch:
            moved["mask"] = warp(batch["mask"], matrices, "constant", 0.0)
        if frames is not None:
            shown = inside(frames, height, width)
            moved |= {key: ops.where(shown, moved[key], 0.0) for key in ("image", "mask") if key in moved}
        if "boxes" in batch:
            moved["boxes"] = move_boxes(batch["boxes"], matrices, height, width, s.min_visible, frames)
        return moved

    def _mix(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Images and labels by one of the mixes, drawn for the whole batch. All are computed: a step is one graph."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Explicitly requested dtype int64")  # by MixUp, of JAX: harmless
            mixed = [mix({"images": images, "labels": labels}, training=True) for mix in self.mixes]
        chosen = keras.random.randint((), 0, len(mixed), seed=self.seed_generator) if len(mixed) > 1 else 0
        parts = [ops.stack([batch[key] for batch in mixed]) for key in ("images", "labels")]
        return ops.take(parts[0], chosen, axis=0), ops.take(parts[1], chosen, axis=0)

    def compute_output_spec(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        _check(inputs, self.settings)
        return {key: keras.KerasTensor(x.shape, x.dtype) for key, x in inputs.items()}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "settings": self.settings.model_dump()}


def _erased(batch: dict[str, Any], image: Any, rectangles: Any, min_visible: float) -> dict[str, Any]:
    """The batch with this image, of which the rectangles [B, 4] are hidden."""
    erased = {**batch, "image": image}
    if "mask" in batch:
        erased["mask"] = ops.where(inside(rectangles, *ops.shape(image)[1:3]), 0.0, batch["mask"])
    if "boxes" in batch:
        erased["boxes"] = drop_hidden(batch["boxes"], rectangles, min_visible)
    return erased


def _check(inputs: dict[str, Any], settings: AugmentSettings) -> None:
    """Raise ConfigError for images, boxes or masks together with a change that they cannot follow."""
    prediction = "boxes" if "boxes" in inputs or "mask" in inputs else "probabilities"
    check_augment(settings, prediction, "gray" if inputs["image"].shape[-1] == 1 else "rgb")


def _changes(settings: AugmentSettings, seed: int) -> list[Any]:
    """Layers that change each image on its own, on floats in 0..255."""
    changes: list[Any] = []
    if settings.contrast or settings.gamma or settings.histogram:
        changes.append(Tones(settings.contrast, settings.gamma, settings.histogram, seed + 9))
    if settings.stain:
        changes.append(Stain(settings.stain, seed + 10))
    if settings.rand_augment:
        factor = settings.rand_augment
        changes.append(keras.layers.RandAugment((0, 255), num_ops=2, factor=factor, seed=seed + 1, dtype="float32"))
    if settings.grid_mask:
        grid = _keras_cv("grid_mask").GridMask(ratio_factor=(0.2, 0.5), seed=seed + 3, dtype="float32")
        changes.append(_Sometimes(grid, settings.grid_mask, seed + 4))
    changes += [_own(name, seed + 20 + n) for n, name in enumerate(settings.layers)]
    return changes


def _own(name: str, seed: int) -> Any:
    """A layer of one's own, with the seed where it takes one; raises ConfigError for what is no layer."""
    make, short = extensions.load(name), name.rpartition(":")[2]
    usage = f"class {short}(keras.layers.Layer)"
    seeds = {"seed": seed} if callable(make) and "seed" in inspect.signature(make).parameters else {}
    extensions.require_call(make, name, usage, **seeds)
    layer = extensions.call_of(name)(**seeds)
    if not isinstance(layer, keras.layers.Layer):
        raise ConfigError(f"{name} is no layer of Keras: write it as `{usage}`")
    return layer


def try_layers(settings: AugmentSettings, shape: tuple[int, int, int]) -> None:
    """Raise ConfigError for a layer of one's own that fails on such images, or changes their shape."""
    images = ops.convert_to_tensor(np.full((2, *shape), 100, "float32"))
    for name in settings.layers:
        changed = extensions.guarded(_own(name, 0), name)(images, training=True)
        if getattr(changed, "shape", None) != images.shape:
            raise ConfigError(
                f"{name} makes {getattr(changed, 'shape', type(changed).__name__)} of images {tuple(images.shape)}: a "
                "layer changes pixels, not shapes"
            )


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
