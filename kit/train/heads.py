"""Heads on frozen features, by name: how each is fitted. Their layers are in kit.models.frozen."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from kit.models.frozen import STANDARDISE
from kit.tasks import find_task
from kit.train.linear import fit_linear, standardisation
from kit.train.mlp import fit_mlp


class Rows(NamedTuple):
    """The training rows of a fold: features float32 [n, d], labels float32 [n, L] (NaN unknown), example rows.

    `inner` are numbers [n] of folds among them that share no group, for whatever a head chooses or stops by.
    """

    features: np.ndarray
    labels: np.ndarray
    inner: np.ndarray
    examples: pd.DataFrame


# head (features -> probabilities), rows, task, seed, model.arguments -> what was chosen, in words; fits it in place
Fit = Callable[[keras.Model, Rows, str, int, Mapping[str, Any]], str]


def _fit_linear(head: keras.Model, rows: Rows, task: str, seed: int, arguments: Mapping[str, Any]) -> str:
    fitted = fit_linear(rows.features, rows.labels, find_task(task).exclusive, rows.inner)
    head.get_layer(STANDARDISE).set_weights([fitted.mean, fitted.scale])
    head.get_layer("logits").set_weights([fitted.coefficients, fitted.intercepts])
    strengths = sorted({f"{strength:.2g}" for strength in fitted.strengths}, key=float)
    return f"C {strengths[0]}" + (f" to {strengths[-1]}" if len(strengths) > 1 else "")


def _fit_mlp(head: keras.Model, rows: Rows, task: str, seed: int, arguments: Mapping[str, Any]) -> str:
    head.get_layer(STANDARDISE).set_weights([*standardisation(rows.features)])
    epochs = fit_mlp(head, rows.features, rows.labels, rows.inner, task, seed)
    return f"{epochs} epochs"


HEADS: dict[str, Fit] = {"linear": _fit_linear, "mlp": _fit_mlp}
