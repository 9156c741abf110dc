"""TensorFlow-Hub image models under a head: `tfhub:HANDLE` or `tfhub:FOLDER`, frozen or fine-tuned (TensorFlow only).

The SavedModel always brings its weights (`model.weights=saved_model`): `none` starts from them, too. Loading a trained
model needs the SavedModel for its network, and takes the weights from `model.weights.h5`.
"""

from functools import partial
from typing import Any

import keras
from keras import layers

from kit.errors import ConfigError, nearest
from kit.models.cards import ModelCard, Provided
from kit.models.registry import backbone_card
from kit.runtime import keras_private, tfhub
from kit.runtime.devices import import_tensorflow

# range -> factor and offset of values in 0..255
_SCALES = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}


def card(name: str) -> ModelCard:
    """The card of `tfhub:HANDLE`, without loading anything.

    Besides the head's arguments its builder takes `trainable` (fine-tune the SavedModel; its dropout and batch
    normalisation then run in training mode) and `scale`, the range in which the SavedModel expects RGB: `0..1` (the
    TensorFlow-Hub convention for images), `-1..1` or `0..255`.
    """
    return backbone_card(
        name,
        partial(_backbone, name=name),
        lambda x: x,
        ("trainable", "scale"),
        size=224,
        weights="saved_model",
        source=name.removeprefix("tfhub:"),
        published=Provided("saved_model"),
    )


@keras.saving.register_keras_serializable("kit")
class SavedModel(layers.Layer):
    """A SavedModel as a layer: float32 images [B, H, W, 3] -> float32 features [B, D], [B, n, D] or [B, h, w, D].

    Its variables are the layer's weights: optimisers train them, and weight files hold them. Without `tuned` they never
    change, whatever `trainable` is set to later. Raises ConfigError when the SavedModel does not exist, or cannot be
    trained and `tuned` is set.
    """

    def __init__(self, handle: str, tuned: bool = False, **layer: Any) -> None:
        super().__init__(**{"dtype": "float32", **layer})  # a SavedModel's dtypes are fixed
        self.handle, self.tuned = handle, tuned
        self.restored = tfhub.load(handle, f"model tfhub:{handle}")
        # A callable one is reusable (TF2's format); a signature is a graph for inference only.
        self.function = self.restored if callable(self.restored) else _signature(self.restored, handle)
        reusable = self.function is self.restored
        if tuned and not reusable:
            raise ConfigError(
                f"tfhub:{handle} cannot be trained (it is not callable): set model.arguments.trainable=false"
            )
        user = f"model tfhub:{handle}"
        self.takes_training = reusable and tfhub.import_hub(user).keras_layer.func_has_training_argument(self.restored)
        for n, (variable, trainable) in enumerate(_variables(self.restored, self.function)):
            weight = self.add_weight(
                shape=tuple(variable.shape),
                dtype=variable.dtype.name,
                initializer="zeros",
                trainable=tuned and trainable,
                name=f"v{n}_" + variable.name.split(":")[0].replace("/", "_"),
            )
            keras_private.adopt_variable(weight, variable)

    def call(self, images: Any, training: bool = False) -> Any:
        if self.function is not self.restored:
            (name,) = self.function.structured_input_signature[1]
            features = self.function(**{name: images})
        elif self.takes_training:
            # a frozen one runs in inference mode, so that its batch statistics stay as they are
            features = self.function(images, training=bool(training and self.trainable and self.tuned))
        else:
            features = self.function(images)
        if isinstance(features, dict):
            features = features.get("default", list(features.values())[-1])
        return features

    def compute_output_shape(self, shape: Any) -> Any:
        """The shape for one black image of that size; the SavedModel's own error when it does not take that size."""
        tf = import_tensorflow()
        with tf.init_scope():
            features = self.call(tf.zeros((1, *shape[1:])))
        return (shape[0], *features.shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "handle": self.handle, "tuned": self.tuned}


def _backbone(shape: tuple[int, int, int], name: str, trainable: bool = False, scale: str = "0..1") -> keras.Model:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"model {name} runs on TensorFlow only, not on {keras.backend.backend()}: set runtime.backend=tensorflow"
        )
    if scale not in _SCALES:
        raise ConfigError(f"model.arguments.scale = {scale}: no such range{nearest(str(scale), _SCALES)}")
    saved_model = SavedModel(name.removeprefix("tfhub:"), trainable, name="saved_model")
    try:
        features = saved_model.compute_output_shape((None, *shape))
    except (ValueError, TypeError, import_tensorflow().errors.OpError) as error:
        sizes = _sizes(saved_model.function)
        reason = f"it takes {sizes}" if sizes else (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"model {name} cannot be built for images of {shape[0]}x{shape[1]}: {reason}") from error
    if len(features) not in (2, 3, 4):
        raise ConfigError(f"model {name} returns {features}: not a feature map, tokens or a vector")
    images = keras.Input(shape)
    factor, offset = _SCALES[scale]
    return keras.Model(images, saved_model(layers.Rescaling(factor, offset=offset, name="scale")(images)))


def _signature(restored: Any, handle: str) -> Any:
    names = [name for name in ("serving_default", "default") if name in restored.signatures]
    if not names or len(restored.signatures[names[0]].structured_input_signature[1]) != 1:
        raise ConfigError(f"tfhub:{handle} is not callable, and has no signature that takes only images")
    return restored.signatures[names[0]]


def _variables(restored: Any, function: Any) -> list[tuple[Any, bool]]:
    """The variables and whether each is trainable: as the SavedModel lists them, or else those that it uses."""
    if hasattr(restored, "variables"):
        trainable = {id(v) for v in getattr(restored, "trainable_variables", [])}
        return [(v, id(v) in trainable) for v in restored.variables]
    used = {id(v): v for concrete in _concrete(function) for v in concrete.variables}
    return [(v, v.trainable) for v in used.values()]


def _concrete(function: Any) -> list[Any]:
    if hasattr(function, "structured_input_signature"):
        return [function]
    return list(getattr(function.__call__, "concrete_functions", []))


def _sizes(function: Any) -> str:
    """The image sizes its graphs were traced for, such as `224x224`; empty where they are not fixed."""
    tensors = [t for f in _concrete(function) for t in import_tensorflow().nest.flatten(f.structured_input_signature)]
    shapes = [tuple(t.shape) for t in tensors if getattr(getattr(t, "shape", None), "rank", None) == 4]
    return " or ".join(sorted({f"{height}x{width}" for _, height, width, _ in shapes if height and width}))
