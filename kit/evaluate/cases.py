"""Which images to look at: the worst and best predictions, those near the cut, and what the decision gets wrong.

`judge` makes a table with a row for each image and label, `choose` takes rows of one kind from it. `truth` and
`decision` are in words: the class, or a label, or `not LABEL`. Of boxes, a row is an image too: `p` is the score of its
best box of the label.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kit.boxes import Boxes, boxes_of
from kit.decisions import AnyDecision, BoxDecision, Decision
from kit.errors import ConfigError, nearest
from kit.evaluate.boxes import decision as box_decision
from kit.evaluate.boxes.matching import by_label, match
from kit.evaluate.boxes.metrics import FROC_IOU
from kit.evaluate.boxes.score import gate_of
from kit.evaluate.decision import class_factors, label_cuts
from kit.evaluate.sent import sent
from kit.tables import probabilities, truth, with_truth

COLUMNS = ("id", "label", "truth", "decision", "p", "kind")
_EPSILON = 1e-7


class _Judged(NamedTuple):
    """Arrays [images, labels]: p float; `true` 1, 0 or NaN; `decided` bool; the loss, and the distance to the cut.

    Of classes, loss and doubt stand in the column of the class decided on, and are NaN in the others.
    """

    p: np.ndarray
    true: np.ndarray
    decided: np.ndarray
    loss: np.ndarray
    doubt: np.ndarray


def judge(
    predictions: pd.DataFrame, examples: pd.DataFrame, decision: AnyDecision, fused: bool = False
) -> pd.DataFrame:
    """A row for each image and label: id, label, truth (None: unknown), decision, p, loss, doubt, error.

    `predictions` are raw: those out of fold, or (`fused`) the mean or fusion over folds; `p` is as it would be sent.
    `loss` is in nats, of boxes the sum of what is missed and false; `doubt` is the distance from the decision's cut in
    logits, of classes the margin between the two likeliest. `error`: false positive, false negative or an empty text.
    Raises KeyError for ids that the examples do not have.
    """
    judged = _KINDS[type(decision)](decision, predictions, examples, fused)
    labels = np.array(decision.labels, object)
    exclusive = isinstance(decision, Decision) and decision.classes is not None
    unknown = np.isnan(judged.true)
    name = _class_names if exclusive else _label_names
    false_positive, false_negative = judged.decided & (judged.true == 0), ~judged.decided & (judged.true == 1)
    columns = {
        "truth": np.where(unknown, np.array(None, object), name(labels, judged.true == 1)),
        "decision": name(labels, judged.decided),
        "p": judged.p,
        "loss": np.where(unknown, np.nan, judged.loss),
        "doubt": judged.doubt,
        "error": np.where(false_positive, "false positive", np.where(false_negative, "false negative", "")),
    }
    table = pd.DataFrame({"id": np.repeat(predictions["id"].to_numpy(), len(labels))})
    texts = {"label": np.tile(labels, len(predictions)), "truth": columns.pop("truth").reshape(-1)}
    table = table.assign(**{key: pd.Series(values, dtype=object) for key, values in texts.items()})
    return table.assign(**{key: values.reshape(-1) for key, values in columns.items()})


def choose(judged: pd.DataFrame, kind: str, count: int | None = None, seed: int = 0) -> pd.DataFrame:
    """The first `count` (all) images of a kind, each once, with columns `COLUMNS`; of no such image no row.

    Kinds: `worst` (largest loss first), `best` (smallest loss first, of each truth in turn), `unsure` (nearest to the
    cut), `random`, `false positive` (the surest first) and `false negative`. Rows of some labels alone choose among
    these. Raises ConfigError for another kind.
    """
    if kind not in _ORDERS:
        raise ConfigError(f"unknown kind of case {kind!r}{nearest(kind, _ORDERS)}")
    rows = _ORDERS[kind](judged, seed).drop_duplicates("id")
    return rows.head(len(rows) if count is None else count).assign(kind=kind)[[*COLUMNS]].reset_index(drop=True)


def choose_all(judged: pd.DataFrame, counts: Mapping[str, int], seed: int = 0) -> pd.DataFrame:
    """So many images of each kind, one kind after the other; an image of several kinds is of the first."""
    parts = [choose(judged, kind, count, seed) for kind, count in counts.items()]
    if not parts:
        return pd.DataFrame(columns=[*COLUMNS])
    return pd.concat(parts, ignore_index=True).drop_duplicates("id", ignore_index=True)


def named(judged: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """The images of these ids in their order, as cases of the kind `named`; ids without predictions are left out."""
    likeliest = judged.sort_values("p", ascending=False, kind="stable").drop_duplicates("id").set_index("id")
    present = [name for name in ids if name in likeliest.index]
    return likeliest.loc[present].reset_index().assign(kind="named")[[*COLUMNS]]


def _probabilities(decision: Decision, predictions: pd.DataFrame, examples: pd.DataFrame, fused: bool) -> _Judged:
    labels = decision.labels
    p = probabilities(sent(decision, predictions), labels).astype(np.float64)
    true = truth(with_truth(predictions, examples, labels), labels).astype(np.float64)
    if decision.classes is None:
        cuts = label_cuts(decision)
        likely = np.where(true == 1, p, 1 - p)
        return _Judged(p, true, p >= cuts, -np.log(np.maximum(likely, _EPSILON)), np.abs(_logit(p) - _logit(cuts)))
    weighed = p * class_factors(decision)
    decided = np.arange(len(labels)) == weighed.argmax(axis=1)[:, None]
    margin = np.diff(np.sort(weighed, axis=1)[:, -2:], axis=1) if len(labels) > 1 else weighed
    known = ~np.isnan(true).any(axis=1, keepdims=True)
    loss = -np.log(np.maximum((p * (true == 1)).sum(axis=1, keepdims=True), _EPSILON))
    true = np.where(known, true, np.nan)
    return _Judged(p, true, decided, np.where(decided & known, loss, np.nan), np.where(decided, margin, np.nan))


def _boxes(decision: BoxDecision, predictions: pd.DataFrame, examples: pd.DataFrame, fused: bool) -> _Judged:
    labels, rows = decision.labels, examples.set_index("id").loc[predictions["id"]].reset_index()
    raw, true = boxes_of(predictions, labels), boxes_of(rows, labels)
    gate = gate_of(predictions, labels)
    known = truth(with_truth(predictions, examples, labels), labels).astype(np.float64)
    best = box_decision.apply(_uncut(decision), raw, gate, fused).best(len(labels))
    kept = box_decision.apply(decision, raw, gate, fused)
    cuts = np.array([_cut(decision.rules[label], fused) for label in labels])
    loss = np.stack([_box_loss(*pair) for pair in by_label(true, kept, len(labels))], axis=1)
    return _Judged(best, known, kept.best(len(labels)) > 0, loss, np.abs(_logit(best) - _logit(cuts)))


def _uncut(decision: BoxDecision) -> BoxDecision:
    rules = {label: rule.model_copy(update={"cut": 0.0, "fused_cut": None}) for label, rule in decision.rules.items()}
    return decision.model_copy(update={"rules": rules})


def _cut(rule: Any, fused: bool) -> float:
    return rule.fused_cut if fused and rule.fused_cut is not None else rule.cut


def _box_loss(true: Boxes, kept: Boxes) -> np.ndarray:
    """How wrong the boxes of each image are, float64 [images]: the sum of 1 for each that is missed, the score of each
    false one, and 1 - the score of each hit (IoU above .4)."""
    matches = match(true, kept, [FROC_IOU])
    hit = matches.hit[:, 0]
    loss = matches.true - np.bincount(matches.image[hit], minlength=true.images).astype(np.float64)
    np.add.at(loss, matches.image, np.where(hit, 1 - matches.score, matches.score))
    return loss


_KINDS: dict[type, Callable[[Any, pd.DataFrame, pd.DataFrame, bool], _Judged]] = {
    Decision: _probabilities,
    BoxDecision: _boxes,
}


def _in_turn(judged: pd.DataFrame) -> pd.DataFrame:
    """By rising loss, the first of each truth, then the second of each, and so on; labels before their absence."""
    rows = _sorted(judged, loss=True, doubt=False)
    turn = rows.groupby("truth").cumcount()
    absent = rows["truth"] != rows["label"]
    return rows.assign(turn=turn, absent=absent).sort_values(["turn", "absent"], kind="stable")


def _shuffled(judged: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The likeliest label of each image, the images in random order."""
    rows = judged.sort_values("p", ascending=False, kind="stable").drop_duplicates("id").sort_values("id")
    return rows.iloc[np.random.default_rng(seed).permutation(len(rows))]


