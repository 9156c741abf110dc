"""What follows training with boxes, from prediction files to a submission, on runs whose files are made by hand."""

import numpy as np
import pandas as pd
import pytest

from kit import files
from kit.boxes import Boxes, boxes_of, with_boxes
from kit.cli import main
from kit.config import load_config
from kit.errors import ConfigError, DataError
from kit.evaluate.boxes.metrics import rsna_mean_average_precision
from kit.run import FORMAT_VERSION, Run
from kit.schemas import Folds
from kit.stages.ensemble import ensemble
from kit.stages.score import compare, mean_test, score
from kit.stages.submission import require_current_submission, write_submission
from kit.tables import with_probabilities

ROWS, TESTS, FOLDS, SIDE = 240, 30, 3, 1024
LABELS = ("pneumonia",)


@pytest.fixture(scope="module")
def truth():
    """One or two boxes in every other image, in pixels of images of 1024."""
    rng = np.random.default_rng(0)
    image = np.sort(np.concatenate([np.arange(0, ROWS + TESTS, 2), np.arange(0, ROWS + TESTS, 6)]))
    corner = rng.uniform(0, 700, (len(image), 2))
    size = rng.uniform(80, 300, (len(image), 2))
    return Boxes(ROWS + TESTS, image, np.hstack([corner, size]), np.zeros(len(image), int), np.ones(len(image)))


def seen(truth, seed, noise, false):
    """Predictions near true boxes with high scores, and boxes where there are none with lower ones."""
    rng = np.random.default_rng(seed)
    near = truth.xywh * (1 + rng.normal(0, noise, truth.xywh.shape))
    wrong = np.sort(rng.integers(0, truth.images, int(false * truth.images)))
    far = np.hstack([rng.uniform(0, 700, (len(wrong), 2)), rng.uniform(80, 300, (len(wrong), 2))])
    image = np.concatenate([truth.image, wrong])
    order = np.argsort(image, kind="stable")
    score = np.concatenate([rng.beta(6, 3, len(truth)), rng.beta(4, 6, len(wrong))])[order]
    xywh = np.concatenate([near, far])[order]
    return Boxes(truth.images, image[order], np.clip(xywh, 1, 1000), np.zeros(len(order), int), score).clipped(
        SIDE, SIDE
    )


@pytest.fixture
def make_run(tmp_path, truth):
    """A function: name, seed, noise -> a run of rsna's boxes (or of its two classes) that is predicted."""
    ids = [f"p{n:03}" for n in range(ROWS + TESTS)]
    known = pd.DataFrame({"id": ids, "split": ["train"] * ROWS + ["test"] * TESTS, "group": ids})
    known = known.assign(width=float(SIDE), height=float(SIDE), cell=np.where(np.arange(len(ids)) < ROWS, 0, -1))
    known.loc[known["split"] == "train", "cell"] = np.arange(ROWS) // 2 % FOLDS
    known["boxes"] = with_boxes(known[["id"]], truth, LABELS)["boxes"]
    positive = truth.best(1)[:, 0]
    known["y_pneumonia"] = np.where(known["split"] == "train", positive, np.nan).astype(np.float32)

    def made(name, seed=1, noise=0.05, target="boxes", fold=None, false=0.7):
        fold = np.arange(ROWS) // 2 % FOLDS if fold is None else fold
        task = {"boxes": "detection", "two_class": "binary"}[target]
        table = pd.DataFrame({"id": ids})
        if target == "boxes":
            table = with_boxes(table, seen(truth, seed, noise, false), LABELS)
        else:
            p = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(3 * (2 * positive - 1), noise)))
            table = with_probabilities(table, p[:, None], LABELS)
        run = Run(tmp_path / "runs" / name)
        config = load_config("rsna", [f"target={target}", f"folds={FOLDS}", "evaluate.resamples=200"])
        split = Folds(
            format_version=FORMAT_VERSION,
            task=task,
            labels=LABELS,
            cells=FOLDS,
            folds=[[k] for k in range(FOLDS)],
            **{"training": "training", "test": "test", "image": "image"},
        )
        run.prepare(config, known.assign(cell=np.append(fold, np.full(TESTS, -1))), split)
        files.write_parquet(run.oof_path, table[:ROWS].assign(fold=fold))
        test = pd.concat([table[ROWS:].assign(fold=k) for k in (0, 1)], ignore_index=True)
        files.write_parquet(run.test_path, test)
        files.write_text(run.fold(0).done, "{}")
        return run

    return made


def test_scores_are_nested_and_say_what_was_chosen(make_run, truth, capsys):
    run = make_run("one")
    assert main(["score", str(run)]) == 0
    out = capsys.readouterr().out
    scores, decision = run.scores, run.decision
    overlap, rule = "mean IoU of all that overlap", "boxes of pneumonia"
    for text in ("out-of-fold rsna_mean_average_precision", "AP50", "FROC", overlap, rule):
        assert text in out
    assert "There are boxes in 120 images only" in out
    train = truth.of_images(np.arange(ROWS))
    kept = boxes_of(run.oof(), LABELS)
    cut = decision.rules["pneumonia"].cut
    by_hand = rsna_mean_average_precision(train, kept.where(kept.score >= cut))
    assert scores.on_the_images_that_chose_it == pytest.approx(by_hand)
    assert scores.value < by_hand + 0.02 and scores.interval.low < scores.value < scores.interval.high
    assert scores.value > rsna_mean_average_precision(train, kept)  # the cut drops what is false
    assert scores.fold_mean == pytest.approx(np.mean(list(scores.folds.values())))
    assert scores.report.mean["ap50"].value > 0.5 and scores.report.mean["image_roc_auc"].value > 0.8
    assert score(run)[0] == scores  # as it was read


