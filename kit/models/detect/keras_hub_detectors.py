"""KerasHub's detectors: `hub/PRESET` or `hub/FOLDER` of a D-FINE or RetinaNet, or `hub/CLASS` untrained.

A preset keeps its backbone, neck and box head, and gets new layers for the labels in place of COCO's. A class,
`hub/RetinaNetObjectDetector` or `hub/DFineObjectDetector`, stands on any registered backbone; its argument `config`
takes what KerasHub's classes take. Losses and boxes are kit's own (`retinanet`, `dfine`).
"""

import copy
import json
import math
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kit.errors import ConfigError
from kit.models import heads
from kit.models.cards import BACKBONE, ModelCard, Provided
from kit.models.detect.dfine import HEAD, DFine
from kit.models.detect.neck import levels_of
from kit.models.detect.retinanet import RetinaNet
from kit.models.keras_hub_presets import as_converted, explained, library
from kit.models.registry import identifier, model_card
from kit.runtime import keras_private

RETINANET, DFINE = "RetinaNetObjectDetector", "DFineObjectDetector"
_BACKBONE = "mobilenet"  # of a class, unless its arguments name another
_PRIOR = -math.log(0.99 / 0.01)  # the bias of a label before training: each is rare (Lin et al. 2017, section 4.1)
_SMALL = {  # D-FINE-S
    "encoder_hidden_dim": 256,
    "hidden_dim": 256,
    "num_queries": 300,
    "num_attention_heads": 8,
    "encoder_ffn_dim": 1024,
    "num_encoder_layers": 1,
    "hidden_expansion": 0.5,
    "depth_multiplier": 0.34,
    "num_decoder_layers": 3,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 1024,
    "lqe_hidden_dim": 64,
    "num_lqe_layers": 2,
    "eval_idx": -1,
}


def class_card(name: str) -> ModelCard:
    """The card of `hub/RetinaNetObjectDetector` or `hub/DFineObjectDetector` on a registered backbone.

    Raises ConfigError for another class.
    """
    what = name.removeprefix("hub/")
    if what not in _CLASSES:
        raise ConfigError(f"{name}: of KerasHub's detectors kit has {' and '.join(sorted(_CLASSES))}")
    source = f"keras_hub.models.{what}, kit's loss"
    builder = partial(_CLASSES[what], name)
    weights = model_card(_BACKBONE).weights
    return ModelCard(name, builder, 640, weights, source=source, prediction="boxes", backbone=_BACKBONE)


def preset_card(name: str, preset: str) -> ModelCard:
    """The card of a detector's preset, which is not downloaded yet."""
    return ModelCard(
        name,
        partial(_from_preset, name, preset),
        size=640,
        weights="preset",
        source=f"KerasHub preset {name.removeprefix('hub/')}, kit's loss",
        published=Provided("preset", partial(_with_weights, name, preset), whole=True),
        prediction="boxes",
    )


def is_detector(what: str) -> bool:
    """Whether KerasHub's preset, folder or class of this name is a detector, as far as is known without a network."""
    models = library().models
    if what.endswith("ObjectDetector") and hasattr(models, what):
        return True
    task = Path(what) / "task.json"
    if not task.is_file():
        return what in models.ObjectDetector.presets
    try:
        return str(json.loads(task.read_text())["class_name"]).endswith("ObjectDetector")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{task} is not what KerasHub's save_to_preset writes: save the preset again") from error


def _from_preset(name: str, preset: str, *, shape: tuple[int, int, int], outputs: int, activation: str) -> keras.Model:
    """The untrained network of a preset for images and labels of ours."""
    class_name, config = _config_of(preset, keras.config.dtype_policy().name)
    _require_multiple(name, shape)
    config = _for_images(copy.deepcopy(config), shape)
    config["num_classes"] = outputs
    if class_name == DFINE:
        settings = config["backbone"]["config"]
        settings["num_labels"], settings["anchor_image_size"] = outputs, list(shape[:2])
        settings["num_denoising"] = settings["num_denoising"] if settings.get("labels") is None else 0
        settings["labels"] = None
        if not settings["learn_initial_query"]:
            settings["num_queries"] = min(settings["num_queries"], _places(shape, settings["feat_strides"]))
    task = getattr(library().models, class_name).from_config(config)
    if class_name == DFINE:
        _start_dfine(task.backbone)
    else:
        _start_retinanet(task)
    return _assembled(name, preset, task, shape)


def _with_weights(name: str, preset: str, shape: tuple[int, int, int]) -> keras.Model:
    """The preset as it is, with its weights and COCO's labels, for images of its own size."""
    with explained(preset):
        task = library().models.ObjectDetector.from_preset(preset)
    height, width = task.input_shape[1:3]
    return _assembled(name, preset, task, (height or shape[0], width or shape[1], 3))


