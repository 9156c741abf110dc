"""A run directory: with kit/fold_files.py the only file that knows the names of the files in it, and what they hold.

    runs/<competition>/<name>/
      config.yaml  environment.json  examples.parquet  folds.json  fold0/ fold1/ ...
      oof.parquet  test.parquet  scores.json  decision.json  submission.csv
      report.html  figures/  labels_to_check.csv  explanations/  code/

An ensemble's folder has the same files, and `ensemble.json` in the place of folds. Stamps (`predicted.json` and so on)
say what a stage was run on (kit.files).
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import extensions, files, headlines
from kit.config import Config, dump_config, read_config
from kit.decisions import AnyDecision, schema_of_decision
from kit.errors import ConfigError, DataError
from kit.fold_files import BOOSTED, MODEL, WEIGHTS, ExplanationFiles, FoldFiles, StateFiles
from kit.schemas import AnyScores, EnsembleReport, Folds, schema_of_scores
from kit.tasks import find_task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BOOSTED", "FORMAT_VERSION", "MODEL", "SUBMISSION", "WEIGHTS"]
__all__ += ["ExplanationFiles", "FoldFiles", "Run", "StateFiles", "names_of"]

FORMAT_VERSION = 3  # of run directories; the same as that of records
SUBMISSION = "submission.csv"


class Run:
    """A run directory; reading raises DataError or ConfigError, saying which stage writes what is missing.

    `trust`: the code that it holds may be executed, wherever it comes from (kit.extensions).
    """

    def __init__(self, directory: Path | str, trust: bool = False) -> None:
        self.directory = files.expanded(directory)
        if trust:
            self.trust_code()

    def __str__(self) -> str:
        return str(self.directory)

    def __repr__(self) -> str:
        return headlines.as_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the scores as a table."""
        return headlines.as_html(self)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.directory.name

    def fold(self, k: int) -> FoldFiles:
        """The files of fold `k`."""
        return FoldFiles(self.directory / f"fold{k}")

    @property
    def environment_path(self) -> Path:
        """Versions and machine."""
        return self.directory / "environment.json"

    @property
    def config_path(self) -> Path:
        """The resolved settings; a folder without it is no run."""
        return self.directory / "config.yaml"

    @property
    def code_path(self) -> Path:
        """The folder of the files of code that its settings name (kit.extensions)."""
        return self.directory / extensions.CODE

    def trust_code(self) -> None:
        """Allow the code that it holds to be executed; of a blend, that of its runs, too."""
        for run in (self, *(map(Run, self.ensemble.runs) if self.is_ensemble else ())):
            extensions.add(run.code_path, trusted=True)

    @property
    def examples_path(self) -> Path:
        """The example table, with cells."""
        return self.directory / "examples.parquet"

    @property
    def folds_path(self) -> Path:
        """`Folds`."""
        return self.directory / "folds.json"

    @property
    def oof_path(self) -> Path:
        """Out-of-fold predictions: id, fold, `p_*`."""
        return self.directory / "oof.parquet"

    @property
    def test_path(self) -> Path:
        """Test predictions of every fold: id, fold, `p_*`."""
        return self.directory / "test.parquet"

    @property
    def predicted_done(self) -> Path:
        """The stamp of `oof_path` and `test_path`."""
        return self.directory / "predicted.json"

    @property
    def clusters_path(self) -> Path:
        """What heads say of clusters of images that they were not fitted on: id, fold (the cluster), looks, `p_*`."""
        return self.directory / "clusters.parquet"

    @property
    def clusters_done(self) -> Path:
        """The stamp of `clusters_path`."""
        return self.directory / "clustered.json"

    @property
    def scores_path(self) -> Path:
        """`Scores` or `BoxScores`."""
        return self.directory / "scores.json"

    @property
    def decision_path(self) -> Path:
        """`Decision` or `BoxDecision`."""
        return self.directory / "decision.json"

    @property
    def scored_done(self) -> Path:
        """The stamp of `scores_path` and `decision_path`."""
        return self.directory / "scored.json"

    @property
    def submission_path(self) -> Path:
        """What is sent."""
        return self.directory / SUBMISSION

    def exported_path(self, name: str) -> Path:
        """Where an exported model of this name is written, unless another place is named."""
        return self.directory / "exported" / name

    @property
    def report_path(self) -> Path:
        """What `kit report` writes, a page."""
        return self.directory / "report.html"

    @property
    def figures_path(self) -> Path:
        """The folder of the report's figures, PNG."""
        return self.directory / "figures"

    @property
    def labels_to_check_path(self) -> Path:
        """Labels that are likely wrong, as the report found: id, label, given, suggested, score."""
        return self.directory / "labels_to_check.csv"

    @property
    def reported_done(self) -> Path:
        """The stamp of the report."""
        return self.directory / "reported.json"

    @property
    def ensemble_path(self) -> Path:
        """`EnsembleReport`, of an ensemble."""
        return self.directory / "ensemble.json"

    @property
    def ensemble_done(self) -> Path:
        """The stamp of an ensemble."""
        return self.directory / "ensembled.json"

    @property
    def explanations(self) -> ExplanationFiles:
        """Maps over images of the run."""
        return ExplanationFiles(self.directory / "explanations")

    @property
    def frozen(self) -> "Run":
        """The run that comes first, of a head on the frozen network, where the config wants one."""
        return Run(self.directory / "frozen")

    def repeat(self, n: int = 0) -> "Run":
        """The n-th repeat of this run, with other seeds, where the config wants some; 0: the average of all."""
        return Run(self.directory / (f"repeat{n}" if n else "repeats"))

    def exists(self) -> bool:
        """Whether the directory holds a run, or an ensemble."""
        return self.config_path.is_file()

    @property
    def is_ensemble(self) -> bool:
        """Whether it is a blend of runs, without models of its own."""
        return self.ensemble_path.exists() or self.ensemble_done.exists()

    def locked(self) -> AbstractContextManager[None]:
        """Lock the directory for this process in the block (kit.files.locked); every stage that writes does so."""
        return files.locked(self.directory, again=True)

    @property
    def is_complete(self) -> bool:
        """Whether all its folds are trained, predicted and scored; false where time ran out before."""
        return self.scores_path.exists() and len(self.scores.folds) == len(self.folds.folds)

    @property
    def config(self) -> Config:
        """The resolved settings of the run; those of the images are its records'."""
        if not self.exists():
            raise ConfigError(f"{self} is not a run directory: it has no {self.config_path.name}; `kit run` makes one")
        extensions.add(self.code_path)
        return read_config(self.config_path)

    @property
    def folds(self) -> Folds:
        """The cells of each fold; DataError for a run of another version of kit."""
        content = files.read_json(self.folds_path, self._start_again)
        version = content.get("format_version") if isinstance(content, dict) and content else FORMAT_VERSION
        if version != FORMAT_VERSION:
            raise DataError(f"{self} was made by another version of kit: train it again in another --run")
        return files.read_model(self.folds_path, Folds, self._start_again)

    @property
    def scores(self) -> AnyScores:
        """What `kit score` wrote."""
        self._require_as_scored(self.scores_path)
        schema = schema_of_scores(files.read_json(self.scores_path, self._score_again))
        return files.read_model(self.scores_path, schema, self._score_again)

    @property
    def decision(self) -> AnyDecision:
        """What `kit score` decided on."""
        if not self.decision_path.exists():
            raise DataError(f"{self} has no {self.decision_path.name} yet: run `kit score {self}` first")
        self._require_as_scored(self.decision_path)
        schema = schema_of_decision(files.read_json(self.decision_path, self._score_again))
        return files.read_model(self.decision_path, schema, self._score_again)

    @property
    def ensemble(self) -> EnsembleReport:
        """How the ensemble was blended."""
        return files.read_model(self.ensemble_path, EnsembleReport, self._predict_again)

    def examples(self) -> "pd.DataFrame":
        """The example table, with a column `cell` (-1: test)."""
        expected = self.folds.examples
        if expected and self.examples_path.is_file() and files.sha256_of(self.examples_path) != expected:
            raise files.damaged(self.examples_path, "it is not as kit wrote it", self._start_again)
        return files.read_parquet(self.examples_path, self._start_again)

    def oof(self) -> "pd.DataFrame":
        """Out-of-fold predictions, sorted by id."""
        return self._predictions(self.oof_path, "train")

    def test(self) -> "pd.DataFrame":
        """Test predictions of every fold."""
        return self._predictions(self.test_path, "test")

    def clusters(self) -> "pd.DataFrame | None":
        """Predictions of clusters of training images by heads that saw none of them; None where there are none."""
        if not self.clusters_done.exists():
            return None
        files.require_unchanged(self.clusters_done, self._predict_again)
        from kit.tables import fault_of_clusters

        table, folds = files.read_parquet(self.clusters_path, self._predict_again), self.folds
        if fault := fault_of_clusters(table, self.examples(), folds.labels, find_task(folds.task)):
            raise files.damaged(self.clusters_path, fault, self._predict_again)
        return table

    def prepare(self, config: Config, examples: "pd.DataFrame", folds: Folds) -> None:
        """Write the settings, examples and folds of a run; removes what is left of a split into more folds."""
        self.write_config(config)
        extensions.remember(config.code)
        files.write_parquet(self.examples_path, examples)
        digest = files.sha256_of(self.examples_path)
        files.write_json(self.folds_path, folds.model_copy(update={"examples": digest}).as_json())
        for k in self._fold_numbers():
            if k >= len(folds.folds):
                shutil.rmtree(self.fold(k).folder, ignore_errors=True)

    def write_config(self, config: Config) -> None:
        """Write the settings, and the files of code that they name."""
        extensions.copy(config.code, self.code_path)
        files.write_text(self.config_path, dump_config(config))

    def forget_results(self) -> None:
        """Remove predictions, scores, submission and report, as their models are about to be replaced."""
        stamps = (self.predicted_done, self.clusters_done, self.scored_done, self.reported_done)
        tables = (self.oof_path, self.test_path, self.clusters_path)
        results = (self.scores_path, self.decision_path, self.submission_path, self.report_path)
        for path in (*stamps, *tables, *results, self.labels_to_check_path):
            path.unlink(missing_ok=True)

    def write_scores(self, scores: AnyScores, decision: AnyDecision, inputs: dict[str, Any]) -> None:
        """Write scores and decision, and the stamp of the inputs they come from."""
        files.write_json(self.scores_path, scores.as_json())
        files.write_json(self.decision_path, decision.as_json())
        files.mark_done(self.scored_done, inputs, [self.scores_path, self.decision_path])

    def write_ensemble(self, report: EnsembleReport, inputs: dict[str, Any]) -> None:
        """Write how an ensemble was blended, and the stamp of its inputs and tables."""
        files.write_json(self.ensemble_path, report.as_json())
        files.mark_done(self.ensemble_done, inputs, [self.ensemble_path, self.oof_path, self.test_path])

    def trained_folds(self) -> list[int]:
        """The folds whose model is there, of whatever settings."""
        return [k for k in self._fold_numbers() if self.fold(k).done.exists()]

    def files_of_predictor(self) -> list[Path]:
        """What predicting new images needs: settings, folds, decision and scores, and each trained fold's model."""
        if not self.trained_folds():
            raise DataError(f"{self} has no fold trained yet: run `kit train` first")
        _ = self.decision, self.scores  # raises for those that are missing or damaged
        own = (self.config_path, self.folds_path, self.decision_path, self.scores_path, self.scored_done)
        folds = [self.fold(k) for k in self.trained_folds()]
        code = sorted(self.code_path.glob("*.py"))
        return [*own, *code, *(path for fold in folds for path in (fold.done, fold.history, *fold.model))]

    def begun_folds(self) -> list[int]:
        """The folds that would be lost if they were trained again: trained, or at least for an epoch."""
        paths = {k: (self.fold(k).done, self.fold(k).state.state, *self.fold(k).model) for k in self._fold_numbers()}
        return [k for k in paths if any(path.exists() for path in paths[k])]

    def _fold_numbers(self) -> Iterator[int]:
        names = (re.fullmatch(r"fold(\d+)", path.name) for path in self.directory.glob("fold*") if path.is_dir())
        yield from sorted(int(name[1]) for name in names if name)

    def _predictions(self, path: Path, split: str) -> "pd.DataFrame":
        """A table of predictions, checked: those of images of this split, as `kit predict` or `kit ensemble` wrote."""
        if not path.exists():
            raise DataError(f"{self} has no {path.name} yet: run `kit predict` first")
        stamp = self.ensemble_done if self.is_ensemble else self.predicted_done
        if stamp.exists() and path in files.changed(stamp, self._predict_again):
            raise files.damaged(path, "it is not as kit wrote it", self._predict_again)
        from kit.tables import fault_among_examples, fault_of_predictions  # here: `import kit` loads no pandas

        table, folds = files.read_parquet(path, self._predict_again), self.folds
        task = find_task(folds.task)
        task = replace(task, exclusive=False) if self.is_ensemble else task  # blended labels need not sum to 1
        if fault := (
            fault_of_predictions(table, folds.labels, task, split == "test")
            or fault_among_examples(table, self.examples(), split, folds.labels, folds.folds)
        ):
            raise files.damaged(path, fault, self._predict_again)
        return table

    def _require_as_scored(self, path: Path) -> None:
        if self.scored_done.exists() and path in files.changed(self.scored_done, self._score_again):
            raise files.damaged(path, "it is not as `kit score` wrote it", self._score_again)

    @property
    def _start_again(self) -> str:
        """What to do when a file is damaged that training wrote first."""
        if self.is_ensemble:
            return self._predict_again
        return f"restore it, or delete it and run `kit run COMP --run {self}`, which writes it again"

    @property
    def _predict_again(self) -> str:
        if self.is_ensemble:
            return f"run `kit ensemble RUN RUN --out {self}` again"
        return f"run `kit predict {self} --records DIR` again"

    @property
    def _score_again(self) -> str:
        return f"run `kit score {self}` again"


def names_of(runs: Sequence[Run]) -> list[str]:
    """Names that tell runs apart: their folders', or whole paths; ConfigError when one is given twice."""
    if len({run.directory.resolve() for run in runs}) < len(runs):
        raise ConfigError("the same run is given twice")
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]
