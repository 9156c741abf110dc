"""What kit has to know of a competition: plain values, without state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.config import Source
    from kit.data.table.examples import Examples


@dataclass(frozen=True)
class Target:
    """One of the things that can be learnt from a competition's data.

    `task` names one of `kit.tasks.TASKS`; it and `labels` are empty where the data says them. `metric` names one of
    `kit.evaluate.metrics.METRICS`, the leaderboard's where there is one. `columns` is the submission's format (column
    -> label); None: nobody takes submissions of this target, and one that is written has a column for every label.
    `means` are further means of the metric over some of the labels, by a name.
    """

    task: str
    labels: tuple[str, ...]
    metric: str
    columns: Mapping[str, str] | None = None
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Competition:
    """A competition, or another set of images with labels.

    `read` turns the raw folder into examples. The setting `target` chooses among `targets`; the first is the default.
    `settings` names what else of `kit.config.Source` it reads. `slug` is Kaggle's, of a dataset with its owner.
    `id_column` is the submission's, `sample` the path of the sample submission below the data root (None: there is
    none, the test split is what the data itself holds back). `make`, where there is one, writes the raw folder
    (competitions that kit makes up).
    """

    name: str
    title: str
    slug: str | None
    targets: Mapping[str, Target]
    read: "Callable[[Path, Source], Examples]"
    settings: tuple[str, ...] = ()
    id_column: str = "id"
    sample: str | None = None
    make: Callable[[Path], None] | None = None
    chosen: str = ""  # the target; empty: the first

    @property
    def target(self) -> Target:
        """The target that was chosen."""
        return self.targets[self.chosen or next(iter(self.targets))]

    @property
    def leaderboard(self) -> bool:
        """Whether Kaggle scores what kit predicts: a competition, not a dataset, that takes this target's columns."""
        return bool(self.slug and "/" not in self.slug and self.target.columns)
