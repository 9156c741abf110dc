"""ROC AUC of a submission against labels that were held back: for data laid out with its answers, as the toy set's are.

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
    parser.add_argument("--prediction", help="the submission's column (default: as the answers')")
    given = parser.parse_args()
    answers = read_submission(given.answers, given.id).groupby(given.id)[given.label].max()
    predicted = read_submission(given.submission, given.id).set_index(given.id)[given.prediction or given.label]
    print(f"{roc_auc(answers.to_numpy(float)[:, None], predicted[answers.index].to_numpy()[:, None]):.4f}")


if __name__ == "__main__":
    main()
