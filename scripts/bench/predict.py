"""How fast new images are predicted: `Predictor` on files, against a bare loop over images that lie decoded in memory.

    python scripts/bench/predict.py --pcam DIR --xrays DIR [--images 512]
    python scripts/bench/predict.py --frozen RUN

DIR/test or DIR with image files. The bare loop is `predict_on_batch` over batches that were decoded and stacked before;
the share is its time divided by the Predictor's, which reads and decodes as well. Models: pcam_cnn on PCam's patches
(96 px), mobilenet on X-rays (224 px), one fold each, random weights. Medians of 3, taken in turns.

RUN is one of heads on a frozen backbone: all its folds on 64 images, with the backbone run once and once for each fold.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from common import in_turn, machine, show


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pcam", type=Path)
    parser.add_argument("--xrays", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--frozen", type=Path)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    for folder, model, size in ((arguments.pcam, "pcam_cnn", 96), (arguments.xrays, "mobilenet", 224)):
        if folder:
            compare(folder, model, size, arguments.images)
    if arguments.frozen:
        share_backbone(arguments.frozen)


def compare(folder, name, size, count):
    from kit.config import ImageSettings, RuntimeSettings
    from kit.config.predict import PredictSettings
    from kit.data.pixels.prepared import prepare_file
    from kit.decisions import Calibration, Decision
    from kit.runtime import devices
    from kit.stages.predict import find_images

    devices.set_up(RuntimeSettings())
    from kit.models import registry
    from kit.predict.predictor import Predictor

    batch_size, image = 64, ImageSettings(size=size)
    paths = find_images([folder])[:count]
    model = registry.build(name, shape=(size, size, 3), outputs=1, activation="sigmoid")
    decision = Decision(
        task="binary", labels=("x",), views="none", calibration=Calibration(kind="none"), prior=None, thresholds={}
    )
    predictor = Predictor([model], image, decision, PredictSettings(batch_size=batch_size))
    decoded = np.stack([prepare_file(path, image) for path in paths])
    batches = [decoded[start : start + batch_size] for start in range(0, len(decoded), batch_size)]
    batches = [batch for batch in batches if len(batch) == batch_size]
    paths = paths[: len(batches) * batch_size]
    predictor.predict(paths[:batch_size])  # compiled
    ours, bare = [], []
    for _ in range(3):
        started = time.perf_counter()
        predictor.predict(paths)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        for batch in batches:
            model.predict_on_batch(batch)
        bare.append(time.perf_counter() - started)
    ours, bare = statistics.median(ours), statistics.median(bare)
    print(
        f"{name}, {size} px, {len(paths)} files: {len(paths) / ours:.0f} images/s; bare loop {len(paths) / bare:.0f}; "
        f"share {bare / ours:.2f}",
        flush=True,
    )


def share_backbone(folder, count=64):
    from kit.data.records.shards import image_shape
    from kit.predict.predictor import Predictor

    once, each = (Predictor.open(folder) for _ in range(2))
    each._together = None
    images = np.random.default_rng(0).integers(0, 256, (count, *image_shape(once.image)), dtype=np.uint8)
    values = {}

    def work(name, predictor):
        values[name] = predictor.raw(list(images))
        return count

    variants = {"once for each fold": lambda: work("each", each), "once": lambda: work("once", once)}
    title = f"{len(once.models)} heads on a frozen backbone, {images.shape[1]} px: the backbone is run"
    show(title, in_turn(variants, 3), "once for each fold")
    print(f"  largest difference {np.abs(values['each'] - values['once']).max():.1e}")


if __name__ == "__main__":
    main()
