"""A run and some of its images, ready to be explained: pixels, boxes, models, and what the run says of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kit.boxes import BOXES, LABELS, boxes_of
from kit.config import ImageSettings
from kit.data.pixels.geometry import to_shares
from kit.data.records.images import images_of
from kit.data.records.manifest import Records
from kit.decisions import AnyDecision
from kit.errors import ConfigError, DataError
from kit.evaluate.cases import judge
from kit.evaluate.sent import sent
from kit.run import Run
from kit.runtime import devices
from kit.stages.records import records_of
from kit.stages.score import mean_test

if TYPE_CHECKING:
    import keras

    from kit.models.boosted import BoostedModel

BoxesById = Mapping[str, Mapping[str, np.ndarray]]  # id -> label -> float [m, 5]: x, y, w, h as shares, score
_FINDINGS, _SIDE = "box_findings", 1024  # ChestX-ray14's boxes: the column of their names, pixels of all its images
_ALIASES = {"Infiltrate": "Infiltration"}  # what its list of boxes calls a label


@dataclass(frozen=True)
class Subject:
    """A run, what it says of images (`judged`, as in kit.evaluate.cases), and the images, uint8 by id.

    `fold_of`: the fold whose model has not seen an image; others are explained by all. `true` and `found` are boxes.
    """

    run: Run
    decision: AnyDecision
    judged: pd.DataFrame
    fold_of: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    true: BoxesById = field(default_factory=dict)
    found: BoxesById = field(default_factory=dict)
    trust: bool = False

    def says(self, name: str, label: str) -> dict[str, Any]:
        """What `judged` says of an image and a label."""
        return {str(key): value for key, value in self.judged.iloc[self._rows[name, label]].items()}

    @cached_property
    def _rows(self) -> dict[tuple[str, str], int]:
        pairs = zip(self.judged["id"], self.judged["label"], strict=True)
        return {pair: n for n, pair in enumerate(pairs)}

    def pixels(self, ids: Sequence[str]) -> np.ndarray:
        """The images of these ids, uint8 [n, H, W, C]."""
        return np.stack([self.images[name] for name in ids])

    def model(self, fold: int) -> "keras.Model | BoostedModel":
        """The model of a fold."""
        devices.set_up(self.run.config.runtime)
        from kit.models import saved

        return saved.load_model(self.run.fold(fold).folder, self.trust)

    def untrained(self, seed: int) -> "keras.Model":
        """The network of the run with random weights."""
        devices.set_up(self.run.config.runtime)
        from kit.models import registry, saved

        devices.set_seed(seed)
        return registry.build(**saved.read_build(self.run.fold(self.run.trained_folds()[0]).folder).model_dump())

    def by_models(self, rows: pd.DataFrame, mean: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Each fold that is needed, and the places (int) of the rows that it explains."""
        own = [None if mean else self.fold_of.get(name) for name in rows["id"]]
        for k in self.run.trained_folds():
            places = np.array([n for n, fold in enumerate(own) if fold in (None, k)], np.int64)
            if len(places):
                yield k, places

    def maps(self, rows: pd.DataFrame, method: str, mean: bool, after: Callable[[], Any]) -> list[np.ndarray]:
        """A map [h, w] for each row (id, label): by the model that has not seen the image, or the mean over all."""
        total: dict[int, list[np.ndarray]] = {}
        for k, places in self.by_models(rows, mean):
            for n, heat in zip(places, self.maps_by(self.model(k), rows.iloc[places], method, after), strict=True):
                total.setdefault(int(n), []).append(heat)
        return [np.mean(total[n], axis=0) for n in range(len(rows))]

    def maps_by(
        self, model: "keras.Model | BoostedModel", rows: pd.DataFrame, method: str, after: Callable[[], Any]
    ) -> list[np.ndarray]:
        """A map [h, w] by a model for each row (id, label)."""
        from kit.explain import explain

        ids, labels = list(dict.fromkeys(rows["id"])), list(dict.fromkeys(rows["label"]))
        every = explain(model, self.pixels(ids), [self.decision.labels.index(each) for each in labels], method, after)
        return [every[ids.index(n), labels.index(label)] for n, label in zip(rows["id"], rows["label"], strict=True)]


