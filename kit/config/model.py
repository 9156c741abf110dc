"""`model`: which network, from which weights."""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from kit.config.base import PathText, Settings

AUTO = "auto"
# Arguments that may stand beside `name`, as in {name: features, backbone: mobilenet}, which is short for the same in
# `arguments`. A list, so that a misspelt setting stays an error.
SHORT = ("backbone", "backbone_arguments", "head", "pool", "views", "units", "dropout", "metadata", "per_group")


class ModelSettings(Settings):
    """`model`: a network of the registry (`kit models` lists them), its weights and its arguments."""

    # A name from `kit models`, hub/PRESET (KerasHub), tfhub:HANDLE (TensorFlow Hub), or FILE.py:NAME, a function of
    # your own (docs/extending.md); auto: a pre-trained network that suits images and machine, chosen as a run starts.
    name: PathText = "pcam_cnn"
    # none (random) | imagenet | the path of a weights file | kaggle:OWNER/NAME/FILE (a dataset) | run:RUN (the backbone
    # of another run) | preset or saved_model (what a library's network comes with); null: the model's own default.
    weights: PathText | None = None
    # What else the model's builder takes, such as {units: [256], dropout: 0.3}. backbone, backbone_arguments, head,
    # pool, views, units, dropout, metadata and per_group may also be written beside name: model.backbone=mobilenet.
    arguments: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, values: Any) -> Any:
        return in_full(values) if isinstance(values, Mapping) else values


def in_full(model: Mapping[str, Any]) -> dict[str, Any]:
    """The section with what is written in short among its arguments; what these say themselves comes first."""
    short = {key: model[key] for key in SHORT if key in model}
    arguments = model.get("arguments")
    if not short or not (arguments is None or isinstance(arguments, Mapping)):
        return dict(model)
    rest = {key: value for key, value in model.items() if key not in short}
    return {**rest, "arguments": {**short, **(arguments or {})}}