_ORDERS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "worst": lambda judged, seed: _sorted(judged, loss=False, doubt=False),
    "best": lambda judged, seed: _in_turn(judged),
    "unsure": lambda judged, seed: _sorted(judged, doubt=True),
    "random": lambda judged, seed: _shuffled(judged, seed),
    "false positive": lambda judged, seed: _sorted(_errors(judged, "false positive"), p=False),
    "false negative": lambda judged, seed: _sorted(_errors(judged, "false negative"), p=True),
}
KINDS = tuple(_ORDERS)


def _sorted(judged: pd.DataFrame, **rising: bool) -> pd.DataFrame:
    """The rows by these columns, rising or falling, and by their ids; without those where the first is unknown."""
    rows = judged.dropna(subset=next(iter(rising)))
    return rows.sort_values([*rising, "id"], ascending=[*rising.values(), True])


def _errors(judged: pd.DataFrame, kind: str) -> pd.DataFrame:
    return judged[judged["error"] == kind]


def _label_names(labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """For each image and label the label, or `not LABEL`: object [images, labels]."""
    return np.where(present, labels, np.array([f"not {label}" for label in labels], object))


def _class_names(labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The image's class in each of its columns: object [images, classes]."""
    return np.repeat(labels[present.argmax(axis=1)][:, None], len(labels), axis=1)


def _logit(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.log(clipped) - np.log1p(-clipped)
