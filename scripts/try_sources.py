"""What a change of source may cost a recipe: its folds are whole clusters of training images that look alike.

    python scripts/try_sources.py COMP --data DIR --out OUT [--clusters FILE] [--folds 3] [--images N]
        [--set a.b=value ...]

Trains the recipe with the clusters of `kit score` (kit/data/table/appearance.py) in the place of patients and slides,
so that every image is predicted by a network that has seen none that look like it. Runs with the same clusters (FILE,
a CSV that the first of them writes) have the same folds, and can be compared and blended: `kit score OUT/A OUT/B`.
What is chosen by these values was not chosen by a test set. The clusters are no real sources.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kit import log, pipeline
from kit.competitions import find_competition
from kit.config import load_config
from kit.data.table.appearance import cluster
from kit.evaluate.metrics import find_metric
from kit.run import Run
from kit.stages.clusters import appearance_of
from kit.stages.network import with_network
from kit.tables import probabilities, truth, with_truth


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the run; records lie beside it")
    parser.add_argument("--clusters", type=Path, help="CSV of id and cluster: written, or read where it is there")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--images", type=int, help="of the training images so many, drawn by chance; no test images")
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    given = parser.parse_args()
    log.show()
    config = load_config(given.config, [*given.settings, f"folds={given.folds}", "frozen_first=false"])
    run = Run(given.out)
    config = with_network(config, run)
    records, looks = by_appearance(config, given.data, run, given.clusters, given.images)
    pipeline.train(config, records, run)
    pipeline.predict(run, records)
    pipeline.score(run)
    print(f"{given.out.name}: {report(run, looks, records)}")


def by_appearance(config, data, run, path, count):
    """Records whose groups are clusters of images that look alike, and each training image's cluster by its id."""
    examples = pipeline.list_examples(config, data)
    train = examples.table[examples.table["split"] == "train"]
    train = train.sample(min(count or len(train), len(train)), random_state=0).sort_index()
    examples = replace(examples, table=train.reset_index(drop=True))
    if path and path.exists():
        looks = pd.read_csv(path, index_col="id")["cluster"]
    else:
        plain = pipeline.build_records(config, examples, data, run.directory.parent / "records")
        rows = plain.rows([*range(plain.cells)])
        number = cluster(appearance_of(plain, run), rows).number
        looks = pd.Series(number, index=pd.Index(rows["id"], name="id"), name="cluster")
        if path:
            looks.to_csv(path)
    groups = "cluster" + examples.table["id"].map(looks).astype(str)
    grouped = replace(examples, table=examples.table.assign(group=groups))
    return pipeline.build_records(config, grouped, data, run.directory.parent / "records-by-appearance"), looks


def report(run, looks, records):
    """The metric of all predictions together, their mean within clusters, and each cluster's."""
    examples = records.rows([*range(records.cells)])
    table = with_truth(run.oof(), examples, records.labels)
    metric = find_metric(find_competition(run.config.competition, run.config).target.metric)
    y, p = truth(table, records.labels), probabilities(table, records.labels)
    number = table["id"].map(looks).to_numpy()
    within = [metric(y[number == n], p[number == n]) for n in range(number.max() + 1)]
    each = " ".join(f"{value:.3f}" for value in within)
    return f"left-out clusters {metric(y, p):.4f}, mean within {sum(within) / len(within):.4f} ({each})"


if __name__ == "__main__":
    main()
