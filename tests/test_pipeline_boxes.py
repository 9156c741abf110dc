"""A whole run with boxes: from pictures to a checked submission, its predictor, and what is trained again."""

import numpy as np
import pandas as pd
import pytest

from kit.boxes import boxes_of, iou, one_row_each
from kit.cli import main
from kit.competitions import toy_boxes
from kit.errors import ConfigError
from kit.run import Run
from kit.stages.score import mean_test

TINY = [
    "folds=2",
    "image.size=64",
    "model.arguments={backbone: pcam_cnn, channels: 16, depth: 1, finest: 2, coarsest: 3}",
    "train.epochs=2",
    "train.batch_size=8",
    "predict.batch_size=16",
    "evaluate.resamples=100",
    "runtime.steps_per_execution=1",  # traced once
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy_boxes") / "data"
    toy_boxes.make(folder, train=32, test=6, size=96)
    return folder


@pytest.fixture(scope="module")
def run(keras, root):
    from kit import pipeline

    return pipeline.run("toy_boxes", root, root.parent / "run", settings=TINY)


def test_everything_is_there(run, root):
    assert run.is_complete and run.scores.metric == "rsna_mean_average_precision"
    oof, examples = run.oof(), run.examples().set_index("id")
    assert sorted(oof["id"]) == sorted(examples.index[examples["split"] == "train"])
    assert list(oof) == ["id", "fold", "boxes", "box_scores", "box_labels"]
    boxes = boxes_of(oof, ["ellipse"])
    assert len(boxes) and (boxes.xywh >= 0).all() and (boxes.xywh[:, :2] + boxes.xywh[:, 2:] <= 96 + 1e-3).all()
    sent = pd.read_csv(run.submission_path)
    assert list(sent) == ["image", "PredictionString"] and sent["image"].nunique() == 6


def test_the_predictor_gives_what_the_run_gives(run, root):
    from kit.evaluate.sent import sent
    from kit.predict.predictor import Predictor

    predictor = Predictor.open(run)
    paths = sorted((root / "test").glob("*.png"))
    table = predictor.predict(paths)
    expected = (
        sent(run.decision, mean_test(run), fused=True).set_index("id").loc[[path.name for path in paths]].reset_index()
    )
    mine, theirs = (boxes_of(each, ["ellipse"]) for each in (table, expected))
    assert np.array_equal(mine.image, theirs.image)
    assert np.allclose(mine.xywh, theirs.xywh, atol=1e-4) and np.allclose(mine.score, theirs.score, atol=1e-6)
    rows = one_row_each(table)
    assert list(rows) == ["id", "decision", "label", "score", "x", "y", "width", "height"]
    assert len(rows) == len(mine) + len({*range(len(paths))} - {*mine.image})
    present = {"ellipse" if n in mine.image else "not ellipse" for n in range(len(paths))}
    assert {*table["decision"]} == present


def test_views_see_the_same_objects(run, root, capsys):
    from kit.predict.predictor import Predictor

    predictor = Predictor.open(run)
    paths = sorted((root / "test").glob("*.png"))
    images = [image.image for image in predictor.prepared(paths)]
    plain = predictor.raw(images)
    predictor.settings = predictor.settings.model_copy(update={"tta": "mirror"})
    both = predictor.raw(images)
    mirrored = predictor.raw([image[:, ::-1] for image in images])
    assert len(plain) and len(both) == len(mirrored)  # a view more of the mirror image is the same two
    flipped = mirrored.xywh.copy()
    flipped[:, 0] = 1 - flipped[:, 0] - flipped[:, 2]
    for n in range(len(paths)):
        ours, theirs = both.xywh[both.image == n], flipped[mirrored.image == n]
        assert (iou(ours, theirs).max(axis=1) > 0.99).all()


def test_a_run_is_continued_without_training_again(run, root, capsys):
    stamp = run.fold(0).done.stat().st_mtime_ns
    assert main(["run", "toy_boxes", "--data", str(root), "--run", str(run), "--set", "predict.boxes.iou=.4"]) == 0
    assert run.fold(0).done.stat().st_mtime_ns == stamp
    assert Run(run.directory).decision.merge.iou == 0.4


def test_weights_of_another_run_and_what_does_not_fit(keras, run, root):
    from kit.config import ImageSettings, load_config
    from kit.stages.model import build_model

    config = load_config("toy_boxes", [*TINY, f"model.weights=run:{run}"])
    model, spec = build_model(config, ImageSettings(size=64, color="gray"), ["ellipse"], "detection")
    trained = keras.ops.convert_to_numpy(model.get_layer("backbone").weights[0])
    from kit.models.saved import load_model

    source = keras.ops.convert_to_numpy(load_model(run.fold(0).folder).get_layer("backbone").weights[0])
    assert np.array_equal(trained, source) and spec["name"] == "fcos"
    with pytest.raises(ConfigError, match="predicts boxes, but the target needs probabilities"):
        build_model(config, ImageSettings(size=64), ["ellipse"], "binary")
