"""`train.initial_head = linear`: the last layer of a network before its training is a regression on its own features.

Linear probing, then fine-tuning (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", arXiv:2202.10054): with a random last layer, the first steps change the pre-trained layers to suit
one that knows nothing.
"""

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from kit.data.records.batches import eval_batches
from kit.errors import ConfigError
from kit.predict.features import pooled, stacked
from kit.runtime import devices
from kit.runtime.devices import Device
from kit.stages.features import features_of, sources
from kit.stages.fold import Fold
from kit.stages.head import rows_to_fit
from kit.stages.model import build_frozen
from kit.stages.network import frozen_first
from kit.tasks import find_task

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


def start_linear(model: "keras.Model", as_is: "keras.Model", fold: Fold, device: Device) -> None:
    """Set the last layer of `model`, in place; `as_is` is a model with the same weights that predicts on this host.

    The features are those of the training images of the fold as they are, without dropout and augmentation: those
    that the run of the frozen network left beside the records, where the head takes the same.
    """
    from kit.train.linear import fit_linear

    started, records = time.monotonic(), fold.records
    size = device.eval_batch(fold.config.predict.batch_size)
    features = _of_frozen(fold, size, device)
    if features is None:
        with devices.alone(device):
            parts = [features for _, features in pooled(extractor(as_is), eval_batches(records, fold.train, size))]
        features = stacked(parts)["head"]
    rows = rows_to_fit(features, records.rows(fold.train), records.labels)
    linear = fit_linear(rows.features, rows.labels, find_task(records.task).exclusive, rows.inner)
    kernel = linear.scale[:, None] * linear.coefficients
    model.get_layer("logits").set_weights([kernel, linear.intercepts - linear.mean @ kernel])
    strengths = ", ".join(f"{strength:.2g}" for strength in np.unique(linear.strengths))
    log.info(
        f"{fold.title}  starts from a linear head on {rows.features.shape[1]:,} features of the network as it is  "
        f"(C {strengths}; {time.monotonic() - started:.0f} s)"
    )


def extractor(model: "keras.Model") -> "keras.Model":
    """Images -> {"head": what the last layer takes, [B, d]}; raises ConfigError for a model without such a layer."""
    import keras

    try:
        features = model.get_layer("logits").input
    except ValueError:
        raise ConfigError(
            f"train.initial_head = linear is of a classifier's last layer, but {model.name} has none: set it to random"
        ) from None
    return keras.Model(model.inputs[0], {"head": features})


def _of_frozen(fold: Fold, size: int, device: Device) -> np.ndarray | None:
    """The features of the run that comes first, if the head takes these: the means of the maps of several levels."""
    arguments, before = fold.config.model.arguments, frozen_first(fold.config)
    if before is None or fold.added or arguments.get("pool") != "levels" or arguments.get("units") != []:
        return None
    from kit.models import frozen

    records = fold.records
    model, spec = build_frozen(before, records.image, records.labels, records.task)
    (network,) = frozen.networks(model)
    if frozen.pooling_of(network, None) != ["levels"]:  # tokens, which a head averages
        return None
    every = sources(model, spec, records, fold.files.folder.parent)
    return features_of(every, records, fold.train, size, device)[1]
