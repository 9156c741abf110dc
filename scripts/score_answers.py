"""ROC AUC of a submission against held-back labels, for data that comes with its answers, such as the toy set.

    python scripts/score_answers.py submission.csv answers.csv
    python scripts/score_answers.py submission.csv answers.csv --id patientId --label Target --prediction pneumonia

The answers' labels are 0 or 1; of several rows with one id (RSNA's boxes) the largest counts.
"""

import argparse
from pathlib import Path

from kit.evaluate.metrics import roc_auc
from kit.submit.submission import read_submission


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--id", default="id", help="the column of ids, in both files")
    parser.add_argument("--label", default="label", help="the answers' column")
    parser.add_argument("--prediction", help="the submission's column (default: the same as --label)")
    arguments = parser.parse_args()
    answers = read_submission(arguments.answers, arguments.id).groupby(arguments.id)[arguments.label].max()
    submission = read_submission(arguments.submission, arguments.id).set_index(arguments.id)
    predicted = submission[arguments.prediction or arguments.label]
    print(f"{roc_auc(answers.to_numpy(float)[:, None], predicted[answers.index].to_numpy()[:, None]):.4f}")


if __name__ == "__main__":
    main()
