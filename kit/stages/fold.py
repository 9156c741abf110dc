"""One fold of a run, and what identifies its model: what it is trained on and how, and nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from kit import extensions, files
from kit.config import Config
from kit.data.records.manifest import Records
from kit.data.table.leaks import assert_unseen
from kit.errors import ConfigError
from kit.run import FoldFiles, Run
from kit.tables import fault_of_predictions
from kit.tasks import find_task

_SETTINGS = {"network": {"seed", "model", "augment", "train"}, "head": {"seed", "model"}}


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
        settings = self.config.model_dump(include=settings_of_training(self.config))
        if "train" in settings:
            settings["input"] = self.config.input.model_dump(exclude={"cache", "most_boxes"})  # which change no value
            settings["train"].pop("relabel")
        settings |= code_settings(self.config)
        if digest := metadata_digest(self.config, self.records, "train"):
            settings["metadata"] = digest
        if self.config.train.relabel.run:
            settings["relabel"] = relabel_inputs(self.config, self.files.relabel)
        if (self.config.metric or self.config.metric_options) and "train" in settings:
            settings["metric"] = [self.config.metric, self.config.metric_options]  # which chooses the epoch
        if self.config.pseudo.run:
            settings["pseudo"] = [self.config.pseudo.model_dump(exclude={"run"}), pseudo_digest(self)]
        return {
            "training": self.records.fingerprints.training,
            "image": self.records.fingerprints.image,
            "folds": self.cells,
            "fold": self.k,
            "precision": self.config.runtime.precision,
            **settings,
        }

    def is_trained(self) -> bool:
        """Whether the folder holds the model for just these inputs; raises DataError for a model that is damaged."""
        stamp = self.files.trained
        return stamp is not None and stamp.inputs == files.fingerprint(self.inputs)


def fitted_part(config: Config) -> Literal["network", "head"]:
    """What of the model is fitted to the training images; loads no Keras."""
    from kit.models import registry

    return registry.fitted_part(config.model.name)


def settings_of_training(config: Config) -> set[str]:
    """The settings, of those of a network and its training, that its model depends on: those of a head are fewer."""
    return _SETTINGS[fitted_part(config)]


def code_settings(config: Config) -> dict[str, str]:
    """The names of what decides beside the settings of training: a competition in a file, another metric."""
    competition = {"competition": config.competition} if extensions.is_code(config.competition) else {}
    chooses = config.metric is not None and "train" in settings_of_training(config)  # the best epoch
    return {**competition, **({"metric": str(config.metric)} if chooses else {})}


def metadata_digest(config: Config, records: Records, split: str) -> str | None:
    """What identifies the columns of the example table that a model takes, in one split; None where it takes none."""
    from kit.models import frozen

    if not (names := frozen.metadata_columns(config.model.arguments)):
        return None
    table = records.table[records.table["split"] == split]
    return files.fingerprint([names, table["id"].tolist(), *(_texts(table, name) for name in names)])


def _texts(table: pd.DataFrame, name: str) -> list[str]:
    return table[name].astype(str).tolist() if name in table.columns else []


def least_rows(config: Config) -> int:
    """The fewest images that a fold can be fitted on: a batch, for a network."""
    return config.train.batch_size if "train" in settings_of_training(config) else 1


def fold_seed(seed: int, k: int) -> int:
    """The seed of a fold's model, data order and augmentation."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0] % 2**31)


def refuse_leaking_weights(fold: Fold) -> None:
    """Raise LeakError when `model.weights = run:...` is a model that was fitted on what this fold is validated on."""
    source = fold.config.model.weights or ""
    if not source.startswith("run:"):
        return
    from kit.models.weights import trained_fold

    folder = trained_fold(source)
    run = Run(folder.parent)
    if not (run.examples_path.is_file() and run.folds_path.is_file()):
        return  # a model alone, not a run
    held_out = run.folds.folds[int(folder.name.removeprefix("fold") or 0)]
    what = f"fold {fold.k}: model.weights = {source}"
    assert_unseen(run.examples(), held_out, fold.records.rows(fold.valid), what)


def folds_of(run: Run, config: Config, records: Records) -> list[Fold]:
    """The folds of a run."""
    cells = run.folds.folds
    return [Fold(config, records, cells, k, run.fold(k)) for k in range(len(cells))]


def relabel_inputs(config: Config, kept: Path) -> list[Any]:
    """What the labels depend on that heads of another run give: how much they count, and these heads."""
    run, weight = Run(config.train.relabel.run or ""), config.train.relabel.weight
    if not run.exists() and kept.exists():  # a trained fold needs that run no more
        heads = files.read_json(kept, f"restore it, or {run}, from which labels came")
        return [weight, heads]
    return [weight, files.fingerprint([run.config.seed, run.config.model.model_dump()])]


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
