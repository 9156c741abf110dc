"""What boxes a submission finds of held-back ones, for data that comes with its answers.

    python scripts/score_box_answers.py submission.csv answers.csv --id patientId

Prints RSNA's metric of the submission as it is; with --run RUN also what needs no cut, from the run's boxes before it:
AP50, FROC and the ROC AUC of an image's best box. The answers have a row for each box (x, y, width, height), empty for
an image without any; boxes are in the same pixels in both files.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from kit.boxes import BOXES, Boxes, boxes_of
from kit.config import EvaluateSettings
from kit.evaluate.boxes.report import report
from kit.evaluate.boxes.text import shown
from kit.run import Run
from kit.stages.score import mean_test
from kit.submit.boxes import parse
from kit.submit.submission import read_submission

CORNER = ["x", "y", "width", "height"]
SHOWN = ("rsna", "mean_iou", "f1", "ap50", "ap", "froc", "image_roc_auc")


def answers_of(path: Path, key: str) -> pd.DataFrame:
    """Columns `id` and `boxes`, a row for each image."""
    rows = read_submission(path, key)
    boxes = rows[CORNER].apply(pd.to_numeric, errors="coerce")
    listed = [row.tolist() if row.notna().all() else None for _, row in boxes.iterrows()]
    of_image = pd.Series(listed).groupby(rows[key].to_numpy()).apply(lambda cells: [c for c in cells if c is not None])
    return pd.DataFrame({"id": of_image.index, BOXES: of_image.to_numpy()})


def submitted(cells: pd.Series) -> Boxes:
    """The boxes in the cells of a submission, one for each image."""
    each = [parse("" if pd.isna(cell) else str(cell)) for cell in cells]
    image = np.repeat(np.arange(len(each)), [len(boxes) for boxes in each])
    rows = np.concatenate([np.empty((0, 5)), *each])
    return Boxes(len(each), image, rows[:, 1:], np.zeros(len(rows), np.int64), rows[:, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--id", default="patientId", help="the column of ids, in both files")
    parser.add_argument("--column", default="PredictionString", help="the submission's column of boxes")
    parser.add_argument("--run", type=Path, help="the run (or ensemble) that the submission comes from")
    arguments = parser.parse_args()
    answers = answers_of(arguments.answers, arguments.id)
    cells = read_submission(arguments.submission, arguments.id).set_index(arguments.id)[arguments.column]
    truth, kept = boxes_of(answers, ["box"]), submitted(cells.loc[answers["id"]])
    boxes = kept
    if arguments.run:
        run = Run(arguments.run)
        boxes = boxes_of(mean_test(run).set_index("id").loc[answers["id"]].reset_index(), run.folds.labels)
    values = report(truth, boxes, kept, answers["id"].to_numpy(), ["box"], EvaluateSettings()).mean
    print(f"{truth.images} images, {len(np.unique(truth.image))} with {len(truth)} boxes; sent {len(kept)}")
    for name in SHOWN if arguments.run else SHOWN[:3]:
        score = values[name]
        print(f"{name:14} {shown(score.value)}  (95 % {shown(score.low)} to {shown(score.high)})")


if __name__ == "__main__":
    main()
