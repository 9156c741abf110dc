"""Networks that find boxes: their cards. Each is built by the function `build` of a module of its own."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kit.models.cards import ModelCard
from kit.models.registry import model_card, register


@dataclass(frozen=True)
class _Builder:
    """`build` of a module. Calling it, or asking for its arguments, loads Keras; listing the models does not."""

    module: str

    def __call__(self, **arguments: Any) -> Any:
        return self._build(**arguments)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._build)

    @property
    def _build(self) -> Callable[..., Any]:
        build: Callable[..., Any] = importlib.import_module(f"kit.models.detect.{self.module}").build
        return build


def register_detector(name: str, *, module: str | None = None, **card: Any) -> None:
    """Register what `build(shape=, outputs=, activation=, ...)` of kit.models.detect.MODULE (or NAME) returns.

    Its pre-trained weights are by default those of its backbone.
    """
    backbone = model_card(card["backbone"]) if card.get("backbone") else None
    weights = {"weights": backbone.weights, "licence": backbone.licence} if backbone else {}
    register(ModelCard(name, _Builder(module or name), prediction="boxes", **{**weights, **card}))


register_detector("fcos", size=512, backbone="resnet50", parameters=(31_602_826, 31_549_706), source="arXiv:1904.01355")
register_detector(
    "mask_net",
    size=224,
    parameters=(12_728_545, 12_718_881),
    source="a public RSNA pneumonia project (mask network)",
)
register_detector("unet", size=320, backbone="resnet50", parameters=(40_807_105, 40_753_985), source="arXiv:1505.04597")
register_detector(
    "mask_rcnn", size=512, backbone="resnet50", parameters=(44_640_918, 44_587_798), source="arXiv:1703.06870"
)
