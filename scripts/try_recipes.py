"""Train one fold of every recipe in configs/ for an epoch a phase, on small images: does each of them run, and learn?

    python scripts/try_recipes.py DATA OUT [RECIPE ...]

DATA holds a raw folder for each competition (pcam/, rsna/, ...). ImageNet weights are not used. Prints a line for each:
seconds, losses and the score on the held fold.
"""

import sys
import time
from pathlib import Path

import pandas as pd

from kit import pipeline
from kit.config import config_names, load_config

OTHERS = ("_esrgan", "_mobilenet")  # of the kit, not of another system
SIDE = 96  # the least that every one of these networks can pool


def main(data: Path, out: Path, recipes: list[str]) -> None:
    for name in recipes or [name for name in config_names() if "_" in name and not name.endswith(OTHERS)]:
        config = load_config(
            name, ["image.steps=[]", f"image.size={SIDE}", "model.weights=none", "train.batch_size=32"]
        )
        if config.model.name.startswith("hub/"):
            config = load_config(name, [f"image.size={SIDE}", "model.name=resnet18", "model.weights=none"])
        phases = tuple(phase.model_copy(update={"epochs": 1}) for phase in config.train.phases)
        train = config.train.model_copy(update={"phases": phases, "epochs": 1})
        config = config.model_copy(update={"train": train})
        started = time.monotonic()
        raw = data / config.competition
        table = pipeline.examples(config, raw)
        records = pipeline.build_records(config, table, raw, out / f"records-{config.competition}-{config.image.color}")
        pipeline.train(config, records, out / name, only=[0])
        history = pd.read_csv(out / name / "fold0" / "history.csv")
        values = "  ".join(f"{column} {history[column].round(4).tolist()}" for column in history.columns[2:5])
        print(f"RECIPE {name}  {time.monotonic() - started:.0f} s  {values}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
