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
from kit.evaluate.metrics import find_metric
from kit.evaluate.score import with_known_truth
from kit.run import Run
from kit.stages.ensemble import ensemble
from kit.stages.score import mean_test, score
from kit.tables import labels_of, probabilities, truth

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
    "train.initial_head=random",
    "train.freeze_batch_norm=false",
    "predict.tta=none",
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
    arguments = parser.parse_args()
    for name in arguments.competitions:
        runs = []
        for model, settings in MODELS.items():
            weights = [f"model.weights={arguments.weights}"] if arguments.weights and model == "squeezenet" else []
            for seed in range(SEEDS):
                run = arguments.out / name / f"{model}-{seed}"
                chosen = [*SETTINGS, f"model.name={model}", f"seed={seed}", *settings, *weights]
                pipeline.run(f"{name}_scratch", data=arguments.data / name, run=run, settings=chosen)
                runs.append(Run(run))
        print(f"\n{name}: nine runs\n{table(name, runs, arguments)}\n", flush=True)


def table(name, runs, arguments):
    """A row for each blend: nested, its interval, optimistic, and on the test set."""
    out = arguments.out / name
    scores = ensemble(runs, Run(out / "auto")).blends
    rows = {
        f"the run {run.name}": {"nested": score(run)[0].value, "test": on_test(name, run, arguments)} for run in runs
    }
    for blend in BLENDS:
        ensemble(runs, Run(out / blend), blend)
        columns = ("nested", "low", "high", "optimistic", "gain_low", "gain_high")
        values = {column: getattr(scores[blend], column) for column in columns}
        rows[blend] = {**values, "test": on_test(name, Run(out / blend), arguments)}
    return pd.DataFrame(rows).T.to_string(float_format="{:.4f}".format, na_rep="")


def on_test(name, run, arguments):
    """The metric on the test set: of its own labels, or of the answers that were held back."""
    test, examples = mean_test(run), run.examples()
    labelled = with_known_truth(test, examples)
    if labelled.empty:
        answers = pd.read_csv(arguments.data / "_answers" / f"{name}.csv", dtype={"id": str})
        label = f"y_{labels_of(examples)[0]}"
        labelled = test.merge(answers.rename(columns={"label": label}), on="id", validate="one_to_one")
    metric = find_metric(find_competition(name, load_config(name)).target.metric)
    return metric(truth(labelled).astype(float), probabilities(labelled))


if __name__ == "__main__":
    main()
