"""Boxes of as many images as RSNA has: metrics and their intervals, merging, and the decision.

    python scripts/bench/boxes.py [--images 26684] [--boxes 6] [--resamples 2000]

Boxes are synthetic: 30 % of the images have 1 to 3 true ones, which are predicted with noise, beside false ones, so
that images have up to so many boxes. RSNA's metric is timed against the loops of the notebooks that reconstruct it, the
average precision against pycocotools, each on a tenth of the images (times 10).
"""

import argparse
import contextlib
import io
import time

import numpy as np
from common import machine

from kit.boxes import Boxes, iou, joined
from kit.config import BoxSettings, EvaluateSettings
from kit.evaluate.boxes import metrics as measures
from kit.evaluate.boxes.decision import Judged, decide
from kit.evaluate.boxes.merging import fuse, merge
from kit.evaluate.metrics import METRICS
from kit.evaluate.resample import by_group, resample, statistic


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=26_684)
    parser.add_argument("--boxes", type=int, default=6)
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    truth, predictions = synthetic(arguments.images, arguments.boxes)
    tenth = np.arange(arguments.images // 10)
    few = truth.of_images(tenth), predictions.of_images(tenth)
    images, cuts = np.arange(arguments.images), np.linspace(0, 1, 101)
    print(machine())
    print(f"\n{arguments.images} images, {len(truth)} true and {len(predictions)} predicted boxes")

    def interval(*statistics):
        return resample(statistics, arguments.images, arguments.resamples)

    show("RSNA's metric", lambda: METRICS["rsna_mean_average_precision"](truth, predictions))
    show("  in loops", lambda: looped(*few), 10)
    show("  of each image, at 101 cuts", lambda: measures.per_image_at(cuts, truth, predictions))
    for name in ("box_ap50", "box_ap"):
        show(name, lambda name=name: METRICS[name](truth, predictions))
    try:
        show("  pycocotools", lambda: by_pycocotools(*few), 10)
    except ImportError as error:
        print(f"  pycocotools left out: {error}")
    show("FROC", lambda: measures.froc(truth, predictions))
    print(f"\nintervals of {arguments.resamples} resamples, every image a group of its own")
    for name in ("rsna_mean_average_precision", "box_ap50", "box_ap"):
        show(name, lambda name=name: interval(statistic(METRICS[name], truth, predictions, images)))
    show("FROC", lambda: interval(by_group(measures.froc_of(truth, predictions), images)))
    candidates = joined([synthetic(arguments.images, arguments.boxes, seed)[1] for seed in range(8)])
    print(f"\n{len(candidates)} candidates merged; of {len(predictions)} boxes, 5 folds fused and the decision chosen")
    for how in ("nms", "soft_nms"):
        show(how, lambda how=how: merge(candidates, BoxSettings(merge=how)))
    show("wbf of 5 folds", lambda: fuse([predictions] * 5, BoxSettings(merge="wbf")))
    judged = Judged(truth, images % 5, images)
    gate, by = np.random.default_rng(0).random((arguments.images, 1)), EvaluateSettings(resamples=arguments.resamples)
    show(
        "cut, shrink and gate", lambda: decide(judged, predictions, "detection", ["a"], "none", BoxSettings(), by, gate)
    )


def synthetic(images, most, seed=0):
    """True boxes, and predictions: those moved about, with larger scores, and false ones."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, images) * (rng.random(images) < 0.3)
    truth = boxes_at(np.repeat(np.arange(images), counts), rng, images)
    moved = truth.xywh + rng.normal(0, 20, truth.xywh.shape)
    near = Boxes(images, truth.image, moved, truth.label, rng.beta(4, 2, len(truth)))
    false = boxes_at(np.repeat(np.arange(images), rng.integers(0, most - counts.clip(max=most - 1))), rng, images)
    false = Boxes(images, false.image, false.xywh, false.label, rng.beta(2, 4, len(false)))
    return truth, joined([near, false])


def boxes_at(image, rng, images):
    count = len(image)
    xywh = np.column_stack([rng.uniform(0, 700, (count, 2)), rng.uniform(100, 320, (count, 2))])
    return Boxes(images, image, xywh, np.zeros(count, np.int64), np.ones(count))


def show(name, call, times=1):
    started = time.perf_counter()
    call()
    print(f"  {name:40} {(time.perf_counter() - started) * times:8.2f} s", flush=True)


def looped(truth, predictions):
    values = []
    for image in range(truth.images):
        true = truth.xywh[truth.image == image]
        own = predictions.where(predictions.image == image)
        ranked = own.xywh[np.argsort(-own.score)]
        if not len(true) and not len(ranked):
            continue
        precisions = []
        for threshold in measures.RSNA_IOUS:
            left, hits = [*true], 0
            for box in ranked:
                overlaps = [iou(box[None], other[None])[0, 0] for other in left]
                if overlaps and max(overlaps) > threshold:
                    hits += 1
                    left.pop(int(np.argmax(overlaps)))
            precisions.append(hits / (len(ranked) + len(left)))
        values.append(np.mean(precisions))
    return np.mean(values)


def by_pycocotools(truth, predictions):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def dataset(boxes):
        coco = COCO()
        ids = range(1, len(boxes) + 1)
        rows = zip(ids, boxes.image.tolist(), boxes.xywh.tolist(), boxes.score.tolist(), strict=True)
        keys = ("id", "image_id", "bbox", "score")
        annotations = [dict(zip(keys, row, strict=True), category_id=1, iscrowd=0, area=1.0) for row in rows]
        images = [{"id": n} for n in range(boxes.images)]
        coco.dataset = {"images": images, "categories": [{"id": 1}], "annotations": annotations}
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset(truth), dataset(predictions), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()


if __name__ == "__main__":
    main()
