"""Where a model's features are: its last feature map, its pyramid, and the stages of its backbone.

Functions here return models that share the layers of the one they are given. Gradients with respect to a feature map
need `split`: an intermediate output of one model is not what its later layers were computed from.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from kit.errors import ConfigError
from kit.models.cards import BACKBONE
from kit.models.heads import PROBABILITIES
from kit.runtime import keras_private

_LEVELS = range(2, 6)  # of pyramids: P2 (stride 4) to P5 (stride 32)
_STRIDED = (
    keras.layers.AveragePooling2D,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.MaxPooling2D,
    keras.layers.SeparableConv2D,
)
_MASK, _REGIONS = "mask", "detections"  # layers after the logits of networks that paint, and that judge regions
_ANSWERS = ("logits", _MASK)  # what a painted mask is made of: maps, but no features
_BORDERS = (keras.layers.Cropping2D, keras.layers.ZeroPadding2D)


def split(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """`model` in two: images -> features, and features -> probabilities.

    The features are the last feature map [B, h, w, C], or the last tokens [B, n, C] (see `as_map`); of a head that
    takes several levels (`with_levels`) a list, the last map first. Raises ConfigError when the model has neither.
    """
    last = _features(model)
    nodes = [node for node in _nodes(model) if node.operation.name == BACKBONE]
    levels = nodes[0].output_tensors if nodes else [last]
    features = levels if len(levels) > 1 else last
    return keras.Model(model.inputs, features), keras.Model(features, model.outputs[0])


class Parts(NamedTuple):
    """A model in two: `encoder`, images -> a list of features, and `scorer`, that list -> logits [B, labels].

    `maps` are the numbers of those features whose places are places of the images: feature maps, or tokens (`as_map`).
    """

    encoder: keras.Model
    scorer: keras.Model
    maps: list[int]


def up_to_logits(model: keras.Model) -> Parts:
    """A model in two where its head begins, up to the logits: what comes before sigmoid or softmax.

    The features are all that the head takes of the backbones: several maps where it takes several levels, those of
    every view where it averages views; of views, `maps` has the image as it is alone. Of a network that finds boxes,
    the logit is that of its most likely place, or region. Raises ConfigError where there is no feature map or logit.
    """
    logits = _logits(model)
    nodes = [node for node in _nodes(model) if node.operation.name.startswith(BACKBONE)]
    if not nodes:
        features, maps = [_features(model)], [0]
    else:
        features = [tensor for node in nodes for tensor in node.output_tensors]
        backbones = {id(node.operation) for node in nodes}
        upright = nodes if len(nodes) == len(backbones) else [n for n in nodes if n.input_tensors[0] is model.inputs[0]]
        own = {id(tensor) for node in upright for tensor in node.output_tensors if len(tensor.shape) in (3, 4)}
        maps = [n for n, tensor in enumerate(features) if id(tensor) in own]
        if not maps:
            raise ConfigError(f"model {model.name} has no feature map: its head takes a vector")
    try:
        return Parts(keras.Model(model.inputs, features), keras.Model(features, logits), maps)
    except ValueError as error:  # Keras: the graph is disconnected
        raise ConfigError(
            f"the head of model {model.name} takes more than its last feature map: choose the method occlusion"
        ) from error


def _logits(model: keras.Model) -> Any:
    """The tensor [B, labels] of logits of a model, or (of a network that finds boxes) the largest of all places."""
    names = {layer.name for layer in model.layers}
    if isinstance(model.output, Mapping):
        if "logits" in model.output:
            places = model.output["logits"]
        elif _MASK in names:
            places = layers.Reshape((-1, model.get_layer(_MASK).input.shape[-1]))(model.get_layer(_MASK).input)
        elif _REGIONS in names:  # [B, regions, background and labels]
            regions = model.get_layer(_REGIONS)
            proposed, judged, _ = regions.input
            judged = ops.reshape(judged, (-1, proposed.shape[1], regions.labels + 1))
            places = judged[..., 1:] - judged[..., :1]
        else:
            raise ConfigError(
                f"model {model.name} has no logit for gradients to start from: choose the method occlusion"
            )
        return ops.max(places, axis=1)
    if PROBABILITIES not in names:
        raise ConfigError(f"model {model.name} has no layer {PROBABILITIES}, before which its logits are")
    return model.get_layer(PROBABILITIES).input


def with_feature_map(model: keras.Model) -> keras.Model:
    """Images -> (last feature map [B, h, w, C], probabilities [B, outputs]).

    Raises ConfigError when the model has no feature map.
    """
    feature_map = as_map(_features(model), model.input_shape[1:3])
    return keras.Model(model.inputs, [feature_map, model.outputs[0]])


def with_pyramid(model: keras.Model) -> keras.Model:
    """Images -> {"P2": [B, h, w, C], ...}: a feature map for each stride of 4 to 32 pixels (P2 to P5) that there is.

    A level is the last output of its stride that everything after it is computed from, or, where there is none, the
    last of those with the most channels. Strides are nominal: unpadded convolutions make maps smaller than that. A
    vision transformer has one level. Raises ConfigError when there is none at all.
    """
    nodes = [node for node in _nodes(model) if node.operation.name == BACKBONE]
    if not nodes:
        return keras.Model(model.inputs, _levels(model, model))
    levels = keras.Model(nodes[0].operation.inputs, _levels(nodes[0].operation, model), name=BACKBONE)
    return keras.Model(model.inputs, levels(nodes[0].input_tensors[0]))


def before_head(model: keras.Model, name: str, levels: Sequence[str] = ()) -> keras.Model:
    """Images -> what the model's head takes: a feature map, tokens or a vector [B, C]; ConfigError for none.

    After a map come those `levels` of its backbone's pyramid that end before it; then the model has several outputs.
    """
    last = _features(model, (2, 3, 4))
    if levels and len(last.shape) == 4 and any(node.operation.name == BACKBONE for node in _nodes(model)):
        last = _last_and_earlier(last, with_pyramid(model).output, levels)
    return keras.Model(model.inputs[0], last, name=name)


def with_levels(backbone: keras.Model, levels: Sequence[str]) -> keras.Model:
    """The backbone with those `levels` of its pyramid that end before its last map as further outputs, after it."""
    if len(backbone.output.shape) != 4:
        return backbone
    outputs = _last_and_earlier(backbone.output, _levels(backbone, backbone), levels)
    return keras.Model(backbone.inputs, outputs, name=backbone.name)


def _last_and_earlier(last: Any, pyramid: Mapping[str, Any], levels: Sequence[str]) -> Any:
    """[the last map, ...earlier `levels`]; the last map alone where it is not the end of the last level."""
    maps = [pyramid[level] for level in levels if level in pyramid]
    return [maps[-1], *maps[:-1]] if len(maps) > 1 and maps[-1].shape == last.shape else last


def leading_tokens(tokens: Any, image: tuple[int, int]) -> int:
    """How many tokens (class, registers) of [B, n, C] come before those of the patches; 0 where these form no grid."""
    try:
        height, width = _grid(tokens.shape[1], image)
    except ConfigError:
        return 0
    return int(tokens.shape[1] - height * width)


def as_map(features: Any, image: tuple[int, int]) -> Any:
    """Feature maps [B, h, w, C] as they are; tokens [B, n, C] of images of that height and width as [B, h, w, C].

    Works for gradients with respect to features, too. Tokens before those of the patches (class, registers) are
    dropped. Raises ConfigError when the tokens do not form a grid.
    """
    if len(features.shape) == 4:
        return features
    tokens = features.shape[1]
    height, width = _grid(tokens, image)
    patches = features[:, tokens - height * width :]
    return ops.reshape(patches, (-1, height, width, features.shape[-1]))


def stages(network: keras.Model) -> list[int]:
    """For each layer the number of its stage, counted from the end: the layers of one stride are a stage.

    A stage without weights, such as a last pooling, does not count. A network that never shrinks its tokens, such as a
    vision transformer, is one stage.
    """
    nodes = _nodes(network)
    tensors = _strides(nodes)
    strides = {id(node.operation): tensors[id(node.output_tensors[0])] for node in nodes}
    learnt = {strides[id(layer)] for layer in network.layers if layer.weights}
    return [sum(stride > strides[id(layer)] for stride in learnt) for layer in network.layers]


def _features(model: keras.Model, ranks: tuple[int, ...] = (3, 4)) -> keras.KerasTensor:
    """What the head takes: the backbone's output; without a backbone, the last feature map that has been learnt."""
    features, learnt = None, False
    for node in _nodes(model):
        output = node.output_tensors[0]
        learnt = learnt or bool(getattr(node.operation, "weights", ()))
        if node.operation.name == BACKBONE:
            features = output
            break
        if learnt and len(output.shape) == 4 and node.operation.name not in _ANSWERS:
            features = output
    if features is None or len(features.shape) not in ranks:
        raise ConfigError(f"model {model.name} has no feature map: its head takes a vector")
    return features