def test_folds_of_test_predictions_are_fused(make_run):
    run = make_run("one")
    test = mean_test(run)
    assert test["id"].is_unique and len(test) == TESTS
    once = boxes_of(run.test()[lambda table: table["fold"] == 0], LABELS)
    fused = boxes_of(test, LABELS)
    assert len(fused) <= len(once)
    assert fused.best(1) == pytest.approx(once.best(1), abs=1e-6)  # both folds see the same
    rule = score(run)[1].rules["pneumonia"]  # as many boxes are kept of both folds as of one
    assert (fused.score >= rule.fused_cut).sum() == pytest.approx((once.score >= rule.cut).sum(), abs=1)


def test_a_submission_and_its_check(make_run, tmp_path, capsys):
    run = make_run("one")
    sample = tmp_path / "sample.csv"
    ids = [f"p{n:03}" for n in range(ROWS, ROWS + TESTS)]
    pd.DataFrame({"patientId": ids, "PredictionString": "0.5 0 0 100 100"}).to_csv(sample, index=False)
    write_submission(run, sample, run.submission_path)
    sent = pd.read_csv(run.submission_path).set_index("patientId")["PredictionString"]
    assert sent.isna().any() and sent.notna().any()  # an image without a box has an empty cell
    cut = run.decision.rules["pneumonia"].fused_cut
    expected = boxes_of(mean_test(run), LABELS)
    expected = expected.where(expected.score >= cut)
    for n, cell in enumerate(sent.fillna("")):
        numbers = np.array(cell.split(), float).reshape(-1, 5)
        assert len(numbers) == (expected.image == n).sum()
        assert np.allclose(np.sort(numbers[:, 0]), np.sort(expected.score[expected.image == n]), atol=1e-5)
        assert (numbers[:, 1:3] + numbers[:, 3:] <= SIDE).all()
    require_current_submission(run)
    assert main(["submission", "check", "rsna", str(run.submission_path), "--sample", str(sample)]) == 0


def test_runs_are_compared_on_the_same_resamples(make_run):
    runs = [make_run("good", noise=0.02), make_run("bad", 2, noise=0.2)]
    first, second = compare(runs)
    assert first.difference == 0 and second.difference < 0 and second.high < 0 and second.better < 0.05


def test_runs_that_cannot_be_compared(make_run):
    run, gate, fewer, other = make_run("a"), make_run("gate", 3, 1.0, "two_class"), make_run("fewer"), make_run("other")
    for runs in ([run, gate], [gate, run]):
        with pytest.raises(DataError, match="which no metric compares"):
            compare(runs)
    files.write_parquet(fewer.oof_path, fewer.oof()[1:])
    with pytest.raises(DataError, match=r"fewer and a have different training images: 1 .* such as p000"):
        compare([run, fewer])
    table = other.examples()
    table.at[2, "boxes"] = [[1.0, 2.0, 30.0, 40.0]]
    other.prepare(other.config, table, other.folds)
    with pytest.raises(DataError, match="other and a have different true boxes, such as those of p002"):
        compare([run, other])
    with pytest.raises(DataError, match="other and a have different true boxes"):
        ensemble([run, other], Run(run.directory.parent / "out"))


def test_boxes_of_runs_and_a_gate_are_blended(make_run, capsys):
    runs = [make_run("a", 1), make_run("b", 2), make_run("gate", 3, 1.0, "two_class")]
    out = runs[0].directory.parent / "all"
    assert main(["ensemble", *map(str, runs), "--out", str(out)]) == 0
    blend = Run(out)
    report = blend.ensemble
    assert report.gate == "gate" and set(report.weights) == {"a", "b"} and "only a" in report.blends
    assert "p_pneumonia" in blend.oof() and "p_pneumonia" in blend.test()
    assert blend.test()[["id", "fold"]].equals(runs[0].test()[["id", "fold"]])
    scores, _ = score(blend)
    alone = [score(run)[0].value for run in runs[:2]]
    assert scores.value > max(alone)
    assert ensemble(runs, blend) == report  # nothing has changed


def test_a_run_that_sees_too_much_gains_by_a_gate(make_run):
    runs = [make_run("gate", 3, 1.0, "two_class"), make_run("a", 1, false=2.5)]
    ensemble(runs, Run(runs[0].directory.parent / "gated"))
    scores, decision = score(Run(runs[0].directory.parent / "gated"))
    assert decision.rules["pneumonia"].gate > 0
    assert scores.value > score(runs[1])[0].value + 0.02


def test_runs_that_cannot_be_blended(make_run):
    boxes, gate = make_run("a"), make_run("gate", 3, 1.0, "two_class")
    out = Run(boxes.directory.parent / "out")
    with pytest.raises(ConfigError, match="one classification run as their gate, not 2: gate, other"):
        ensemble([boxes, gate, make_run("other", 4, 1.0, "two_class")], out)
    with pytest.raises(ConfigError, match="leave --metadata out"):
        ensemble([boxes, gate], out, metadata=["age"])
    moved = make_run("moved", 3, 1.0, "two_class", fold=np.roll(np.arange(ROWS) // 2 % FOLDS, 1))
    with pytest.raises(DataError, match=r"moved has other folds than the first run with boxes"):
        ensemble([boxes, moved], out)
    with pytest.raises(ConfigError, match=r"unknown blend of boxes 'mean'"):
        ensemble([boxes, gate], out, "mean")
    assert not out.directory.exists() or not out.exists()
