"""Does the score out of fold move with the leaderboard's, over the submissions of a ledger?

Ranks are compared, as a constant gap does no harm: what is better out of fold has to be better on the board. A few
submissions order themselves by chance, so each number comes with its uncertainty, and the verdict may be that nobody
can say.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from kit.errors import counted
from kit.lazy import lazy

stats = lazy("scipy.stats")
FEWEST = 5  # submissions: of four, even perfect order comes by chance in 1 of 24
_EXACT, _PERMUTATIONS = 7, 5_000  # up to how many submissions all orders are tried; how many are drawn of more
_NO_TRACK = 0.5  # a Spearman correlation that is surely below is no guide

Verdict = Literal["tracks", "does not track", "unknown"]


@dataclass(frozen=True)
class Tracking:
    """How out-of-fold scores and a board's rank the same submissions.

    `spearman` with its interval (95 %, Fieller et al. 1957: Fisher's z with variance 1.06 / (n - 3)), `kendall` (tau-b)
    with `chance`, the share of all orders that agree as much. NaN where the submissions are too few, or all alike.
    """

    count: int
    spearman: float
    low: float
    high: float
    kendall: float
    chance: float
    gap: float

    @property
    def verdict(self) -> Verdict:
        """`tracks`: surely more than none; `does not track`: surely less than a correlation of .5."""
        if self.count < FEWEST or np.isnan(self.spearman):
            return "unknown"
        if self.low > 0 and self.chance < 0.05:
            return "tracks"
        return "does not track" if self.high < _NO_TRACK else "unknown"


def track(oof: np.ndarray, board: np.ndarray) -> Tracking:
    """How scores out of fold and on a board go together, both float [submissions]; rows with a NaN are left out."""
    known = ~(np.isnan(oof) | np.isnan(board))
    oof, board = oof[known], board[known]
    count, gap = len(oof), float(np.median(board - oof)) if len(oof) else float("nan")
    if count < 3 or len(np.unique(oof)) < 2 or len(np.unique(board)) < 2:
        none = float("nan")
        return Tracking(count, none, none, none, none, none, gap)
    spearman, kendall = float(stats.spearmanr(oof, board).statistic), float(stats.kendalltau(oof, board).statistic)
    width = 1.959964 * np.sqrt(1.06 / (count - 3)) if count > 3 else np.inf
    z = np.arctanh(np.clip(spearman, -0.999999, 0.999999))
    low, high = float(np.tanh(z - width)), float(np.tanh(z + width))
    return Tracking(count, spearman, low, high, kendall, _chance(oof, board), gap)


def track_ledger(table: pd.DataFrame) -> dict[tuple[str, str, str], Tracking]:
    """By competition, metric and board (public, private) how the submissions go together; without boards of none."""
    parts = {}
    for key, rows in table.groupby(["competition", "metric"]):
        competition, metric = map(str, key)
        for board in ("public", "private"):
            if rows[["oof", board]].notna().all(axis=1).any():
                parts[competition, metric, board] = track(rows["oof"].to_numpy(float), rows[board].to_numpy(float))
    return parts


def as_text(tracking: Tracking, board: str) -> list[str]:
    """The verdict, and what it rests on."""
    sent = counted(tracking.count, "submission")
    if np.isnan(tracking.spearman):
        return [f"out of fold against {board}: too few submissions to say ({sent} with both scores)"]
    numbers = (
        f"Spearman {tracking.spearman:.2f} ({tracking.low:.2f} to {tracking.high:.2f}), Kendall {tracking.kendall:.2f} "
        f"(as much by chance: {tracking.chance:.1%}), median difference {tracking.gap:+.4f}, {sent}"
    )
    words = {
        "tracks": f"your validation tracks the {board} board",
        "does not track": f"your validation does not track the {board} board: do not choose by it alone",
        "unknown": f"too few submissions to say whether your validation tracks the {board} board",
    }
    return [f"out of fold against {board}: {words[tracking.verdict]}", f"  {numbers}"]


def _chance(oof: np.ndarray, board: np.ndarray) -> float:
    """The share of orders of the board's scores whose concordance with those out of fold is as high: one-sided."""
    first, second = np.triu_indices(len(oof), 1)
    signs = np.sign(oof[first] - oof[second])
    if len(oof) <= _EXACT:
        orders = np.array(list(itertools.permutations(range(len(oof)))))
    else:
        rng = np.random.default_rng(0)
        orders = np.array([np.arange(len(oof)), *(rng.permutation(len(oof)) for _ in range(_PERMUTATIONS))])
    shuffled = board[orders]
    agreement = np.sign(shuffled[:, first] - shuffled[:, second]) @ signs
    own = np.sign(board[first] - board[second]) @ signs
    return float(np.mean(agreement >= own))
