"""A run that is trained and scored -> its whole decision as a model in another format, or as one file of kit's."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from kit import files
from kit.competitions import find_competition
from kit.decisions import AnyDecision, Decision
from kit.errors import ConfigError, DataError
from kit.predict.packed import ENDING, pack
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.runtime import devices

log = logging.getLogger(__name__)
KIT = "kit"
FORMATS = (KIT, "savedmodel", "onnx", "litert")


def export(
    run: Run,
    name: str,
    out: Path | None = None,
    folds: Sequence[int] | None = None,
    any_size: bool = False,
    trust: bool = False,
) -> Path:
    """Write the folds' mean, views, calibration and change of prior of a run in the format of that name.

    `kit`: a file, by default beside the run's. Others: a folder, by default in the run, that holds the model, the
    decision and an example that runs without kit; `any_size`: it takes images of any size. Returns its path. Raises
    ConfigError for what the format cannot hold, with the reason; then nothing is written.
    """
    if name not in FORMATS:
        raise ConfigError(f"--format {name}: one of {', '.join(FORMATS)}")
    if name == KIT:
        if folds is not None or any_size:
            raise ConfigError("--folds and --any-size are of the other formats: --format kit holds the whole run")
        path = out or run.exported_path(f"{run.directory.resolve().name}{ENDING}")
        pack(run, path)
        return path
    folder = out or run.exported_path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already: remove it, or choose another --out")
    devices.set_up(run.config.runtime)
    decision = _probabilities(run.decision, name)
    from kit.export import example, formats
    from kit.export.whole import whole
    from kit.models.boosted import BoostedModel

    formats.require(name)  # before the models are loaded
    predictor = Predictor.open(run, folds, trust)
    if any(isinstance(each, BoostedModel) for each in predictor.models):
        raise ConfigError(f"--format {name} cannot hold the trees of the head gbdt: choose --format kit")
    model = whole(predictor.models, decision, any_size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"model{formats.FORMATS[name].ending}"
        difference = formats.write(model, name, path)
        cuts = [_cut(decision, label) for label in decision.labels]
        files.write_text(folder / "example.py", example.source(name, decision.labels, cuts, model.input_shape[1:]))
        files.write_json(folder / run.decision_path.name, decision.as_json())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    log.info(f"{name}: {size:.1f} MiB; on random images its probabilities differ by at most {difference:.1g}")
    return folder


def _probabilities(decision: AnyDecision, name: str) -> Decision:
    if not isinstance(decision, Decision):
        raise ConfigError(f"--format {name} cannot hold how boxes are merged and cut: choose --format kit")
    return decision


def _cut(decision: Decision, label: str) -> float | None:
    """From which probability on a label counts as present; None of exclusive classes."""
    if decision.classes is not None:
        return None
    threshold = decision.thresholds[label].threshold if label in decision.thresholds else None
    return 0.5 if threshold is None else float(threshold)


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
