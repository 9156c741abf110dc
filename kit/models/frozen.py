"""The model `features`: a small head on the pooled features of one or several frozen backbones.

Only its head is fitted, on features that are computed once (kit.stages.features). The whole is an ordinary model from
uint8 images to probabilities, so whatever takes a model takes this one too. With `views`, features are their mean over
mirrored or turned images, in training as in prediction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, nearest
from kit.lazy import lazy
from kit.models import heads, registry
from kit.models.cards import BACKBONE, ModelCard

if TYPE_CHECKING:
    import keras
    import numpy as np

    from kit.models.boosted import BoostedModel
else:
    keras, np = lazy("keras"), lazy("numpy")
layers, ops = lazy("keras.layers"), lazy("keras.ops")

DEFAULT, HEAD = "efficientnet_lite0", "linear"  # the backbone and the head, unless others are named
# Of pooling: the class token; the means of the last maps of strides 8, 16 and 32, side by side; the mean of the last
# map or of the tokens, and their generalised mean with exponent 3.
KINDS = ("cls", "levels", "mean", "gem")
STANDARDISE = "standardise"
_TURNS = {  # views as (quarter turns, mirrored)
    "none": ((0, False),),
    "mirror": ((0, False), (0, True)),
    "flips": ((0, False), (0, True), (2, False), (2, True)),
    "dihedral": tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True)),
}


def build(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    backbone: str | Sequence[str] = DEFAULT,
    backbone_arguments: Mapping[str, Any] | None = None,
    head: str = HEAD,
    pool: str | Sequence[str] | None = None,
    views: str = "none",
    units: int = 256,
    dropout: float = 0.5,
    metadata: str | Sequence[str] = (),
    per_group: bool = True,
) -> keras.Model:
    """Images -> frozen backbones -> pooled features, side by side -> standardisation -> head -> probabilities.

    `backbone_arguments` are those of the backbone; of several, a dictionary for each by its name. `pool` are kinds of
    pooling; by default `levels`, since earlier maps say more of images unlike ImageNet's, and where a network has no
    such maps the class token (if there is one) and the mean. `units` and `dropout` are of the head `mlp`.
    Of the head `gbdt` the network is the linear head, which trees correct by columns of the example table (`metadata`)
    and, with `per_group`, by how far out an image is among those of its group (patient).
    Raises ConfigError for names that do not exist.
    """
    _require("head", head, _HEADS)
    _require("views", views, _TURNS)
    if metadata_columns({"metadata": metadata}) and head != "gbdt":
        raise ConfigError(f"model.arguments.metadata is of the head gbdt: head={head} looks at images alone")
    pool = [pool] if isinstance(pool, str) else pool
    for kind in pool or ():
        _require("pool", kind, KINDS)
    image = heads.image_input(shape)
    seen = [turned(image, *turn) for turn in _TURNS[views]]
    parts: list[Any] = []
    for n, (name, arguments) in enumerate(backbones(backbone, backbone_arguments)):
        network = _network(name, arguments, shape, n)
        kinds = kinds_of(_available(network), pool, name)
        parts += _pooled(network, seen, kinds).values()
    x = layers.Concatenate(name="features", dtype="float32")(parts) if len(parts) > 1 else parts[0]
    from kit.models.pooling import Standardise  # here: it needs Keras, and listing the models does not

    x = Standardise(name=STANDARDISE, dtype="float32")(x)
    return keras.Model(image, _HEADS[head](x, outputs, activation, units, dropout), name="features_model")


def backbones(
    backbone: str | Sequence[str], arguments: Mapping[str, Any] | None = None
) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and arguments of the backbones; raises ConfigError for arguments that are not theirs."""
    names, own = registry.names_of(backbone), dict(arguments or {})
    if len(names) == 1:
        return [(names[0], own)]
    if len({*names}) < len(names):
        raise ConfigError(f"model.arguments.backbone names {max(names, key=names.count)} twice")
    if wrong := [key for key in own if key not in names or not isinstance(own[key], Mapping)]:
        raise ConfigError(
            f"model.arguments.backbone_arguments.{wrong[0]}: of several backbones, write {{NAME: {{...}}}} for each"
        )
    return [(name, own.get(name, {})) for name in names]


