"""Everything after training, on as many rows as PCam has: intervals, thresholds, greedy selection, test-time views.

    python scripts/bench/evaluate.py [--rows 220025] [--labels 14] [--members 20] [--only bootstrap thresholds ...]

Predictions are synthetic: a tenth of the labels is positive, scores are the labels with noise. The bootstrap draws
2,000 resamples, every row a group of its own; the alternative calls scikit-learn with each resample's weights (20 of
them, times 100). Greedy selection is compared with the same procedure on scikit-learn's roc_auc_score. Views: a fold
model of pcam_cnn predicts 2,048 patches of 96 px, 8 views against one (medians of 3).
"""
# ruff: noqa: B023 (the timed functions are called at once)

import argparse
import time

import numpy as np
from common import machine
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=220_025)
    parser.add_argument("--labels", type=int, default=14)
    parser.add_argument("--members", type=int, default=20)
    parts = {"bootstrap": bootstrap, "thresholds": thresholds, "greedy": greedy, "views": views}
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    arguments = parser.parse_args()
    print(machine(), flush=True)
    for name in arguments.only:
        parts[name](arguments)


def synthetic(rows, columns, noise=1.5, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, columns)) < 0.1).astype(np.float32)
    p = 1 / (1 + np.exp(-rng.normal(2 * y - 1, noise)))
    return y, p.astype(np.float32)


def timed(call):
    started = time.perf_counter()
    value = call()
    return time.perf_counter() - started, value


def bootstrap(arguments):
    from kit.evaluate.metrics import METRICS
    from kit.evaluate.resample import resample, statistic

    for columns in (1, arguments.labels):
        y, p = synthetic(arguments.rows, columns)
        groups = np.arange(arguments.rows)
        ours, _ = timed(lambda: resample([statistic(METRICS["roc_auc"], y, p, groups)], arguments.rows, 2000))
        rng = np.random.default_rng(0)

        def theirs():
            for _ in range(20 // columns or 1):
                times = np.bincount(rng.integers(0, arguments.rows, arguments.rows), minlength=arguments.rows)
                for n in range(columns):
                    roc_auc_score(y[:, n], p[:, n], sample_weight=times)

        slow = timed(theirs)[0] * 2000 / (20 // columns or 1)
        print(
            f"bootstrap of {arguments.rows} rows, {columns} labels, 2,000 resamples: {ours:.1f} s; scikit-learn "
            f"{slow:.0f} s ({slow / ours:.0f} times)",
            flush=True,
        )


def thresholds(arguments):
    from kit.evaluate.thresholds import all_cuts, best_threshold, cross_validated

    y, p = synthetic(arguments.rows, arguments.labels)
    fold = np.arange(arguments.rows) % 5
    ours, cuts = timed(
        lambda: [best_threshold(all_cuts(y[:, n] > 0.5, p[:, n]), "f1") for n in range(arguments.labels)]
    )
    whole, _ = timed(
        lambda: [cross_validated(y[:, n], [(fold == k, score) for k in range(5)], "f1") for n, score in enumerate(p.T)]
    )

    def curve(n):
        precision, recall, thresholds = precision_recall_curve(y[:, n], p[:, n])
        return thresholds[np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))]

    slow, others = timed(lambda: [curve(n) for n in range(arguments.labels)])
    worse = max(
        f1_score(y[:, n], p[:, n] >= others[n]) - f1_score(y[:, n], p[:, n] >= cuts[n]) for n in range(arguments.labels)
    )
    print(
        f"best F1 threshold of {arguments.rows} rows, {arguments.labels} labels: {ours:.2f} s, cross-validated over "
        f"5 folds {whole:.2f} s more; scikit-learn's curve {slow:.2f} s ({slow / ours:.1f} times; F1 higher by "
        f"{worse:.1e} at most)",
        flush=True,
    )


def greedy(arguments):
    import pandas as pd

    from kit.evaluate import blend
    from kit.evaluate.metrics import METRICS

    y, _ = synthetic(arguments.rows, 1)
    rng = np.random.default_rng(1)
    spread = rng.uniform(1.5, 3, arguments.members)
    members = np.stack([1 / (1 + np.exp(-rng.normal(2 * y - 1, s))) for s in spread])
    rows = blend.Rows(members, y, METRICS["roc_auc"], False, pd.DataFrame(index=range(arguments.rows)))
    ours, weights = timed(lambda: blend.greedy_weights(rows))
    value_of = blend.value_of
    blend.value_of = lambda metric, labels: lambda p: roc_auc_score(labels[:, 0], p[:, 0])
    slow, others = timed(lambda: blend.greedy_weights(rows))
    blend.value_of = value_of
    print(
        f"greedy selection among {arguments.members} members of {arguments.rows} rows, 5 bags: {ours:.1f} s; with "
        f"scikit-learn's area {slow:.1f} s ({slow / ours:.1f} times; weights differ by "
        f"{np.abs(weights - others).max():.2g})",
        flush=True,
    )
    for name in ("convex", "nnls", "stack", "boost"):
        print(f"  {name}: {timed(lambda: blend.fit(name, rows))[0]:.1f} s", flush=True)


def views(arguments):
    from kit.config import RuntimeSettings
    from kit.runtime import devices

    devices.set_up(RuntimeSettings())
    from kit.data.records.batches import Batch
    from kit.models import registry
    from kit.predict.predict import predict

    model = registry.build("pcam_cnn", shape=(96, 96, 3), outputs=1)
    rng = np.random.default_rng(0)
    batches = [
        Batch(
            rng.integers(0, 256, (256, 96, 96, 3), dtype=np.uint8),
            np.ones(256, bool),
            [f"{n}/{i}" for i in range(256)],
            np.zeros((256, 1), np.float32),
        )
        for n in range(8)
    ]
    times = {name: [] for name in ("none", "dihedral", "crops", "scales")}
    predict(model, batches[:1], ["x"])
    for _ in range(3):
        for name, taken in times.items():
            taken.append(timed(lambda: predict(model, batches, ["x"], name))[0])
    one = np.median(times["none"])
    for name, count in (("dihedral", 8), ("crops", 6), ("scales", 3)):
        print(f"views, {name}: {count} views cost {np.median(times[name]) / one:.2f} times one", flush=True)


if __name__ == "__main__":
    main()
