"""Pictures of predicted boxes over true ones: out of fold, as each fold is kept by what the run decides.

    python scripts/draw_boxes.py runs/rsna/first --data DIR --out boxes.png --count 24

Green are true boxes, red (with their scores) the boxes that are kept. Images with boxes come first, every other one.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from kit.boxes import boxes_of
from kit.data.pixels.images import load
from kit.data.pixels.reading import read_file
from kit.evaluate.sent import sent
from kit.run import Run

SIDE, COLUMNS = 320, 6
GREEN, RED = (80, 220, 80), (70, 70, 255)  # BGR


def picture(path, settings, size, truth, kept):
    """One image, of `size` (width, height) in pixels, with its boxes: uint8 [SIDE, SIDE, 3]."""
    pixels = load(read_file(path), settings.model_copy(update={"encoding": "raw"}))
    if isinstance(pixels, bytes):
        pixels = cv2.imdecode(np.frombuffer(pixels, np.uint8), cv2.IMREAD_COLOR)
    scale = np.tile(SIDE / np.array(size), 2)  # what was read may be smaller
    image = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., ::-1].copy()
    for boxes, colour in ((truth, GREEN), (kept, RED)):
        for (x, y, w, h), score in zip(boxes.xywh * scale, boxes.score, strict=True):
            cv2.rectangle(image, (round(x), round(y)), (round(x + w), round(y + h)), colour, 2)
            if colour == RED:
                at = (round(x) + 3, round(y) + 14)
                cv2.putText(image, f"{score:.2f}", at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    arguments = parser.parse_args()
    run = Run(arguments.run)
    labels, examples = run.folds.labels, run.examples().set_index("id")
    oof = sent(run.decision, run.oof())
    rows = examples.loc[oof["id"]].reset_index()
    truth, kept = boxes_of(rows, labels), boxes_of(oof, labels)
    order = np.argsort(~np.isin(np.arange(len(rows)), truth.image), kind="stable")
    half = arguments.count // 2
    positive = len(np.unique(truth.image))
    chosen = np.concatenate([order[:positive][:half], order[positive:][: arguments.count - half]])
    pictures = [
        picture(
            arguments.data / rows["path"][n],
            run.config.image,
            (rows["width"][n], rows["height"][n]),
            truth.where(truth.image == n),
            kept.where(kept.image == n),
        )
        for n in chosen
    ]
    blank = np.zeros((SIDE, SIDE, 3), np.uint8)
    pictures += [blank] * (-len(pictures) % COLUMNS)
    lines = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
    cv2.imwrite(str(arguments.out), np.vstack(lines))
    print(f"{len(chosen)} images: {arguments.out}")


if __name__ == "__main__":
    main()
