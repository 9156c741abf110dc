"""`model`: which network, from which weights."""

from typing import Any

from kit.config.base import PathText, Settings

AUTO = "auto"


class ModelSettings(Settings):
    """`model`: a network of the registry (`kit models` lists them), its weights and its arguments."""

    # A name from `kit models`, hub/PRESET (KerasHub) or tfhub:HANDLE (TensorFlow Hub); auto: a pre-trained network that
    # suits images and machine, chosen once, when a run starts.
    name: PathText = "pcam_cnn"
    # none (random) | imagenet | the path of a weights file | kaggle:OWNER/NAME/FILE (a dataset) | run:RUN (the backbone
    # of another run) | preset or saved_model (what a library's network comes with); null: the model's own default.
    weights: PathText | None = None
    # What else the model's builder takes, such as {units: [256], dropout: 0.3}.
    arguments: dict[str, Any] = {}
