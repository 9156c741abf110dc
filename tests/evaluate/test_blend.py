import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kit.errors import ConfigError
from kit.evaluate import blend
from kit.evaluate.blend import BLENDS, Rows, convex_weights, fit, greedy_weights, nnls_weights, ranks, value_of
from kit.evaluate.metrics import METRICS, brier, find_metric

NAN = float("nan")


def rows(members, y, metric="roc_auc", exclusive=False, metadata=None):
    members, y = np.asarray(members, float), np.asarray(y, float)
    members = members[:, :, None] if members.ndim == 2 else members
    y = y[:, None] if y.ndim == 1 else y
    metadata = pd.DataFrame(index=range(len(y))) if metadata is None else metadata
    return Rows(members, y, find_metric(metric), exclusive, metadata)


def noisy(seed, spreads, count=600):
    """Members that see the same truth through noise of these standard deviations."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count).astype(float)
    return np.stack([1 / (1 + np.exp(-rng.normal(2 * y - 1, spread))) for spread in spreads]), y


@given(st.integers(0, 10**6), st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_the_fast_area_is_scikit_learns(seed, levels):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (40, 2)).astype(float)
    y[:2] = [[0, 0], [1, 1]]
    y[rng.random((40, 2)) < 0.1] = NAN
    p = rng.integers(0, levels, (40, 2)) / np.float32(levels)
    assert value_of(METRICS["roc_auc"], y)(p) == pytest.approx(METRICS["roc_auc"](y, p), nan_ok=True)
    assert value_of(METRICS["brier"], y)(p) == brier(y, p)


def test_greedy_selection_by_hand():
    # Alone: a .75 (one of the four pairs of a positive and a negative is wrong), b .75, c .5. The mean of a and b has
    # all four right; c, or more of a or of b, cannot better that.
    y = [1, 1, 0, 0]
    a, b, c = [0.9, 0.3, 0.4, 0.1], [0.3, 0.9, 0.1, 0.4], [0.5, 0.5, 0.5, 0.5]
    assert [roc_auc_score(y, p) for p in (a, b, c)] == [0.75, 0.75, 0.5]
    assert greedy_weights(rows([a, b, c], y), bags=1) == pytest.approx([0.5, 0.5, 0])
    # By squared error a mean with twice as much of the first is best: (2 a + b) / 3 is nearest to the truth.
    a, b = [0.8, 0.8], [-0.1, 1.4]
    errors = {n: (np.array([(2 * 0.8 - 0.1) / 3, (2 * 0.8 + 1.4) / 3]) if n else np.zeros(2)) for n in (0, 1)}
    assert errors[1] == pytest.approx([0.5, 1.0])
    assert greedy_weights(rows([a, b], [0.5, 1.0], "brier"), bags=1) == pytest.approx([2 / 3, 1 / 3])


def test_greedy_selection_never_ends_below_the_best_member():
    for seed in range(10):
        members, y = noisy(seed, (1, 2, 4, 8), 80)
        data = rows(members, y)
        value = value_of(METRICS["roc_auc"], data.y)
        chosen = np.tensordot(greedy_weights(data, bags=1), data.members, 1)
        assert value(chosen) >= max(value(member) for member in data.members)


@pytest.mark.parametrize("weights_of", [convex_weights, nnls_weights])
def test_weights_beat_every_other_on_a_grid(weights_of):
    members, y = noisy(0, (1, 1.5, 6))
    metric = {convex_weights: "log_loss", nnls_weights: "brier"}[weights_of]
    data = rows(members, y, metric)
    weights = weights_of(data)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    grid = np.array([(a, b, 10 - a - b) for a in range(11) for b in range(11 - a)]) / 10
    loss = {tuple(w): METRICS[metric](data.y, np.tensordot(w, data.members, 1)) for w in [weights, *grid]}
    if weights_of is convex_weights:
        assert loss[tuple(weights)] <= min(loss.values()) + 1e-5
    else:  # least squares does not know that its weights will be scaled to a sum of 1
        assert loss[tuple(weights)] <= min(loss.values()) + 2e-3
    assert weights[0] > weights[1] > weights[2]


def test_copies_change_nothing_and_only_labelled_rows_count():
    members, y = noisy(0, (1, 3))
    y[:100] = NAN
    members[:, :100] = 0.5
    everything, labelled = rows(members, y, "log_loss"), rows(members[:, 100:], y[100:], "log_loss")
    assert convex_weights(everything) == pytest.approx(convex_weights(labelled), abs=1e-4)
    twice = convex_weights(rows([members[0], members[0], members[1]], y, "log_loss"))
    assert twice[0] + twice[1] == pytest.approx(convex_weights(everything)[0], abs=1e-2)


@pytest.mark.parametrize("name", BLENDS)
@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_every_blend_gives_probabilities(name, task):
    rng = np.random.default_rng(0)
    labels = 1 if task == "binary" else 3
    truth = rng.integers(0, 3, 200)
    y = np.eye(3)[truth][:, :labels]
    members = np.stack([np.clip(y * 0.3 + rng.random((200, labels)) * 0.7, 0, 1) for _ in range(3)])
    if task == "multiclass":
        members /= members.sum(axis=2, keepdims=True)
    elif task == "multilabel":
        y[:20, 0] = NAN
        y[:, 2] = 0  # one class only
    fitted = fit(name, rows(members, y, exclusive=task == "multiclass"))
    p = fitted.apply(members[:, :50], pd.DataFrame(index=range(50)))
    assert p.shape == (50, labels)
    assert np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()
    if task == "multiclass":
        assert p.sum(axis=1) == pytest.approx(1)
    if fitted.weights is not None:
        assert fitted.weights.sum() == pytest.approx(1)


@given(st.integers(0, 10**6), st.sampled_from(["mean", "geometric", "logit", "rank", "weighted:1,2,0.5"]))
@settings(max_examples=60, deadline=None)
def test_equal_members_are_their_blend_and_order_is_kept(seed, name):
    p = np.random.default_rng(seed).random((30, 1))
    fitted = fit(name, rows(np.stack([p, p, p]), p.round()))
    blended = fitted.apply(np.stack([p, p, p]), pd.DataFrame(index=range(30)))
    assert (np.argsort(blended[:, 0]) == np.argsort(p[:, 0])).all()
    if name != "rank":
        assert blended == pytest.approx(p, abs=1e-6)


def test_means_by_hand():
    members = np.array([[[0.2], [0.9]], [[0.8], [0.9]]])
    nothing = pd.DataFrame(index=range(2))

    def first(name):
        return fit(name, rows(members, [0, 1])).apply(members, nothing)[0, 0]

    assert first("mean") == pytest.approx(0.5)
    assert first("weighted:3,1") == pytest.approx(0.35)
    assert first("geometric") == pytest.approx(0.4)  # root of .2 * .8
    assert first("logit") == pytest.approx(0.5)
    assert ranks(np.array([[0.3], [0.1], [0.3], [0.9]]))[:, 0] == pytest.approx([0.5, 0.125, 0.5, 0.875])


def test_boosting_uses_metadata():
    rng = np.random.default_rng(0)
    members, y = noisy(0, (3, 3))
    metadata = pd.DataFrame({"age": np.where(y == 1, 60, 40) + rng.normal(0, 5, len(y)), "sex": NAN})
    without, with_metadata = (
        fit("boost", data).apply(data.members, data.metadata)
        for data in (rows(members, y), rows(members, y, metadata=metadata))
    )
    assert roc_auc_score(y, with_metadata[:, 0]) > roc_auc_score(y, without[:, 0]) + 0.05
    stack = fit("stack", rows(members, y, metadata=metadata))
    assert stack.apply(rows(members, y).members, metadata).shape == (600, 1)


@pytest.mark.parametrize("name", ["weighted:1", "weighted:1,x", "weighted:1,-1", "weighted:0,0", "weighted:"])
def test_weights_must_be_one_number_per_run(name):
    with pytest.raises(ConfigError, match="give 2 numbers of 0 or more"):
        fit(name, rows(*noisy(0, (1, 2))))


def test_an_unknown_blend():
    with pytest.raises(ConfigError, match="unknown blend 'greed'; did you mean 'greedy'"):
        blend.fit("greed", rows(*noisy(0, (1, 2))))
