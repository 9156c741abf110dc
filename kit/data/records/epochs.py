"""What a reader of records is told: which batches to give."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kit.data.records.manifest import Records
from kit.data.records.order import AT_ONCE


@dataclass(frozen=True)
class Host:
    """Which of several hosts this process is; each decodes its share of every global batch."""

    index: int = 0
    count: int = 1


ONE_HOST = Host()


@dataclass(frozen=True)
class Epochs:
    """Endless training batches of `rows` rows, from `first_epoch` on.

    Of the examples of `cells`, `used` enter each epoch, shuffled within `buffer`; of them this host takes its share.
    `weights` (float64 [n], mean 1) say how often an epoch shows each example in the mean; None: once. `cache` is what
    stays in memory between epochs; none: the shards are read in each. `most_boxes` and `deterministic` are settings.
    """

    records: Records
    cells: list[int]
    rows: int
    used: int
    seed: int
    first_epoch: int
    buffer: int
    weights: np.ndarray | None
    cache: Literal["none", "encoded", "decoded"]
    host: Host
    most_boxes: int | None
    deterministic: bool

    @property
    def examples(self) -> int:
        """How many examples the cells hold."""
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """How many examples each shard of the cells holds, in order."""
        return [shard.examples for shard in self.records.shards if shard.cell in self.cells]

    @property
    def at_once(self) -> int:
        """How many shards are read in turns: balanced examples in memory are in the order of the shards."""
        return 1 if self.cache != "none" and self.weights is not None else AT_ONCE

    def shuffle_seed(self, epoch: int) -> int:
        """The seed by which the examples of an epoch are shuffled."""
        return self.seed * 1_000_003 + epoch