def _levels(network: keras.Model, model: keras.Model) -> dict[str, Any]:
    nodes = _nodes(network)
    strides, waists = _strides(nodes), {id(node) for node in _waists(nodes)}
    best: dict[int, tuple[tuple[bool, int], Any]] = {}
    for node in nodes:
        for output in _maps_of(node, model.input_shape[1:3]):
            if not _extent(output) or isinstance(node.operation, _BORDERS):
                continue
            level = round(math.log2(strides[id(output)]))
            rank = (True, 0) if id(node) in waists else (False, output.shape[-1])
            if level in _LEVELS and (level not in best or rank >= best[level][0]):
                best[level] = (rank, output)
    if not best:
        raise ConfigError(f"model {model.name} has no feature maps of stride 4 to 32")
    return {f"P{level}": as_map(best[level][1], model.input_shape[1:3]) for level in sorted(best)}


def _maps_of(node: Any, image: tuple[int, int]) -> list[Any]:
    """A call's first output, and those of the others that have the proportions of the image (attentions do not)."""
    first, *others = node.output_tensors
    maps = [output for output in others if len(output.shape) == 4 and None not in output.shape[1:3]]
    return [first, *(each for each in maps if abs(each.shape[1] * image[1] / image[0] - each.shape[2]) <= 1)]