def kinds_of(pooled: Collection[str], pool: Sequence[str] | None, name: str) -> list[str]:
    """The kinds of pooling, of those that a backbone has, that its head takes; ConfigError where there is none."""
    default = ["levels"] if "levels" in pooled else ["cls", "mean"]
    kinds = [kind for kind in KINDS if kind in pooled and kind in (pool or default)]
    if not kinds:
        raise ConfigError(f"model.arguments.pool = {list(pool or ())}: {name} has {', '.join(pooled)} alone")
    return kinds


def metadata_columns(arguments: Mapping[str, Any]) -> list[str]:
    """The columns of the example table that the head of a model with such arguments takes; raises ConfigError."""
    names = arguments.get("metadata", ())
    if isinstance(names, str):
        return [name.strip() for name in names.split(",") if name.strip()]
    if isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names):
        return list(names)
    raise ConfigError(f"model.arguments.metadata = {names!r}: name columns of the example table, such as [age, sex]")


def networks(model: keras.Model) -> list[keras.Model]:
    """The frozen networks of a model that `build` returned, from images to features."""
    return [layer for layer in model.layers if layer.name.startswith(BACKBONE)]


def extractor(network: keras.Model, views: str, pool: Sequence[str] | None) -> keras.Model:
    """Images -> pooled features of a network, {kind: float32 [B, d]}."""
    image = heads.image_input(network.input_shape[1:])
    seen = [turned(image, *turn) for turn in _TURNS[views]]
    return keras.Model(image, _pooled(network, seen, pooling_of(network, pool)))


def pooling_of(network: keras.Model, pool: Sequence[str] | None) -> list[str]:
    """The kinds of pooling that the head takes of a network."""
    return kinds_of(_available(network), pool, network.name)


def head_of(model: keras.Model) -> keras.Model:
    """What follows the pooled features: float32 [B, d] -> probabilities; it shares the model's layers."""
    return keras.Model(model.get_layer(STANDARDISE).input, model.outputs[0])


class Together:
    """Models with the same frozen networks and different heads, as one that runs the networks once.

    `network`: images -> what each of the models' networks says, a list of [B, labels].
    """

    def __init__(self, models: Sequence[keras.Model | BoostedModel]) -> None:
        whole: list[Any] = [getattr(model, "network", model) for model in models]
        features = whole[0].get_layer(STANDARDISE).input
        self.network = keras.Model(whole[0].inputs, [head_of(model)(features) for model in whole])
        self._trees = [getattr(model, "trees", None) for model in models]

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """What each model predicts, float32 [B, models, labels]; raises what `BoostedModel` raises."""
        parts = zip(self.network.predict_on_batch(images), self._trees, strict=True)
        return np.stack([trees.probabilities(p) if trees else p for p, trees in parts], axis=1)


def together(models: Sequence[keras.Model | BoostedModel]) -> Together | None:
    """The models as one, where they are several heads on the same frozen networks; else None."""
    whole: list[Any] = [getattr(model, "network", model) for model in models]
    if len(whole) < 2 or not all(any(layer.name == STANDARDISE for layer in each.layers) for each in whole):
        return None
    first, *others = ([digest(network) for network in networks(each)] for each in whole)
    return Together(models) if all(other == first for other in others) else None


def digest(network: keras.Model) -> str:
    """SHA-256 of a network's weights, in their order."""
    total = hashlib.sha256()
    for weight in network.weights:
        total.update(ops.convert_to_numpy(weight).tobytes())
    return total.hexdigest()


