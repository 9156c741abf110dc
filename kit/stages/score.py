"""What follows training: stages on prediction tables alone, without TensorFlow or Keras.

    predictions -> scores, thresholds -> (ensemble of runs) -> submission

An ensemble's folder has the files of a run, so that scoring and submitting it are the same stages.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.competitions import Competition, find_competition
from kit.config import Config, dump_config, read_config
from kit.errors import ConfigError, DataError, some
from kit.evaluate import blend, calibration
from kit.evaluate import ensemble as blending
from kit.evaluate import score as scoring
from kit.predict import merging as store
from kit.submit.submission import check_submission, make_submission, read_submission

say = partial(print, flush=True)
_TABLES = ("oof", "test", "examples")


def score(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predictions -> `scores.json` (out-of-fold, and test where it has labels) and `thresholds.json`; returns both."""
    config, competition, task = _known(run)
    oof, test = _table(run, "oof"), _test(run)
    written = [run / "scores.json", run / "thresholds.json"]
    inputs = {"evaluate": config.evaluate.model_dump(), "metric": competition.metric, "task": task}
    inputs |= {name: files.sha256_of(run / f"{name}.parquet") for name in _TABLES}
    if not files.is_done(run / "scored.json", inputs):
        known = pd.read_parquet(run / "examples.parquet")
        scores = scoring.score_all(oof, test, known, competition.metric, task, config.evaluate)
        files.write_json(written[0], scores)
        files.write_json(written[1], scoring.thresholds(oof, task, config.evaluate.threshold))
        files.mark_done(run / "scored.json", inputs, written)
    return files.read_json(written[0]), files.read_json(written[1])


