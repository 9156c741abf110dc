"""How fast the features of a frozen backbone are made from records, against a bare loop over decoded images.

    python scripts/bench/features.py --records DIR [--backbone efficientnet_lite0] [--weights none] [--images 2000]

The bare loop is the backbone's `predict_on_batch`, with a mean over its places, over batches that lie in memory; the
share is its time divided by the stage's, which reads, decodes and writes as well. Medians of 3, taken in turns.
"""

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np
from common import in_turn, machine, show


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    from kit.data.records.batches import eval_batches
    from kit.data.records.manifest import open_records
    from kit.runtime import devices
    from kit.stages.extract import features_config
    from kit.stages.features import features_of, sources
    from kit.stages.model import build_frozen

    records = open_records(arguments.records)
    config = features_config(records.competition, [arguments.backbone], arguments.weights)
    device = devices.set_up(config.runtime)
    model, spec = build_frozen(config, records.image, ["label"], records.task)
    source = sources(model, spec, records, arguments.records)[0]
    cells, count = [], 0
    while count < arguments.images and len(cells) < records.cells:
        cells.append(len(cells))
        count = len(records.rows(cells))
    size = device.eval_batch(min(config.predict.batch_size, count))
    decoded = [batch.images for batch in eval_batches(records, cells, size)]

    import keras

    features = source.network.outputs[0]
    mean = (
        keras.ops.mean(features, axis=tuple(range(1, len(features.shape) - 1))) if len(features.shape) > 2 else features
    )
    bare = keras.Model(source.network.inputs[0], mean)

    def kept():
        with tempfile.TemporaryDirectory(dir=arguments.records.parent) as folder:
            shutil.rmtree(folder)
            at = dataclasses.replace(source, folder=Path(folder))
            at.__dict__["extractor"] = source.extractor  # compiled
            ids, _ = features_of([at], records, cells, config.predict.batch_size, device)
            Path(folder).mkdir(exist_ok=True)
        return len(ids)

    def loop():
        np.concatenate([bare.predict_on_batch(batch) for batch in decoded])
        return count

    print(machine(), flush=True)
    title = f"{arguments.backbone}, {records.image.size} px, {count} images of {arguments.records}"
    show(title, in_turn({"kit features": kept, "bare loop": loop}, 3), "bare loop")


if __name__ == "__main__":
    main()
