"""Can a network that finds boxes learn eight images by heart? If not, something in it is broken.

    python scripts/overfit_boxes.py rsna_boxes --data DIR [--images 8] [--side 128] [--steps 300] [--rate 0.002]
        [--seed 0] [--set a.b=value ...]

Trains the config's network on images with boxes, always the same batch and without augmentation, and prints the average
precision at IoU .5 of its boxes on these images, merged as the config's predict.boxes says. The seed chooses the
images. Networks that paint masks cannot tell boxes apart that are closer than a cell of the mask; seed 0 has two that
are 1.6 % of the height apart.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from kit import pipeline
from kit.boxes import boxes_of
from kit.config import AugmentSettings, LossSettings, load_config
from kit.data.records.batches import eval_batches, train_batches
from kit.evaluate.metrics import METRICS
from kit.runtime import devices


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    given = parser.parse_args()
    config = load_config(given.config, [*given.settings, f"image.size={given.side}", "predict.tta=none"])
    with tempfile.TemporaryDirectory() as folder:
        records = build(config, given.data, given.images, given.seed, Path(folder))
        started = time.perf_counter()
        value = learn(config, records, given.steps, given.rate)
    took = time.perf_counter() - started
    print(f"{config.model.name}: AP50 {value:.3f} after {given.steps} steps on {given.images} images, {took:.0f} s")


def build(config, data, images, seed, folder):
    """Records of so many training images with boxes, chosen by chance."""
    examples = pipeline.list_examples(config, data)
    boxed = np.unique(boxes_of(examples.table, examples.labels).image)
    table = examples.table.iloc[np.random.default_rng(seed).choice(boxed, images, replace=False)]
    return pipeline.build_records(config, replace(examples, table=table.reset_index(drop=True)), data, folder)


def learn(config, records, steps, rate):
    """The average precision of the config's network on images that it has seen so many times."""
    device = devices.set_up(config.runtime)
    import keras

    from kit.predict.predict import predict
    from kit.stages.model import build_model
    from kit.train.fit import training_model
    from kit.train.objectives import make_objective

    devices.set_seed(0)
    model, _ = build_model(config, records.image, records.labels, records.task)
    objective = make_objective(records.task, LossSettings(), np.zeros((0, len(records.labels)), np.float32))
    training = training_model(model, objective, AugmentSettings(), 0)
    rates = keras.optimizers.schedules.CosineDecay(rate, steps)
    training.compile(keras.optimizers.Adam(rates, clipnorm=5), jit_compile=device.jit_compile)
    cells, count = list(range(records.cells)), len(records.table)
    training.fit(train_batches(records, cells, count, 0, buffer=count), steps_per_epoch=steps, shuffle=False, verbose=0)
    found = boxes_of(predict(model, eval_batches(records, cells, count), records, config.predict), records.labels)
    return METRICS["box_ap50"](boxes_of(records.rows(cells), records.labels), found)


if __name__ == "__main__":
    main()
