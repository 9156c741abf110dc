"""Heads on frozen features, by name: how each is fitted. Their layers are in kit.models.frozen."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from kit.errors import counted
from kit.models.boosted import Boosted
from kit.models.frozen import STANDARDISE, metadata_columns
from kit.tasks import find_task
from kit.train import gbdt
from kit.train.linear import Linear, fit_linear, out_of_fold, standardisation
from kit.train.mlp import fit_mlp


class Rows(NamedTuple):
    """The training rows of a fold: features float32 [n, d], labels float32 [n, L] (NaN unknown), example rows.

    `inner` are numbers [n] of folds among them that share no group, for whatever a head chooses or stops by.
    """

    features: np.ndarray
    labels: np.ndarray
    inner: np.ndarray
    examples: pd.DataFrame


class Chosen(NamedTuple):
    """What fitting a head has chosen, in words, and the trees that correct it, if any."""

    words: str
    trees: Boosted | None = None


# head (features -> probabilities), rows, task, seed, model.arguments -> what was chosen; fits it in place
Fit = Callable[[keras.Model, Rows, str, int, Mapping[str, Any]], Chosen]


def _fit_linear(head: keras.Model, rows: Rows, task: str, seed: int, arguments: Mapping[str, Any]) -> Chosen:
    fitted = _set_linear(head, rows, task)
    return Chosen(_strengths(fitted))


def _set_linear(head: keras.Model, rows: Rows, task: str) -> Linear:
    fitted = fit_linear(rows.features, rows.labels, find_task(task).exclusive, rows.inner)
    head.get_layer(STANDARDISE).set_weights([fitted.mean, fitted.scale])
    head.get_layer("logits").set_weights([fitted.coefficients, fitted.intercepts])
    return fitted


def _strengths(fitted: Linear) -> str:
    strengths = sorted({f"{strength:.2g}" for strength in fitted.strengths}, key=float)
    return f"C {strengths[0]}" + (f" to {strengths[-1]}" if len(strengths) > 1 else "")


def _fit_mlp(head: keras.Model, rows: Rows, task: str, seed: int, arguments: Mapping[str, Any]) -> Chosen:
    head.get_layer(STANDARDISE).set_weights([*standardisation(rows.features)])
    epochs = fit_mlp(head, rows.features, rows.labels, rows.inner, task, seed)
    return Chosen(f"{epochs} epochs")


def _fit_gbdt(head: keras.Model, rows: Rows, task: str, seed: int, arguments: Mapping[str, Any]) -> Chosen:
    fitted, exclusive = _set_linear(head, rows, task), find_task(task).exclusive
    scores = out_of_fold(rows.features, rows.labels, exclusive, rows.inner, fitted.strengths)
    trees = gbdt.fit(
        scores,
        rows.examples,
        rows.labels,
        rows.inner,
        exclusive=exclusive,
        names=metadata_columns(arguments),
        per_group=arguments.get("per_group", True),
        seed=seed,
    )
    count = sum(map(len, trees.trees))
    return Chosen(f"{_strengths(fitted)}, {counted(count, 'tree')}", trees)


HEADS: dict[str, Fit] = {"linear": _fit_linear, "mlp": _fit_mlp, "gbdt": _fit_gbdt}
