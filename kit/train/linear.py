"""L2-regularised logistic regression on features, its strength chosen by inner folds: no Keras, only matrix products.

All strengths and all inner folds are fitted together, as the columns of one matrix, by L-BFGS (Nocedal & Wright 2006,
algorithm 7.5) with a step of its own for each. The minimum is that of scikit-learn's `LogisticRegression(C=strength)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

STRENGTHS = tuple(10.0 ** np.arange(-5, 1.1, 0.75))  # scikit-learn's C, of standardised features
_DEFAULT = 1e-2  # where there are no inner folds to choose by
_ROWS = 8192  # computed at a time, so that memory does not grow with them
_PAIRS = 10  # of steps and gradients that L-BFGS remembers
_CHOOSING, _FINAL = (1e-3, 100), (1e-6, 1000)  # largest gradient at the minimum, and the most iterations
_HALVINGS = 20


@dataclass(frozen=True)
class Linear:
    """(x - mean) * scale @ coefficients + intercepts are the logits: float32 [d], [d], [d, L], [L].

    `strengths` are those chosen, one of exclusive classes, else one per label.
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    strengths: tuple[float, ...]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Float32 [n, L] of features [n, d]."""
        return (x - self.mean) * self.scale @ self.coefficients + self.intercepts


def fit_linear(
    x: np.ndarray, y: np.ndarray, exclusive: bool, inner: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> Linear:
    """The regression on features float32 [n, d] and labels [n, L] (0..1, NaN unknown), softmax of `exclusive` classes.

    The strength is the one with the least log loss where each of the `inner` folds (numbers [n]) is predicted by what
    was fitted on the others; with a single fold it is .01. Unknown labels are left out, of exclusive classes the rows.
    A class that does not occur gets its share of a sample with half a row more of each class, at any features.
    """
    return _fit(x, y, exclusive, lambda x1, part, rows, n: _choose(x1, part, inner[rows], strengths))


def out_of_fold(
    x: np.ndarray, y: np.ndarray, exclusive: bool, inner: np.ndarray, strengths: Sequence[float]
) -> np.ndarray:
    """Probabilities float32 [n, L] of each row by what is fitted on the other `inner` folds, at `Linear.strengths`.

    NaN where there is a single fold.
    """
    p = np.full(y.shape, np.nan, np.float32)
    for fold in np.unique(inner):
        rows = inner == fold
        if not rows.all():
            logits = _fit(x[~rows], y[~rows], exclusive, lambda x1, part, rows, n: strengths[n]).logits(x[rows])
            p[rows] = _activated(logits) if exclusive else _activated(logits[..., None])[..., 0]
    return p


def _fit(
    x: np.ndarray,
    y: np.ndarray,
    exclusive: bool,
    strength_of: Callable[[np.ndarray, np.ndarray, np.ndarray, int], float],
) -> Linear:
    """The regressions; `strength_of` takes inputs and labels of the rows that are known, their numbers, and the part's.

    Parts are labels, or all exclusive classes together.
    """
    mean, scale = standardisation(x)
    x1 = np.empty((len(x), x.shape[1] + 1), np.float32)
    np.multiply(x - mean, scale, out=x1[:, :-1])
    x1[:, -1] = 1
    parts = [y] if exclusive else [y[:, n : n + 1] for n in range(y.shape[1])]
    thetas, chosen = [], []
    for n, part in enumerate(parts):
        rows = np.flatnonzero(~np.isnan(part).any(axis=1))
        strength = strength_of(x1[rows], part[rows], rows, n) if len(rows) else _DEFAULT
        weights = np.ones((len(rows), 1), np.float32)
        thetas.append(_minimise(_Problems(x1[rows], part[rows], weights, np.array([strength])), *_FINAL)[:, 0])
        chosen.append(strength)
    theta = np.concatenate(thetas, axis=1)
    return Linear(mean, scale, theta[:-1], theta[-1], tuple(map(float, chosen)))


def standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / standard deviation of the columns, float32 [d]; a column that does not vary is scaled to 0."""
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * np.maximum(1e-3, np.abs(mean))
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def log_losses(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The log loss of each row, float64 [...], of logits [..., c] and labels [..., c]; c = 1: sigmoid, else softmax."""
    if y.shape[-1] == 1:
        return (np.logaddexp(0, logits) - y * logits)[..., 0].astype(np.float64)
    top = logits.max(axis=-1, keepdims=True)
    norm = top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))
    return (norm * y.sum(axis=-1) - (y * logits).sum(axis=-1)).astype(np.float64)


def _choose(x1: np.ndarray, y: np.ndarray, inner: np.ndarray, strengths: Sequence[float]) -> float:
    folds = np.unique(inner)
    if len(folds) < 2:
        return _DEFAULT
    held = np.repeat(inner[:, None] == folds, len(strengths), axis=1)  # [n, folds * strengths]
    problems = _Problems(x1, y, (~held).astype(np.float32), np.tile(np.asarray(strengths), len(folds)))
    theta = _minimise(problems, *_CHOOSING)
    total = np.zeros(len(strengths))
    for n, fold in enumerate(folds):
        rows, own = inner == fold, theta[:, n * len(strengths) : (n + 1) * len(strengths)]
        logits = (x1[rows] @ own.reshape(len(theta), -1)).reshape(-1, *own.shape[1:])
        total += log_losses(logits, y[rows][:, None]).sum(axis=0)
    return float(strengths[int(np.argmin(total))])


class _Problems:
    """P regressions on the same rows x1 [n, d + 1], whose last column is 1, and labels [n, c].

    Each has weights [n, P] of the rows, 0 or 1, and a strength [P]. Parameters are float32 [d + 1, P, c].
    """

    def __init__(self, x1: np.ndarray, y: np.ndarray, weights: np.ndarray, strengths: np.ndarray) -> None:
        self.x1, self.y = x1, y.astype(np.float32)
        count = np.maximum(weights.sum(axis=0, dtype=np.float64), 1)
        self.weights = (weights / count).astype(np.float32)
        self.penalty = 1 / (strengths * count)
        positive = weights.T.astype(np.float64) @ self.y  # [P, c]
        total = weights.sum(axis=0, dtype=np.float64)[:, None]
        if y.shape[1] == 1:
            start = np.log((positive + 0.5) / (total - positive + 0.5))
            self.free = ((positive > 0) & (positive < total)).astype(np.float32)
        else:
            start = np.log((positive + 0.5) / (total + 0.5 * y.shape[1]))
            self.free = ((positive > 0) & (positive.max(axis=1, keepdims=True) < total)).astype(np.float32)
        self.start = np.zeros((x1.shape[1], *start.shape), np.float32)
        self.start[-1] = start

    def __call__(self, theta: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values float64 [p] and gradients, as theta [d + 1, p, c], of the problems with these numbers."""
        value, gradient = np.zeros(len(which)), np.zeros((len(theta), theta[0].size), np.float32)
        flat = theta.reshape(len(theta), -1)
        for first in range(0, len(self.x1), _ROWS):
            rows = slice(first, first + _ROWS)
            logits = (self.x1[rows] @ flat).reshape(-1, *theta.shape[1:])
            y, weights = self.y[rows][:, None], self.weights[rows][:, which]
            value += (weights * log_losses(logits, y)).sum(axis=0)
            residuals = (_activated(logits) - y) * weights[..., None]
            gradient += self.x1[rows].T @ residuals.reshape(len(residuals), -1)
        slope = gradient.reshape(theta.shape)
        penalty = self.penalty[which].astype(np.float32)
        value += 0.5 * self.penalty[which] * _dot(theta[:-1], theta[:-1])
        slope[:-1] += penalty[:, None] * theta[:-1]
        return value, slope * self.free[which]


def _activated(logits: np.ndarray) -> np.ndarray:
    if logits.shape[-1] == 1:
        return 0.5 * (1 + np.tanh(0.5 * logits))
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def _minimise(problems: _Problems, tolerance: float, most: int) -> np.ndarray:
    """The minima, float32 [d + 1, P, c]: those of problems that are done are left, the others go on."""
    result = problems.start.copy()
    which = np.arange(result.shape[1])
    theta = result.copy()
    value, slope = problems(theta, which)
    pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(most):
        going = np.abs(slope).max(axis=(0, 2)) > tolerance
        if not going.all():
            result[:, which] = theta
            which, theta, value, slope = which[going], theta[:, going], value[going], slope[:, going]
            pairs = [(s[:, going], y[:, going], rho[going]) for s, y, rho in pairs]
        if not len(which):
            return result
        direction = _direction(slope, pairs)
        descent = _dot(direction, slope)
        step = np.ones(len(which)) if pairs else 1 / np.maximum(1, np.sqrt(_dot(slope, slope)))
        new, new_value, new_slope = theta.copy(), value.copy(), slope.copy()
        open_ = np.arange(len(which))
        for _ in range(_HALVINGS):
            trial = theta[:, open_] + (step[open_, None] * direction[:, open_]).astype(np.float32)
            trial_value, trial_slope = problems(trial, which[open_])
            noise = 1e-7 * np.abs(value[open_])  # of sums in single precision
            good = trial_value <= value[open_] + 1e-4 * step[open_] * descent[open_] + noise
            done = open_[good]
            new[:, done], new_value[done], new_slope[:, done] = trial[:, good], trial_value[good], trial_slope[:, good]
            open_ = open_[~good]
            if not len(open_):
                break
            step[open_] *= 0.5
        moved, bent = new - theta, new_slope - slope
        curvature = _dot(moved, bent)
        convex = curvature > 1e-12 * np.maximum(_dot(moved, moved), 1e-30)
        pairs = [*pairs[-_PAIRS + 1 :], (moved, bent, np.where(convex, 1 / np.where(convex, curvature, 1), 0))]
        theta, value, slope = new, new_value, new_slope
        if len(open_):  # no step goes down: as near as single precision comes
            slope[:, open_] = 0
    result[:, which] = theta
    return result


def _direction(slope: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Minus the inverse Hessian, as far as the pairs tell it, times the slope; pairs with rho = 0 do not count."""
    q, alphas = slope.copy(), []
    for moved, bent, rho in reversed(pairs):
        alpha = rho * _dot(moved, q)
        q -= (alpha[:, None] * bent).astype(np.float32)
        alphas.append(alpha)
    if pairs:
        moved, bent, rho = pairs[-1]
        size = _dot(bent, bent)
        known = (rho > 0) & (size > 0)
        q *= np.where(known, _dot(moved, bent) / np.where(known, size, 1), 1)[:, None].astype(np.float32)
    for (moved, bent, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = rho * _dot(bent, q)
        q += ((alpha - beta)[:, None] * moved).astype(np.float32)
    return -q


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The inner products of each problem, float64 [P]."""
    return np.einsum("dpc,dpc->p", a, b, dtype=np.float64, casting="unsafe", optimize=False)