def head_width(model: keras.Model) -> int:
    """How many pooled features the head takes."""
    return int(model.get_layer(STANDARDISE).input.shape[-1])


def _network(name: str, arguments: Mapping[str, Any], shape: tuple[int, int, int], n: int) -> keras.Model:
    """Backbone number `n`, frozen, with its preprocessing: images -> its last map and earlier ones, or tokens."""
    from kit.models import features  # here: it loads Keras

    card = registry.model_card(name)
    if card.fitted != "network" or card.prediction != "probabilities":
        raise ConfigError(f"model.arguments.backbone = {name}: choose a network that is trained as a whole")
    built = registry.build(name, shape=shape, outputs=1, **arguments)
    network = features.before_head(built, f"{BACKBONE}_{n + 1}" if n else BACKBONE, heads.LEVELS)
    network.trainable = False
    return network


def _available(network: keras.Model) -> list[str]:
    """The kinds of pooling that a network allows."""
    from kit.models.features import leading_tokens

    last, *earlier = network.outputs
    if len(last.shape) == 2:
        return ["mean"]
    has_cls = len(last.shape) == 3 and leading_tokens(last, network.input_shape[1:3]) > 0
    return [kind for kind in KINDS if {"cls": has_cls, "levels": bool(earlier)}.get(kind, True)]


def _pooled(network: keras.Model, views: Sequence[Any], kinds: Sequence[str]) -> dict[str, Any]:
    """The pooled features of a network by kind, float32 [B, d] each, averaged over the views."""
    from kit.models.features import leading_tokens
    from kit.models.pooling import Pool

    last = network.outputs[0]
    leading = leading_tokens(last, network.input_shape[1:3]) if len(last.shape) == 3 else 0
    maps = [outputs if isinstance(outputs, list) else [outputs] for outputs in map(network, views)]

    def pooled(kind: str) -> Any:
        if kind != "levels":
            pool = Pool(kind, leading, name=f"{kind}_{network.name}", dtype="float32")
            return _mean([pool(outputs[0]) for outputs in maps])
        pool = Pool("mean", name=f"levels_{network.name}", dtype="float32")
        return layers.Concatenate(dtype="float32")([_mean(list(map(pool, each))) for each in zip(*maps, strict=True)])

    return {kind: pooled(kind) for kind in kinds}


def _mean(parts: Sequence[Any]) -> Any:
    return layers.Average(dtype="float32")(parts) if len(parts) > 1 else parts[0]


def turned(images: Any, quarters: int, mirrored: bool) -> Any:
    """Images [B, H, W, C] mirrored (left to right) or not, then turned by so many quarters."""
    x = ops.flip(images, axis=2) if mirrored else images
    if quarters == 2:
        return ops.flip(x, axis=(1, 2))
    if quarters:
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.flip(x, axis=1 if quarters == 1 else 2)
    return x


def _linear(x: Any, outputs: int, activation: str, units: int, dropout: float) -> Any:
    return heads.output(x, outputs, activation)


def _mlp(x: Any, outputs: int, activation: str, units: int, dropout: float) -> Any:
    x = layers.Dense(units, activation="relu", name="dense")(x)
    return heads.output(x, outputs, activation, dropout)


# The fit of each head is in kit.train.heads.
_HEADS: dict[str, Callable[[Any, int, str, int, float], Any]] = {"linear": _linear, "mlp": _mlp, "gbdt": _linear}


def _require(argument: str, value: Any, names: Collection[str]) -> None:
    if value not in names:
        raise ConfigError(
            f"model.arguments.{argument} = {value!r}: one of {', '.join(names)}{nearest(str(value), names)}"
        )


registry.register(
    ModelCard(
        "features",
        build,
        size=224,
        weights="imagenet",
        parameters=(3_419_601, 2_193),
        licence="Apache-2.0",
        source="a head on pooled features of frozen backbones, any of the other models",
        backbone=DEFAULT,
        fitted="head",
    )
)
