"""The model of a run: from settings, images and task to a network with its weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kit.config import Config, ImageSettings
from kit.data.records.shards import image_shape
from kit.errors import ConfigError
from kit.runtime import devices
from kit.tasks import find_task

if TYPE_CHECKING:
    import keras


def build_model(
    config: Config, image: ImageSettings, labels: Sequence[str], task: str, weights: str | None = None
) -> tuple["keras.Model", dict[str, Any]]:
    """A fresh model for such images and labels, and the arguments it is built from (to be saved with it).

    `weights` replace the config's. Raises ConfigError for a model that does not exist or cannot be built.
    """
    activation = find_task(task).activation
    if activation is None:
        raise ConfigError(f"kit has no model for {task} yet: choose another target")
    devices.set_up(config.runtime)
    from kit.models import registry
    from kit.models.weights import load_weights

    spec = {
        **config.model.arguments,
        "name": config.model.name,
        "shape": image_shape(image),
        "outputs": len(labels),
        "activation": activation,
    }
    model = registry.build(**spec)
    load_weights(model, registry.model_card(config.model.name), weights or config.model.weights)
    return model, spec
