"""A learning rate to start from: the range test on fold 0's training batches, as a table and a figure."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.config import load_config
from kit.data.records.batches import naming_damage, train_batches
from kit.data.records.manifest import open_records
from kit.data.table.cells import split_folds
from kit.errors import ConfigError
from kit.runtime import devices
from kit.stages.check import check_settings
from kit.stages.fold import fitted_part, fold_seed
from kit.stages.model import build_model
from kit.stages.network import with_network
from kit.tables import truth

log = logging.getLogger(__name__)


def lr_find(competition: str, records: Path | str, out: Path | str, settings: Iterable[str] = ()) -> float:
    """The suggested `train.learning_rate`; writes the figure `out` (.png) and the curve beside it (.csv).

    The model is a fresh one and thrown away. Only the cells that fold 0 trains on are read from the records. Raises
    DataError for another competition's records.
    """
    config, out = load_config(competition, settings), Path(out)
    check_settings(config)
    config = with_network(config)
    if fitted_part(config) == "head":
        raise ConfigError(f"model.name = {config.model.name}: its head has no learning rate to find")
    opened = open_records(Path(records))
    opened.require_competition(config.competition_name)
    device = devices.set_up(config.runtime)
    from kit.train.objectives import make_objective
    from kit.train.rates import find_rate

    cells = sorted(cell for held in split_folds(opened.cells, config.folds, config.split_seed)[1:] for cell in held)
    seed = fold_seed(config.seed, 0)
    devices.set_seed(seed)
    with device.scope():
        model, _ = build_model(config, opened.image, opened.labels, opened.task)
    size, parts = config.train.batch_size, config.train.accumulate
    batches = train_batches(opened, cells, size, seed, options=config.input, parts=parts)
    labels = truth(opened.rows(cells), opened.labels).astype(np.float32)
    objective = make_objective(opened.task, config.train.loss, labels)
    with naming_damage(opened):
        curve, rate = find_rate(
            model,
            iter(batches),
            objective,
            config.train,
            config.augment,
            seed,
            jit_compile=device.jit_compile,
            scope=device.scope,
        )
    files.write_text(out.with_suffix(".csv"), curve.to_csv(index=False))
    draw(
        curve,
        rate,
        out,
        f"{config.model.name} on {config.competition_name}: {config.train.optimizer}, batches of {size}",
    )
    return rate


def draw(curve: pd.DataFrame, rate: float, out: Path, title: str) -> None:
    """Write the figure of a curve (see `kit.train.rates.find_rate`) with the suggested rate marked, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve["rate"], curve["loss"], color="0.75", linewidth=1, label="loss of the batch")
    axes.plot(curve["rate"], curve["smoothed"], color="C0", linewidth=2, label="smoothed")
    axes.axvline(rate, color="C3", linestyle="--", linewidth=1.2, label=f"steepest descent: {rate:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    low, high = curve["smoothed"].min(), curve["smoothed"].iloc[: max(10, len(curve) // 2)].max()
    axes.set_ylim(low - 0.15 * (high - low), high + 0.5 * (high - low))  # or its divergence would fill the figure
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with files.replacing(out) as part:
        FigureCanvasAgg(figure).print_figure(part, dpi=120, format="png")
