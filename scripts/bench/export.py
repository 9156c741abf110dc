"""Sizes and speeds of a run's exported models, against the Predictor.

    kit export RUN; kit export RUN --format onnx; kit export RUN --format litert --int8 ...
    python scripts/bench/export.py RUN [--repeats 5]

Measures what is in RUN/exported (without --any-size): MB on disk, ms for one image, images/s in batches of 32, all on
prepared images in memory. Taken in turns; medians. Threads: as many as cores.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from common import in_turn, machine

BATCH = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    from kit.data.records.shards import image_shape
    from kit.predict.predictor import Predictor
    from kit.run import Run

    run = Run(arguments.run)
    predictor = Predictor.open(run)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *image_shape(predictor.image)), np.uint8)
    functions = {"Predictor": lambda batch: predictor.raw(list(batch)), **exported(run)}
    one, many = (speeds(functions, images[:count], arguments.repeats) for count in (1, BATCH))
    for name in functions:
        place = run.exported_path(name)
        size = f"{megabytes(place):8.1f}" if place.exists() else f"{megabytes(*run.files_of_predictor()):8.1f}"
        print(f"{name:16} {size} MB   {1000 / one[name]:8.1f} ms   {many[name]:8.1f} images/s", flush=True)
    for path in sorted(run.exported_path("").glob("*.kit.zip")):
        weights = megabytes(*(run.fold(k).model[1] for k in run.trained_folds()))
        print(f"{path.name}: {megabytes(path):.1f} MB, {megabytes(path) / weights:.4f} of its weights")


def exported(run):
    """What is in the run's folder of exported models, by its name: functions of images."""
    from kit.export.formats import FORMATS

    kinds = {"savedmodel": "savedmodel", "onnx": "onnx", "litert": "litert", "litert-int8": "litert"}
    places = {name: run.exported_path(name) / f"model{FORMATS[kind].ending}" for name, kind in kinds.items()}
    return {name: FORMATS[kinds[name]].load(path) for name, path in places.items() if path.exists()}


def speeds(functions, images, repeats):
    """Median images a second of each."""

    def work(function):
        function(images)
        return len(images)

    variants = {name: (lambda function=function: work(function)) for name, function in functions.items()}
    return {name: statistics.median(values) for name, values in in_turn(variants, repeats).items()}


def megabytes(*places):
    """What files, and those in folders, take on disk, in 10⁶ bytes."""
    every = [path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    return sum(path.stat().st_size for path in every) / 1e6


if __name__ == "__main__":
    main()
