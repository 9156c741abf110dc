"""ROC AUC of a submission against labels that were held back: for data laid out with its answers, as the toy set's are.

    python scripts/score_answers.py submission.csv answers.csv

Both files have the columns id and label; the answers' labels are 0 or 1.
"""

import sys
from pathlib import Path

from kit.evaluate.metrics import roc_auc
from kit.submit.submission import read_submission


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    submission, answers = (read_submission(Path(path), "id").set_index("id")["label"] for path in sys.argv[1:])
    print(f"{roc_auc(answers.to_numpy(float)[:, None], submission[answers.index].to_numpy()[:, None]):.4f}")


if __name__ == "__main__":
    main()
