"""TensorFlow-Hub image models under a head: `tfhub:HANDLE` or `tfhub:FOLDER`, frozen or fine-tuned (TensorFlow only).

The SavedModel holds the weights (`model.weights=saved_model`) and cannot be had without them: `none` starts from them,
too. Loading a trained model needs the SavedModel, for its network, and takes the weights from `model.weights.h5`.
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

# What 0..255 is multiplied by, and what is then added.
_SCALES = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}


def card(name: str) -> ModelCard:
    """The card of `tfhub:HANDLE`, without loading anything.

    Beside those of the head, its builder takes `trainable` (fine-tune the SavedModel; its own dropout and batch
    normalisation then train, too) and `scale`: what the SavedModel expects RGB in, `0..1` (the TensorFlow-Hub
    convention for images), `-1..1` or `0..255`.
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

    Its variables are the layer's weights: optimisers train them, and weight files hold them. Without `tuned` none of
    them ever changes, whatever `trainable` is set to later. Raises ConfigError when there is no such SavedModel, or it
    is to be tuned and can only infer.
    """

    def __init__(self, handle: str, tuned: bool = False, **layer: Any) -> None:
        super().__init__(**{"dtype": "float32", **layer})  # the types of a SavedModel were fixed when it was saved
        self.handle, self.tuned = handle, tuned
        self.restored = tfhub.load(handle, f"model tfhub:{handle}")
        # One that is callable is made to be used again (TF2's format); a signature is a graph for inference alone.
        self.function = self.restored if callable(self.restored) else _signature(self.restored, handle)
        reusable = self.function is self.restored
        if tuned and not reusable:
            raise ConfigError(f"tfhub:{handle} can only infer (it is not callable): model.arguments.trainable=false")
        user = f"model tfhub:{handle}"
        self.told = reusable and tfhub.import_hub(user).keras_layer.func_has_training_argument(self.restored)
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
        """Run the SavedModel; frozen, it infers in training too, so that its batch statistics stay."""
        if self.function is not self.restored:
            (name,) = self.function.structured_input_signature[1]
            made = self.function(**{name: images})
        elif self.told:
            made = self.function(images, training=bool(training and self.trainable and self.tuned))
        else:
            made = self.function(images)
        if isinstance(made, dict):
            made = made.get("default", list(made.values())[-1])
        return made

    def compute_output_shape(self, shape: Any) -> Any:
        """What one black image of that size gives; the SavedModel's own error when it takes none of that size."""
        tf = import_tensorflow()
        with tf.init_scope():
            made = self.call(tf.zeros((1, *shape[1:])))
        return (shape[0], *made.shape[1:])

    def get_config(self) -> dict[str, Any]:
        """The handle, and whether it is tuned."""
        return {**super().get_config(), "handle": self.handle, "tuned": self.tuned}


def _backbone(shape: tuple[int, int, int], name: str, trainable: bool = False, scale: str = "0..1") -> keras.Model:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"model {name} runs on TensorFlow alone, not on {keras.backend.backend()}: set runtime.backend=tensorflow"
        )
    if scale not in _SCALES:
        raise ConfigError(f"model.arguments.scale = {scale}: no such range{nearest(str(scale), _SCALES)}")
    saved_model = SavedModel(name.removeprefix("tfhub:"), trainable, name="saved_model")
    try:
        found = saved_model.compute_output_shape((None, *shape))
    except (ValueError, TypeError, import_tensorflow().errors.OpError) as error:
        wanted = _sizes(saved_model.function)
        reason = f"it takes {wanted}" if wanted else (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"model {name} cannot be built for images of {shape[0]}x{shape[1]}: {reason}") from error
    if len(found) not in (2, 3, 4):
        raise ConfigError(f"model {name} gives {found}, which is no feature vector, tokens or feature map")
    images = keras.Input(shape)
    factor, offset = _SCALES[scale]
    return keras.Model(images, saved_model(layers.Rescaling(factor, offset=offset, name="scale")(images)))


def _signature(restored: Any, handle: str) -> Any:
    found = [restored.signatures[name] for name in ("serving_default", "default") if name in restored.signatures]
    if not found or len(found[0].structured_input_signature[1]) != 1:
        raise ConfigError(f"tfhub:{handle} is neither callable nor has it a signature that takes images alone")
    return found[0]


def _variables(restored: Any, function: Any) -> list[tuple[Any, bool]]:
    """The variables and which are trainable: as the SavedModel lists them, or, if it does not, those that it uses."""
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
    """The image sizes that its graphs were made for, such as `224x224`; empty when it does not say."""
    tensors = [t for f in _concrete(function) for t in import_tensorflow().nest.flatten(f.structured_input_signature)]
    shapes = [tuple(t.shape) for t in tensors if getattr(getattr(t, "shape", None), "rank", None) == 4]
    return " or ".join(sorted({f"{height}x{width}" for _, height, width, _ in shapes if height and width}))
