"""One fold of a run, and what identifies its model: what it is trained on and how, and nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kit import files
from kit.config import Config
from kit.data.records.manifest import Records
from kit.errors import ConfigError
from kit.run import FoldFiles, Run
from kit.tables import fault_of_predictions
from kit.tasks import find_task


@dataclass(frozen=True)
class Fold:
    """Fold `k` of a run: `cells` are the cells of every fold, `files` are where this one's results lie.

    `added` are further cells that it trains on, of pseudo-labels.
    """

    config: Config
    records: Records
    cells: list[list[int]]
    k: int
    files: FoldFiles
    added: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """How it is called in what is printed."""
        return f"fold {self.k + 1}/{len(self.cells)}"

    @property
    def valid(self) -> list[int]:
        """The cells that this fold's model never sees."""
        return self.cells[self.k]

    @property
    def train(self) -> list[int]:
        """The cells it is fitted on."""
        return [*sorted(cell for k, held in enumerate(self.cells) if k != self.k for cell in held), *self.added]

    @property
    def inputs(self) -> dict[str, Any]:
        """All that the model depends on; a change of anything else, such as the test set, does not train it again."""
        settings = self.config.model_dump(include={"seed", "model", "augment", "train"})
        if self.config.pseudo.run:
            settings["pseudo"] = [self.config.pseudo.model_dump(exclude={"run"}), pseudo_digest(self)]
        return {
            "training": self.records.fingerprints.training,
            "image": self.records.fingerprints.image,
            "folds": self.cells,
            "fold": self.k,
            "precision": self.config.runtime.precision,
            "input": self.config.input.model_dump(exclude={"cache", "most_boxes"}),  # which change no value
            **settings,
        }

    def is_trained(self) -> bool:
        """Whether the folder holds the model for just these inputs; raises DataError for a model that is damaged."""
        stamp = self.files.trained
        return stamp is not None and stamp.inputs == files.fingerprint(self.inputs)


def folds_of(run: Run, config: Config, records: Records) -> list[Fold]:
    """The folds of a run."""
    cells = run.folds.folds
    return [Fold(config, records, cells, k, run.fold(k)) for k in range(len(cells))]


def pseudo_digest(fold: Fold) -> str:
    """SHA-256 of the predictions that pseudo-labels come from, or came from: a trained fold needs them no more."""
    source, kept = Run(fold.config.pseudo.run or "").fold(fold.k).test, fold.files.pseudo
    if not source.is_file() and kept.exists():
        return str(files.read_json(kept, f"restore it, or {source}, from which pseudo-labels came"))
    return files.sha256_of(pseudo_source(fold))


def pseudo_source(fold: Fold) -> Path:
    """The predictions that pseudo-labels come from; raises ConfigError when that run has none for these very folds."""
    run = Run(fold.config.pseudo.run or "")
    path, stamp = run.fold(fold.k).test, run.fold(fold.k).test_done
    if not path.is_file():
        raise ConfigError(f"pseudo.run = {run}: there is no {path}; `kit run` or `kit predict` writes it")
    if stamp.exists():
        files.require_unchanged(stamp, f"run `kit predict {run} --records DIR` again")
    folds, ours = run.folds, fold.records.fingerprints
    if (folds.training, folds.image, folds.folds) != (ours.training, ours.image, fold.cells):
        raise ConfigError(
            f"pseudo.run = {run} has other folds or records, so its models have seen what this run validates on: give "
            "a run of the same records, folds and fold_seed"
        )
    return path


def pseudo_predictions(fold: Fold) -> pd.DataFrame:
    """What the earlier run's model of this fold says of the test images."""
    path = pseudo_source(fold)
    remedy = f"run `kit predict {fold.config.pseudo.run} --records DIR` again"
    table = files.read_parquet(path, remedy)
    task = find_task(fold.records.task)
    if fault := fault_of_predictions(table.assign(fold=fold.k), fold.records.labels, task, repeated=False):
        raise files.damaged(path, fault, remedy)
    return table