@lru_cache(maxsize=4)
def _config_of(preset: str, policy: str) -> tuple[str, dict[str, Any]]:
    """Class and config of a preset's detector, at the current dtype `policy`; downloads it if it is not there yet."""
    with explained(preset):
        task = library().models.ObjectDetector.from_preset(preset, load_weights=False)
    if type(task).__name__ not in _CLASSES:
        raise ConfigError(f"{preset} is a {type(task).__name__}: of KerasHub's detectors kit has {', '.join(_CLASSES)}")
    return type(task).__name__, task.get_config()


def _for_images(config: Any, shape: tuple[int, int, int]) -> Any:
    """The config with every `image_shape` in it replaced."""
    if isinstance(config, dict):
        values = {key: _for_images(value, shape) for key, value in config.items()}
        return {**values, "image_shape": [*shape[:2], 3]} if "image_shape" in values else values
    return [_for_images(each, shape) for each in config] if isinstance(config, list) else config


def _assembled(name: str, preset: str, task: Any, shape: tuple[int, int, int]) -> keras.Model:
    """The detector around the layers of KerasHub's `task`: image, scaling, backbone, head."""
    inputs = heads.image_input(shape)
    x = as_converted(heads.as_rgb(inputs, shape), preset)
    if type(task).__name__ == DFINE:
        encoder = task.backbone.backbone
        head = _dfine_head(task.backbone, encoder)
        encoder.name = BACKBONE
        maps = encoder(x)
        return _dfine(name, inputs, head, [maps[level] for level in task.backbone.out_features])
    encoder = task.backbone.get_layer(BACKBONE)
    return _retinanet(name, inputs, encoder(x), task)