def require_models(run: Run) -> None:
    """Raise ConfigError for an ensemble, DataError for a run without a trained fold."""
    if run.config and run.is_ensemble:
        raise ConfigError(f"{run} is an ensemble and has no models of its own: explain each of its runs")
    if not run.trained_folds():
        raise DataError(f"{run} has no fold trained yet: run `kit train` first")


def of_run(run: Run, trust: bool) -> Subject:
    """The run with all that it has predicted: training images out of fold, test images by the mean of the folds."""
    examples, decision, oof, test = run.examples(), run.decision, run.oof(), run.test()
    tables = [(oof, False)]
    if len(test):
        tables.append((mean_test(run), test["fold"].nunique() > 1))
    judged = pd.concat([judge(table, examples, decision, fused) for table, fused in tables], ignore_index=True)
    image, rows = run.config.image, examples[examples["id"].isin(judged["id"])]
    found: dict[str, dict[str, np.ndarray]] = {}
    if BOXES in oof.columns:
        sizes = rows.set_index("id")[["height", "width"]]
        for table, fused in tables:
            found |= shares_of(sent(decision, table, fused).join(sizes, on="id"), decision.labels, image)
    fold_of = dict(zip(oof["id"], oof["fold"].astype(int), strict=True))
    return Subject(run, decision, judged, fold_of, {}, true_boxes(rows, decision.labels, image), found, trust)


def records_for(run: Run, given: Path | None) -> Records:
    """The records that the run was trained on; DataError where they are not found."""
    records = records_of(run, given)
    if records is None:
        raise DataError(f"the records that {run} was trained on are not beside it: give --records DIR")
    return records


def true_boxes(examples: pd.DataFrame, labels: Sequence[str], image: ImageSettings) -> BoxesById:
    """The boxes of an example table; those of labels that the run does not have are left out."""
    if BOXES not in examples.columns:
        return {}
    rows = examples.copy()
    if _FINDINGS in rows.columns:
        rows = rows.rename(columns={_FINDINGS: LABELS}).assign(height=_SIDE, width=_SIDE)
        rows[LABELS] = [[_ALIASES.get(name, name) for name in names] for names in rows[LABELS]]
        keep = [[name in labels for name in names] for names in rows[LABELS]]
        for column in (BOXES, LABELS):
            rows[column] = [
                [each for each, yes in zip(cell, flags, strict=True) if yes]
                for cell, flags in zip(rows[column], keep, strict=True)
            ]
    if not {"height", "width"} <= {*rows.columns}:
        return {}
    return shares_of(rows, labels, image)


def shares_of(table: pd.DataFrame, labels: Sequence[str], image: ImageSettings) -> dict[str, dict[str, np.ndarray]]:
    """Boxes in pixels of the source images, whose `height` and `width` are columns, as shares of the stored images."""
    heights, widths = (table[side].to_numpy(np.float64) for side in ("height", "width"))
    boxes = to_shares(boxes_of(table, labels), heights, widths, image, list(table["id"]))
    ids, found = table["id"].to_numpy(), dict[str, dict[str, list[list[float]]]]()
    for n, label, xywh, score in zip(boxes.image, boxes.label, boxes.xywh, boxes.score, strict=True):
        found.setdefault(ids[n], {}).setdefault(labels[label], []).append([*xywh, score])
    return {name: {label: np.array(rows) for label, rows in each.items()} for name, each in found.items()}


def with_images(subject: Subject, ids: Sequence[str], records: Records) -> dict[str, np.ndarray]:
    """The images of these ids in records."""
    return images_of(records, list(dict.fromkeys(ids)))