def compare(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Each run's out-of-fold score against the first's, on the same resamples of patients."""
    config, competition, _ = _known(runs[0])
    sign = 1 if competition.direction == "max" else -1
    tables = {name: _table(run, "oof") for name, run in zip(_names(runs), runs, strict=True)}
    known = pd.read_parquet(runs[0] / "examples.parquet")
    return scoring.compare(tables, known, competition.metric, sign, config.evaluate)


def ensemble(runs: Sequence[Path], out: Path, how: str = "auto", metadata: Sequence[str] = ()) -> dict[str, Any]:
    """Runs -> a blend of them in `out`, a folder with the files of a run, and `ensemble.json`, which it returns.

    `auto` takes the blend that is worth most on folds that did not fit it, and the plain mean when none is better by
    more than its interval. `metadata` are columns of the examples that the `boost` blend may use. `oof.parquet` holds
    the nested predictions; where a blend was chosen for its value on these rows, that is slightly optimistic still.
    """
    if len(runs) < 2:
        raise ConfigError("an ensemble takes two runs at least")
    config, competition, task = _known(runs[0])
    names = _names(runs)
    for run in runs:
        _table(run, "oof"), _table(run, "test")  # or it is told which one has none yet
        if (other := _known(run)[0].competition) != config.competition:
            raise DataError(f"{run} is a run of {other!r}, {runs[0]} of {config.competition!r}")
    if list(out.glob("fold*/")):
        raise DataError(f"{out} is a run, which an ensemble would overwrite: give another --out")
    members_are = [[str(run), *(files.sha256_of(run / f"{name}.parquet") for name in _TABLES)] for run in runs]
    asked = {"blend": how, "metadata": list(metadata), "evaluate": config.evaluate.model_dump()}
    inputs = {"runs": members_are, **asked}
    if files.is_done(out / "ensembled.json", inputs):
        return dict(files.read_json(out / "ensemble.json"))
    known, oof, members = _members(runs, names, "oof")
    tested, test_members = _members(runs, names, "test")[1:]
    sign = 1 if competition.direction == "max" else -1
    y = oof.filter(regex="^y_").to_numpy(np.float64)
    rows = blend.Rows(members, y, competition.metric, sign, task, _metadata(known, oof["id"], metadata))
    fold, groups = oof["fold"].to_numpy(), oof["id"].map(known.set_index("id")["group"]).to_numpy()
    tried = list(blend.BLENDS) if how == "auto" else [how]
    settings = config.evaluate
    table, nested = blending.compare(tried, rows, fold, groups, settings.resamples, settings.confidence)
    chosen = blending.choose(table) if how == "auto" else how
    fitted = blend.fit(chosen, rows)
    sent = fitted.apply(test_members, _metadata(known, tested["id"], metadata)) if len(tested) else test_members[0]
    files.write_text(out / "config.yaml", dump_config(config))
    files.write_parquet(out / "examples.parquet", known)
    files.write_json(out / "folds.json", files.read_json(runs[0] / "folds.json"))
    labels = [column[2:] for column in oof.columns if column.startswith("y_")]
    files.write_parquet(out / "oof.parquet", _with_probabilities(oof, nested[chosen], labels))
    files.write_parquet(out / "test.parquet", _with_probabilities(tested.assign(fold=0)[["id", "fold"]], sent, labels))
    reason = "it beats the plain mean by more than its interval"
    if chosen == "mean":
        reason = "none beats it by more than its interval"
    if how != "auto":
        reason = "you asked for it"
    told = {
        "metric": competition.metric,
        "runs": [str(run) for run in runs],
        "blends": table.replace({np.nan: None}).to_dict("index"),
        "correlation": blending.correlations(members, names).to_dict(),
        "chosen": chosen,
        "reason": reason,
        "weights": blending.described(fitted, names),
        "metadata": list(metadata),
    }
    files.write_json(out / "ensemble.json", told)
    files.mark_done(out / "ensembled.json", inputs, [out / f"{name}.parquet" for name in _TABLES[:2]])
    return told


def write_submission(run: Path, sample: Path | None, out: Path) -> None:
    """Mean test prediction over the folds -> a submission that has passed the check.

    Without a sample (nobody takes submissions) it has a column for every label.
    """
    config, competition, task = _known(run)
    raw = _table(run, "oof")
    oof, predictions = _to_send(config, task, raw, raw), _to_send(config, task, raw, _test(run))
    wanted = read_submission(sample, competition.id_column) if sample else None
    submission = make_submission(competition, predictions, wanted)
    for remark in check_submission(competition, submission, submission if wanted is None else wanted, oof):
        say(f"noticed: {remark}")
    files.write_text(out, submission.to_csv(index=False))
    unread = set(submission[competition.id_column]) - set(predictions["id"])
    if unread:
        say(f"{len(unread)} test images are missing or unreadable and got the mean prediction: {some(unread)}")


def _to_send(config: Config, task: str, oof: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions, calibrated and for the prevalence of the test set, where the config says so.

    The calibrator is fitted on out-of-fold predictions, each of one model; what is sent is a mean over models.
    """
    settings = config.evaluate
    columns = [column for column in predictions.columns if column.startswith("p_")]
    y = oof[["y" + column[1:] for column in columns]].to_numpy(np.float64)
    p = predictions[columns].to_numpy(np.float64)
    if settings.calibration != "none":
        p = calibration.fit(settings.calibration, y, oof[columns].to_numpy(np.float64), task)(p)
    if settings.test_prevalence is not None:
        if len(settings.test_prevalence) != len(columns):
            raise ConfigError(f"evaluate.test_prevalence: give {len(columns)} numbers, for {some(columns, 15)}")
        balanced = config.input.balance != "none" or config.train.loss.weights != "none"
        if balanced and settings.calibration == "none":
            raise ConfigError(
                "evaluate.test_prevalence corrects from the prevalence in training, which balancing (input.balance, "
                "train.loss.weights) hid from the model: set evaluate.calibration too, such as platt"
            )
        p = calibration.shift_prior(p, np.nanmean(y, axis=0), np.array(settings.test_prevalence), task)
    return predictions.assign(**{column: p[:, n] for n, column in enumerate(columns)})


def _members(runs: Sequence[Path], names: Sequence[str], what: str) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """The first run's examples, and `aligned` of the runs' predictions."""
    read: Callable[[Path], pd.DataFrame] = _test if what == "test" else partial(_table, name="oof")
    tables = {name: read(run) for name, run in zip(names, runs, strict=True)}
    known = pd.read_parquet(runs[0] / "examples.parquet")
    return known, *blending.aligned(tables, "test" if what == "test" else "training")


def _metadata(known: pd.DataFrame, ids: pd.Series, columns: Sequence[str]) -> pd.DataFrame:
    """Numbers of the examples' columns for these ids; text becomes the number of its place among the sorted texts."""
    made = pd.DataFrame(index=range(len(ids)))
    for column in columns:
        if column not in known.columns or column[:2] == "y_" or column in ("id", "path", "split", "group", "cell"):
            raise ConfigError(f"the examples have no metadata column {column!r}")
        values = known[column]
        if not pd.api.types.is_numeric_dtype(values):
            codes = pd.Categorical(values).codes
            values = pd.Series(np.where(codes < 0, np.nan, codes), index=values.index)
        made[column] = ids.map(pd.Series(values.to_numpy(float), index=known["id"])).to_numpy()
    return made


def _with_probabilities(table: pd.DataFrame, p: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    return table.join(pd.DataFrame(p.astype(np.float32), columns=[f"p_{label}" for label in labels]))


def _names(runs: Sequence[Path]) -> list[str]:
    """The runs' folder names; whole paths where two are alike."""
    names = [run.name for run in runs]
    if len(set(map(str, runs))) < len(runs):
        raise ConfigError("the same run is given twice")
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _known(run: Path) -> tuple[Config, Competition, str]:
    """A run's config, competition and task."""
    config = read_config(run)
    return config, find_competition(config.competition, config), files.read_json(run / "folds.json")["task"]


def _table(run: Path, name: str) -> pd.DataFrame:
    path = run / f"{name}.parquet"
    if not path.exists():
        raise DataError(f"{run} has no {path.name} yet: run `kit predict` first")
    return pd.read_parquet(path)


def _test(run: Path) -> pd.DataFrame:
    return store.mean_over_folds(_table(run, "test"))