def _waists(nodes: list[Any]) -> Iterator[Any]:
    """The nodes whose outputs everything after them is computed from: nothing computed earlier is used later."""
    last_use = {id(tensor): n for n, node in enumerate(nodes) for tensor in node.input_tensors}
    reach = 0
    for n, node in enumerate(nodes):
        if reach <= n:
            yield node
        reach = max(reach, *(last_use.get(id(tensor), 0) for tensor in node.output_tensors))


def _strides(nodes: list[Any]) -> dict[int, int]:
    """The stride in pixels of each output, by `id()`, as the layers declare it; of other layers, by the sizes."""
    strides: dict[int, int] = {}
    for node in nodes:
        stride = min((strides[id(tensor)] for tensor in node.input_tensors), default=1)
        strides |= {id(tensor): stride * _step(node, tensor) for tensor in node.output_tensors}
    return strides


def _step(node: Any, output: Any) -> int:
    if isinstance(node.operation, _STRIDED):
        return node.operation.strides[0]
    before = max(map(_extent, node.input_tensors), default=0.0)
    after = _extent(output)
    if not before or after <= 1:  # a vector, or the single pixel of squeeze and excitation
        return 1
    return 2 ** max(0, round(math.log2(before / after)))


def _extent(tensor: Any) -> float:
    """The side of a feature map, or of the grid of as many tokens, in positions; 0 of anything else."""
    positions = tensor.shape[1:-1] if len(tensor.shape) in (3, 4) else (0,)
    return math.sqrt(math.prod(side or 0 for side in positions))


def _grid(tokens: int, image: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the largest grid of square patches of an image that has no more than so many tokens."""
    height, width = image
    sides = [side for side in range(1, min(image) + 1) if (height // side) * (width // side) <= tokens]
    even = [side for side in sides if height % side == 0 and width % side == 0]
    for side in [*even[:1], *sides[:1]]:
        rows, columns = height // side, width // side
        if tokens - rows * columns <= 8:  # class and register tokens
            return rows, columns
    raise ConfigError(f"{tokens} tokens of images of {height}x{width} form no grid of patches: no feature map")


def _nodes(network: keras.Model) -> list[Any]:
    """The calls that a functional model consists of, in an order in which they can be made."""
    by_depth = keras_private.nodes_by_depth(network)
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
