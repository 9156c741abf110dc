"""Train every recipe in configs/ for an epoch a phase, on a fifth of the data and small images: does each run?

    python scripts/try_recipes.py DATA OUT [RECIPE ...]

DATA holds a raw folder for each competition (pcam/, rsna/, ...). ImageNet weights are not used. Prints a line for each:
seconds, losses and the score on a tenth of the data.
"""

import sys
import time
from pathlib import Path

import pandas as pd

from kit import log
from kit.competitions import find_competition
from kit.config import config_names, load_config
from kit.evaluate.metrics import find_metric
from kit.run import FoldFiles
from kit.stages.examples import list_examples
from kit.stages.fold import Fold
from kit.stages.records import build_records
from kit.stages.train import train_fold

OTHERS = ("_esrgan", "_mobilenet", "_scratch", "folders_boxes", "csv_boxes")  # of the kit, not of another system
SIDE = 96  # the least that every one of these networks can pool


def main(data: Path, out: Path, recipes: list[str]) -> None:
    log.show()
    for name in recipes or [name for name in config_names() if "_" in name and not name.endswith(OTHERS)]:
        settings = ["image.steps=[]", f"image.size={SIDE}", "model.weights=none", "train.batch_size=16"]
        config = load_config(name, settings)
        if config.model.name.startswith("hub/"):
            config = load_config(name, [*settings, "model.name=resnet18"])
        phases = tuple(phase.model_copy(update={"epochs": 1}) for phase in config.train.phases)
        train = config.train.model_copy(update={"phases": phases, "epochs": 1})
        config = config.model_copy(update={"train": train})
        started, raw = time.monotonic(), data / config.competition
        folder = out / f"records-{config.competition}-{config.image.color}"
        records = build_records(config, list_examples(config, raw), raw, folder)
        tenth = -(-records.cells // 10)
        cells = [list(range(tenth)), list(range(tenth, 3 * tenth))]  # scored on the first, fitted on the second
        fold = Fold(config, records, cells, 0, FoldFiles(out / name / "fold0"))
        train_fold(fold, find_metric(find_competition(config.competition, config).target.metric), None)
        history = pd.read_csv(fold.files.history)
        values = "  ".join(f"{column} {history[column].round(4).tolist()}" for column in history.columns[2:5])
        print(f"RECIPE {name}  {time.monotonic() - started:.0f} s  {values}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
