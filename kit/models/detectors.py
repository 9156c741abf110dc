"""Networks that find boxes: their cards. Each is built by the function `build` of a module of its own."""

import importlib
from functools import partial
from typing import Any

from kit.models.cards import ModelCard
from kit.models.registry import model_card, register


def _built(module: str, **arguments: Any) -> Any:
    return importlib.import_module(f"kit.models.{module}").build(**arguments)  # here: it loads Keras, listing does not


def register_detector(name: str, *, module: str | None = None, **card: Any) -> None:
    """Register a network that `build(shape=, outputs=, activation=, ...)` of kit.models.MODULE (or NAME) returns.

    Its pre-trained weights are by default those of its backbone.
    """
    weights = model_card(card["backbone"]).weights if card.get("backbone") else "none"
    builder = partial(_built, module or name)
    register(ModelCard(name, builder, prediction="boxes", **{"weights": weights, **card}))


register_detector("fcos", size=512, backbone="resnet50", source="arXiv:1904.01355")
register_detector(
    "mask_net",
    size=224,
    parameters=(12_728_545, 12_718_881),
    source="a public RSNA pneumonia project (mask network)",
)
register_detector("unet", size=320, backbone="resnet50", parameters=(40_807_105, 40_753_985), source="arXiv:1505.04597")
register_detector("mask_rcnn", size=512, backbone="resnet50", source="arXiv:1703.06870")
