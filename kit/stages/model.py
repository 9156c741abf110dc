"""The model of a run: from settings, images and task to a network with its weights."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kit import files
from kit.config import Config, ImageSettings
from kit.data.records.shards import image_shape
from kit.errors import ConfigError, some
from kit.runtime import devices
from kit.tasks import find_task

if TYPE_CHECKING:
    import keras

_LAST: dict[str, tuple["keras.Model", dict[str, Any]]] = {}  # the model that `build_frozen` built last


def build_model(
    config: Config, image: ImageSettings, labels: Sequence[str], task: str, weights: str | None = None
) -> tuple["keras.Model", dict[str, Any]]:
    """A fresh model for such images and labels, and the arguments it is built from (to be saved with it).

    `weights` replace the config's. Raises ConfigError for a model that does not exist or cannot be built.
    """
    devices.set_up(config.runtime)
    from kit.models import registry
    from kit.models.weights import load_weights

    require_model_of(task, config)
    spec = {
        **config.model.arguments,
        "name": config.model.name,
        "shape": image_shape(image),
        "outputs": len(labels),
        "activation": find_task(task).activation,
    }
    model = registry.build(**spec)
    cards = registry.weights_cards(config.model.name, config.model.arguments)
    for network, card in zip(_NETWORKS[registry.fitted_part(config.model.name)](model), cards, strict=True):
        load_weights(network, card, weights or config.model.weights)
    return model, spec


def build_frozen(
    config: Config, image: ImageSettings, labels: Sequence[str], task: str
) -> tuple["keras.Model", dict[str, Any]]:
    """As `build_model`; the last one is kept, as it serves every fold: what differs between them is set anew."""
    settings = [
        config.seed,
        config.model.model_dump(),
        config.runtime.model_dump(),
        image.model_dump(),
        len(labels),
        task,
    ]
    key = files.fingerprint(settings)
    if key not in _LAST:
        _LAST.clear()
        devices.set_up(config.runtime)
        devices.set_seed(config.seed)  # random weights are the same for all folds, or their features could not be kept
        _LAST[key] = build_model(config, image, labels, task)
    return _LAST[key]


def _frozen(model: "keras.Model") -> list["keras.Model"]:
    from kit.models.frozen import networks

    return networks(model)


# What pre-trained weights go into.
_NETWORKS: dict[str, Callable[["keras.Model"], list["keras.Model"]]] = {
    "network": lambda model: [model],
    "head": _frozen,
}


def require_model_of(task: str, config: Config) -> None:
    """Raise ConfigError unless the configured network predicts what the task needs: probabilities or boxes."""
    from kit.models import registry

    needed, card = find_task(task).prediction, registry.model_card(config.model.name)
    if card.prediction != needed:
        fitting = [name for name in registry.list_models() if registry.model_card(name).prediction == needed]
        raise ConfigError(
            f"model.name = {config.model.name} predicts {card.prediction}, but the target needs {needed}: choose "
            f"another model, such as {some(fitting, 4)}, or another target"
        )
