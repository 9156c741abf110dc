"""Do blends keep their promise? Three small models by three seeds on each competition, every blend of the nine.

    python scripts/try_blends.py DATA OUT [--weights SQUEEZENET.h5] [--competitions pcam pneumonia nih breast]

DATA holds a raw folder for each competition and, where its own test set has no labels, the answers as
`_answers/COMP.csv` (id, label). Prints for each blend what it is worth nested, out of fold, and on the test set, which
chose nothing. Run again, it goes on from what is there.
"""

import argparse
from pathlib import Path

import pandas as pd

from kit import pipeline
from kit.competitions import find_competition
from kit.config import load_config
from kit.evaluate.blend import BLENDS
from kit.evaluate.metrics import METRICS
from kit.evaluate.score import with_known_labels
from kit.predict import merging as store
from kit.stages import score as results

MODELS = {
    "pcam_cnn": ["model.weights=none"],
    "breast_cnn": ["model.weights=none"],
    "squeezenet": ["train.learning_rate=0.0003"],
}
SETTINGS = [
    "image.size=64",
    "image.steps=[]",
    "folds=3",
    "fold_seed=0",
    "model.arguments={}",
    "train.phases=[]",
    "train.epochs=4",
    "train.batch_size=32",
    "train.optimizer=adam",
    "train.learning_rate=0.001",
    "train.schedule=cosine",
    "data.max_missing=1",
]
SEEDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", help="of SqueezeNet, a file (default: downloaded)")
    parser.add_argument("--competitions", nargs="+", default=["pcam", "pneumonia", "nih", "breast"])
    given = parser.parse_args()
    for name in given.competitions:
        runs = []
        for model, settings in MODELS.items():
            weights = [f"model.weights={given.weights}"] if given.weights and model == "squeezenet" else []
            for seed in range(SEEDS):
                run = given.out / name / f"{model}-{seed}"
                chosen = [*SETTINGS, f"model.name={model}", f"seed={seed}", *settings, *weights]
                pipeline.run(name, data=given.data / name, run=run, settings=chosen)
                runs.append(run)
        print(f"\n{name}: nine runs\n{table(name, runs, given)}\n", flush=True)


def table(name, runs, given):
    """A row for each blend: nested, its interval, optimistic, and on the test set."""
    out = given.out / name
    told = results.ensemble(runs, out / "auto")["blends"]
    rows = {
        f"the run {run.name}": {"nested": results.score(run)[0]["value"], "test": on_test(name, run, given)}
        for run in runs
    }
    for blend in BLENDS:
        results.ensemble(runs, out / blend, blend)
        values = {
            column: told[blend][column] for column in ("nested", "low", "high", "optimistic", "gain_low", "gain_high")
        }
        rows[blend] = {**values, "test": on_test(name, out / blend, given)}
    return pd.DataFrame(rows).T.to_string(float_format="{:.4f}".format, na_rep="")


def on_test(name, run, given):
    """The metric on the test set: of its own labels, or of the answers that were held back."""
    test = store.mean_over_folds(pd.read_parquet(run / "test.parquet"))
    known = pd.read_parquet(run / "examples.parquet")
    labelled = with_known_labels(test, known)
    if labelled.empty:
        answers = pd.read_csv(given.data / "_answers" / f"{name}.csv", dtype={"id": str})
        label = next(column for column in known.columns if column.startswith("y_"))
        labelled = test.merge(answers.rename(columns={"label": label}), on="id", validate="one_to_one")
    metric = METRICS[find_competition(name, load_config(name)).metric]
    return metric(labelled.filter(regex="^y_").to_numpy(float), labelled.filter(regex="^p_").to_numpy())


if __name__ == "__main__":
    main()
