"""Raw folder, or records -> the features of frozen backbones, kept beside the records."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kit.competitions import find_competition
from kit.config import Config, load_config
from kit.config.load import override
from kit.data.records.manifest import MANIFEST, Records, open_records
from kit.runtime import devices
from kit.stages.check import check_settings, rehearse_training
from kit.stages.examples import list_examples, raw_folder
from kit.stages.features import OutOfTime, features_of, sources
from kit.stages.model import build_frozen
from kit.stages.records import build_records, records_folder


class Extracted(NamedTuple):
    """How many images have how many features, and where these are, a folder for each backbone."""

    images: int
    width: int
    folders: list[Path]


def features_config(
    competition: str,
    backbones: Sequence[str],
    weights: str | None = None,
    views: str = "none",
    settings: Iterable[str] = (),
) -> Config:
    """The config of a run of the model `features` on these backbones; `settings` change it further."""
    model = {"backbone": backbones[0] if len(backbones) == 1 else [*backbones], "views": views}
    chosen = ["model.name=features", override("model.weights", weights), override("model.arguments", model)]
    return load_config(competition, [*chosen, *settings])


def extract(
    config: Config, data: Path | None = None, records: Path | None = None, deadline: float | None = None
) -> Extracted | None:
    """Compute the features of all images, training and test, that are not there yet; None when time ran out.

    `records` are taken if they are there, else built from `data`, at the place where a run builds them by default.
    """
    beside = Path("runs", find_competition(config.competition, config).name, "run")
    check_settings(config)
    opened = _records(config, data, records, beside)
    device = devices.set_up(config.runtime)
    model, spec = build_frozen(config, opened.image, ["label"], opened.task)
    every = sources(model, spec, opened, beside)
    images = width = 0
    try:
        for cells in ([*range(opened.cells)], None):
            ids, features = features_of(every, opened, cells, config.predict.batch_size, device, deadline)
            images, width = images + len(ids), max(width, features.shape[1])
    except OutOfTime:
        return None
    return Extracted(images, width, [source.folder for source in every])


def _records(config: Config, data: Path | None, records: Path | None, beside: Path) -> Records:
    if records and (records / MANIFEST).exists():
        opened = open_records(records)
        opened.require_competition(config.competition_name)
        return opened
    folder = raw_folder(find_competition(config.competition, config), data, beside.parent / "data")
    rehearse_training(config, config.image)
    examples = list_examples(config, folder)
    return build_records(config, examples, folder, records_folder(config, examples, beside, records))