def _retinanet_class(
    name: str,
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    backbone: str = _BACKBONE,
    backbone_arguments: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> keras.Model:
    """An untrained RetinaNet; `config` goes to RetinaNetBackbone (`min_level`, ...), the detector or its anchors."""
    inputs, levels = _levels(name, backbone, shape, backbone_arguments)
    numbers = sorted(int(level[1:]) for level in levels)
    low, high = numbers[0], numbers[-1]
    neck = {"min_level": low, "max_level": 7 if high == 5 else high, "use_p5": False, "use_fpn_batch_norm": False}
    anchors = {"num_scales": 3, "aspect_ratios": [0.5, 1.0, 2.0], "anchor_size": 4.0}
    head = {"use_prediction_head_norm": False, "pre_logits_num_conv_layers": 4}
    _settle(name, config, neck, anchors, head)
    hub = library()
    encoder = keras.Model(inputs, levels)
    encoder.pyramid_outputs = levels
    hub_backbone = hub.models.RetinaNetBackbone(encoder, image_shape=(*shape[:2], shape[2]), **neck)
    bounds = {key: neck[key] for key in ("min_level", "max_level")}
    generator = hub.layers.AnchorGenerator("yxyx", **bounds, **anchors)
    task = hub.models.RetinaNetObjectDetector(
        hub_backbone, outputs, bounding_box_format="yxyx", anchor_generator=generator, **head
    )
    _start_retinanet(task)
    used = {level: levels[level] for level in levels if int(level[1:]) >= neck["min_level"]}
    return _retinanet(name, inputs, used, task)


def _retinanet(name: str, inputs: Any, levels: Mapping[str, Any], task: Any) -> keras.Model:
    """KerasHub's neck and heads on feature maps."""
    maps = task.backbone.get_layer("fpn")(dict(levels))
    maps = [maps[level] for level in sorted(maps)]
    outputs = {}
    for output, head, width in (("deltas", task.box_head, 4), ("logits", task.classification_head, task.num_classes)):
        rows = [layers.Reshape((-1, width))(head(each)) for each in maps]
        outputs[output] = layers.Concatenate(axis=1, name=output, dtype="float32")(rows)
    detector = RetinaNet(inputs, outputs, name=identifier(name))
    detector.anchors = _anchors(task.anchor_generator, inputs.shape)
    return detector


def _start_retinanet(task: Any) -> None:
    """Heads as in Lin et al. 2017, section 4.1. (KerasHub gives the prior of labels to the boxes.)"""
    for head, prior in ((task.box_head, 0.0), (task.classification_head, _PRIOR)):
        for variable in head.trainable_variables:
            if variable.name == "kernel":
                variable.assign(keras.random.normal(variable.shape, stddev=0.01))
            elif variable.name == "bias":
                variable.assign(ops.full(variable.shape, prior if "logits_layer" in variable.path else 0.0))


def _start_dfine(hub_backbone: Any) -> None:
    """Labels are rare, as in the authors' code. (In KerasHub a single label starts at even odds.)"""
    for layer in (hub_backbone.enc_score_head, *hub_backbone.decoder.class_embed):
        layer.bias.assign(ops.full(layer.bias.shape, _PRIOR))


def _anchors(generator: Any, images: Any) -> np.ndarray:
    """KerasHub's anchors of images [?, H, W, C] as [x, y, width, height] in pixels, float32 [A, 4]."""
    by_level = generator(np.zeros((1, *images[1:]), np.float32))
    corners = np.concatenate([keras.ops.convert_to_numpy(by_level[level]) for level in sorted(by_level)])
    corners = keras.utils.bounding_boxes.convert_format(
        corners, source=generator.bounding_box_format, target="xywh", height=images[1], width=images[2]
    )
    return np.asarray(keras.ops.convert_to_numpy(corners), np.float32)


def _dfine_class(
    name: str,
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    backbone: str = _BACKBONE,
    backbone_arguments: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> keras.Model:
    """An untrained D-FINE, of the size of D-FINE-S where `config`, for DFineBackbone, does not say otherwise."""
    inputs, levels = _levels(name, backbone, shape, backbone_arguments)
    settings: dict[str, Any] = {
        **_SMALL,
        "decoder_n_points": [4] * len(levels),
        "encode_proj_layers": [len(levels) - 1],
    }
    _settle(name, config, settings)
    names = sorted(levels)
    strides = [2 ** int(level[1:]) for level in names]
    settings["num_queries"] = min(settings["num_queries"], _places(shape, strides))
    encoder = keras.Model(inputs, {level: levels[level] for level in names})
    hub_backbone = library().models.DFineBackbone(
        backbone=encoder,
        out_features=names,
        encoder_in_channels=[levels[level].shape[-1] for level in names],
        decoder_in_channels=[settings["encoder_hidden_dim"]] * len(names),
        feat_strides=strides,
        num_feature_levels=len(names),
        num_labels=outputs,
        num_denoising=0,
        learn_initial_query=False,
        anchor_image_size=shape[:2],
        image_shape=shape,
        **settings,
    )
    _start_dfine(hub_backbone)
    return _dfine(name, inputs, _dfine_head(hub_backbone, encoder), [levels[level] for level in names])


def _dfine_head(hub_backbone: Any, encoder: Any) -> keras.Model:
    """All of a DFineBackbone that comes after its image encoder: a list of feature maps to what the loss needs."""
    nodes = [node for nodes in keras_private.nodes_by_depth(hub_backbone).values() for node in nodes]
    (node,) = [node for node in nodes if node.operation is encoder]
    maps = keras.tree.pack_sequence_as(encoder.output, node.output_tensors)
    maps = [maps[level] for level in hub_backbone.out_features]
    out = hub_backbone.output
    decoder = hub_backbone.decoder
    bins = decoder.max_num_bins + 1
    corners = out["intermediate_predicted_corners"][:, 1:]  # KerasHub has the first layer's twice
    queries = corners.shape[2]
    outputs = {
        "logits": out["intermediate_logits"],
        "boxes": out["intermediate_reference_points"],
        "corners": layers.Reshape((decoder.num_decoder_layers, queries, 4, bins))(corners),
        "reference": out["initial_reference_points"][:, 0],
        "first_logits": out["enc_topk_logits"],
        "first_boxes": out["enc_topk_bboxes"],
    }
    return keras.Model(maps, outputs, name=HEAD)


def _dfine(name: str, inputs: Any, head: keras.Model, maps: list[Any]) -> keras.Model:
    """D-FINE's head on feature maps."""
    outputs = head(maps)
    outputs = {key: layers.Identity(name=key, dtype="float32")(value) for key, value in outputs.items()}
    return DFine(inputs, outputs, name=identifier(name))


def _levels(
    name: str, backbone: str, shape: tuple[int, int, int], arguments: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """The input, and the feature maps of stride 8 to 32."""
    _require_multiple(name, shape)
    inputs, levels = levels_of(backbone, shape, arguments or {})
    levels = {level: each for level, each in levels.items() if level != "P2"}
    if not levels:
        raise ConfigError(f"model.arguments.backbone = {backbone} has no feature map of stride 8 to 32 for {name}")
    return inputs, levels


def _settle(name: str, config: Mapping[str, Any] | None, *parts: dict[str, Any]) -> None:
    """Put each setting of `config` where it belongs; raises ConfigError for those that belong nowhere."""
    for key, value in (config or {}).items():
        owners = [part for part in parts if key in part]
        if not owners:
            names = ", ".join(sorted(key for part in parts for key in part))
            raise ConfigError(f"model.arguments.config: {name} has no setting {key} (it has {names})")
        owners[0][key] = value


def _require_multiple(name: str, shape: tuple[int, int, int]) -> None:
    if shape[0] % 32 or shape[1] % 32:
        raise ConfigError(f"{name} takes images whose sides are multiples of 32, not {shape[0]}x{shape[1]}: image.size")


def _places(shape: tuple[int, int, int], strides: list[int]) -> int:
    """How many positions the feature maps have, from which the queries are chosen."""
    return sum((shape[0] // stride) * (shape[1] // stride) for stride in strides)


_CLASSES = {RETINANET: _retinanet_class, DFINE: _dfine_class}
