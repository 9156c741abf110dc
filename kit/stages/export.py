"""A run that is trained and scored -> its whole decision as a model in another format, or as one file of kit's."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kit import files
from kit.competitions import find_competition
from kit.config import RuntimeSettings
from kit.data.records.manifest import Records
from kit.decisions import Decision
from kit.errors import ConfigError, DataError
from kit.models.trust import source_outside
from kit.predict.packed import ENDING, pack
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.runtime import devices

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)
KIT = "kit"
FORMATS = (KIT, "savedmodel", "onnx", "litert")
_INT8 = "litert"
# TensorFlow writes all of them, and loads what JAX has trained; half precision is of the GPU that a run was trained on.
_RUNTIME = RuntimeSettings(backend="tensorflow", devices=1, precision="float32")
MOST = 2000  # out-of-fold images by which the loss of 8-bit integers is measured, unless another number is given


class Wanted(NamedTuple):
    """What is to be written: the format, of which folds, and with what in it.

    `any_size`: it takes images of any size. `int8`: in 8-bit integers, whose loss is measured on at most `images`
    out-of-fold images of `records` (default: those beside the run).
    """

    name: str = KIT
    folds: Sequence[int] | None = None
    any_size: bool = False
    int8: bool = False
    records: Path | None = None
    images: int = MOST


def export(run: Run, wanted: Wanted, out: Path | None = None, trust: bool = False) -> Path:
    """Write the folds' mean, views, calibration and change of prior of a run in the format that is wanted.

    `kit`: a file, by default beside the run's. Others: a folder, by default in the run, that holds the model, the
    decision and an example that runs without kit. Returns its path. Raises ConfigError for what the format cannot hold,
    with the reason; then nothing is written.
    """
    _require_sensible(wanted)
    if wanted.name == KIT:
        path = out or run.exported_path(f"{run.directory.resolve().name}{ENDING}")
        pack(run, path)
        if outside := source_outside(run.config.model.name, run.config.model.arguments):
            log.warning(f"{path} does not hold {outside}: it has to be where the file is opened, with --trust")
        return path
    decision = _probabilities(run, wanted.name)
    folder = out or run.exported_path(f"{wanted.name}-int8" if wanted.int8 else wanted.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already: remove it, or choose another --out")
    devices.set_up(_RUNTIME)
    records = _records(run, wanted) if wanted.int8 else None
    from kit.export import formats

    formats.require(wanted.name)  # before the models are loaded
    models = _models(run, wanted, trust)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(run, models, decision, records, wanted, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _require_sensible(wanted: Wanted) -> None:
    """Raise ConfigError for what the format of this name never holds."""
    if wanted.name not in FORMATS:
        raise ConfigError(f"--format {wanted.name}: one of {', '.join(FORMATS)}")
    if wanted.int8 and wanted.name != _INT8:
        raise ConfigError(f"--int8 is of --format {_INT8}")
    if wanted.int8 and wanted.any_size:
        raise ConfigError("--any-size resizes in more than 8 bits: leave it or --int8 out")
    if wanted.name == KIT and (wanted.folds is not None or wanted.any_size):
        raise ConfigError("--folds and --any-size are of the other formats: --format kit holds the whole run")


def _records(run: Run, wanted: Wanted) -> Records:
    from kit.stages.explained import records_for

    return records_for(run, wanted.records)


def _models(run: Run, wanted: Wanted, trust: bool) -> "dict[int, keras.Model]":
    """The models by fold."""
    models = Predictor.open(run, wanted.folds, trust, _RUNTIME).models
    return dict(zip(run.trained_folds() if wanted.folds is None else wanted.folds, models, strict=True))


def _write(
    run: Run,
    models: "dict[int, keras.Model]",
    decision: Decision,
    records: Records | None,
    wanted: Wanted,
    folder: Path,
) -> None:
    """The files of an exported model, into an empty folder; with `records`, in 8-bit integers."""
    from kit.export import example, formats, quantised
    from kit.export.whole import whole
    from kit.report import exported
    from kit.stages.quantised import images_of_ranges, measure

    model, cost = whole(list(models.values()), decision, wanted.any_size), None
    path = folder / f"model{formats.FORMATS[wanted.name].ending}"
    if records:
        cost = measure(run, models, decision, records, wanted.images)
        quantised.write(model, images_of_ranges(run, records), path)
        files.write_json(folder / "int8.json", cost.as_json())
        said = exported.in_a_line(cost)
    else:
        difference = formats.write(model, wanted.name, path)
        said = f"on random images its probabilities differ by at most {difference:.1g}"
    shape = model.input_shape[1:]
    files.write_text(folder / "example.py", example.source(wanted.name, decision, shape))
    files.write_json(folder / run.decision_path.name, decision.as_json())
    about = exported.About(run.config, decision, path.name, shape, sorted(models), cost)
    files.write_text(folder / "README.md", exported.readme(about))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    log.info(f"{wanted.name}{' int8' if wanted.int8 else ''}: {size:.1f} MiB; {said}")


def _probabilities(run: Run, name: str) -> Decision:
    """The decision of a run that a network can hold; raises ConfigError, with the reason, for others."""
    if run.is_ensemble:
        raise ConfigError(f"{run} is an ensemble and has no models of its own: export each of its runs")
    decision = run.decision
    if not isinstance(decision, Decision):
        raise ConfigError(f"--format {name} cannot hold how boxes are merged and cut: choose --format kit")
    if any(run.fold(k).has_trees for k in run.trained_folds()):
        raise ConfigError(f"--format {name} cannot hold the trees of the head gbdt: choose --format kit")
    return decision


def write_card(run: Run, beside: Path) -> Path:
    """Write the model card of a run into the folder of what was exported; returns its path."""
    path = (beside if beside.is_dir() else beside.parent) / "model_card.md"
    files.write_text(path, model_card(run, run.directory.resolve().name))
    return path


def model_card(run: Run, name: str) -> str:
    """The model card of a run of that name, in Markdown; of an exported one, which holds no images, without these."""
    from kit.models import registry
    from kit.report.card import Facts, card

    config = run.config
    cards = registry.weights_cards(config.model.name, config.model.arguments)
    trained = [each for each in cards if (config.model.weights or each.weights) != "none"]
    facts = Facts(
        title=f"{find_competition(config.competition, config).title}: {name}",
        config=config,
        scores=run.scores,
        decision=run.decision,
        examples=run.examples() if run.examples_path.exists() else None,
        networks=[(each.name, each.source, each.licence) for each in trained],
        environment=files.read_json(run.environment_path) if run.environment_path.exists() else {},
    )
    return card(facts)
