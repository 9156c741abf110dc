"""Heads on frozen features, fitted in place."""

import numpy as np
import pandas as pd
import pytest

from tests.backbones import registered


@pytest.fixture(scope="module")
def frozen(keras):
    from kit.models import frozen

    with registered():
        yield frozen


@pytest.fixture(autouse=True)
def _few_epochs(keras, monkeypatch):
    monkeypatch.setattr("kit.train.mlp._MOST", 15)
    monkeypatch.setattr("kit.train.mlp._RATE", 0.02)


def rows_of(rows=120, labels=1, seed=0):
    from kit.train.heads import Rows

    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (rows, 6)).astype(np.float32)
    y = (x[:, :labels] + rng.normal(0, 0.5, (rows, labels)) > 3).astype(np.float32)
    return Rows(x, y, np.arange(rows) % 5, pd.DataFrame({"group": range(rows)}))


def model_of(frozen, head, outputs=1, activation="sigmoid"):
    return frozen.build(
        shape=(32, 32, 3), outputs=outputs, activation=activation, backbone="tiny_map", head=head, units=16
    )


def log_loss(y, p):
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return -np.nanmean(y * np.log(p) + (1 - y) * np.log(1 - p))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_learns_and_depends_on_its_rows_alone(frozen, head):
    from kit.train.heads import HEADS

    model = model_of(frozen, head, 2)
    part, rows, others = frozen.head_of(model), rows_of(labels=2), rows_of(90, 2, seed=5)
    rows.labels[:50, 1] = np.nan
    words = HEADS[head](part, rows, "multilabel", 0, {})
    p = np.asarray(part(rows.features))
    assert words and log_loss(rows.labels, p) < 0.4
    HEADS[head](part, others, "multilabel", 1, {})
    assert np.abs(np.asarray(part(rows.features)) - p).max() > 1e-4
    HEADS[head](part, rows, "multilabel", 0, {})  # the same again, whatever was fitted before
    assert np.abs(np.asarray(part(rows.features)) - p).max() < 1e-6


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_exclusive_classes_one_of_which_does_not_occur(frozen, head):
    from kit.train.heads import HEADS

    model, rows = model_of(frozen, head, 3, "softmax"), rows_of(60)
    classes = np.eye(3, dtype=np.float32)[rows.labels[:, 0].astype(int)]
    part = frozen.head_of(model)
    HEADS[head](part, rows._replace(labels=classes), "multiclass", 0, {})
    p = np.asarray(part(rows.features))
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5) and (p.argmax(axis=1) == classes.argmax(axis=1)).mean() > 0.8


def test_a_single_inner_fold_and_few_rows(frozen):
    from kit.train.heads import HEADS

    rows = rows_of(9)
    for head in HEADS:
        part = frozen.head_of(model_of(frozen, head))
        HEADS[head](part, rows._replace(inner=np.zeros(9, int)), "binary", 0, {})
        assert np.isfinite(np.asarray(part(rows.features))).all()


@pytest.mark.once
def test_every_head_has_layers_and_a_fit(frozen):
    from kit.train.heads import HEADS

    assert HEADS.keys() == frozen._HEADS.keys()
