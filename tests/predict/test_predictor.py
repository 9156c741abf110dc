"""New images through a run: the same values as its test set, whatever they come as."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import kit
from kit import files, pipeline
from kit.cli import main
from kit.config.load import with_settings
from kit.data.pixels.images import read_image
from kit.errors import ConfigError, DataError, UnreadableImage
from kit.evaluate.sent import sent, with_decisions
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.stages.resume import config_of
from kit.stages.score import mean_test
from tests.conftest import TINY
from tests.data.pixels.test_dicom import dicom_of

pytestmark = pytest.mark.xdist_group("predictor")  # its run is trained once
SETTINGS = [*TINY, "train.epochs=1", "evaluate.calibration=platt", "predict.tta=flips", "predict.batch_size=8"]


@pytest.fixture(scope="module")
def raw(_toy_folder, tmp_path_factory):
    """A raw folder of 60 training and 21 test patches."""
    root = tmp_path_factory.mktemp("predictor") / "raw"
    shutil.copytree(_toy_folder, root)
    for table, folder, count in (("train_labels", "train", 60), ("sample_submission", "test", 21)):
        rows = pd.read_csv(root / f"{table}.csv")
        for name in rows["id"][count:]:
            (root / folder / f"{name}.tif").unlink()
        rows[:count].to_csv(root / f"{table}.csv", index=False)
    return root


@pytest.fixture(scope="module")
def run(keras, raw):
    """A finished run, calibrated, over several views."""
    run = raw.parent / "runs" / "pcam"
    pipeline.run("pcam", data=raw, run=run, settings=SETTINGS)
    return Run(run)


@pytest.fixture(scope="module")
def expected(run):
    """What the run says of its test images."""
    return with_decisions(run.decision, sent(run.decision, mean_test(run))).set_index("id")


def test_files_of_the_test_set_get_its_values(run, raw, expected):
    paths = sorted((raw / "test").iterdir(), reverse=True)
    table = kit.Predictor.open(run.directory).predict(paths)
    assert list(table) == ["id", "p_tumour", "decision"]
    assert list(table["id"]) == [str(path) for path in paths]
    same = expected.loc[[path.stem for path in paths]]
    assert np.abs(table["p_tumour"].to_numpy() - same["p_tumour"].to_numpy()).max() < 1e-6
    assert list(table["decision"]) == list(same["decision"])
    raw_mean = mean_test(run).set_index("id")["p_tumour"]
    assert np.abs(raw_mean - expected["p_tumour"]).max() > 1e-3  # it is calibrated, so it differs from the raw mean


def test_the_decision_is_the_threshold_of_what_is_sent(run, raw):
    table = Predictor.open(run).predict(sorted((raw / "test").iterdir()))
    cut = run.decision.thresholds["tumour"].threshold
    assert list(table["decision"]) == ["tumour" if p >= cut else "not tumour" for p in table["p_tumour"]]


def test_arrays_and_other_formats_are_the_same_images(run, raw, expected, tmp_path):
    paths = sorted((raw / "test").iterdir())[:3]
    predictor, pixels = Predictor.open(run), [read_image(path) for path in paths]
    wanted = expected.loc[[path.stem for path in paths], "p_tumour"].to_numpy()
    by_array = predictor.predict(pixels)
    assert list(by_array["id"]) == ["0", "1", "2"]
    assert by_array["p_tumour"].to_numpy() == pytest.approx(wanted, abs=1e-6)
    assert predictor.predict(np.stack(pixels))["p_tumour"].to_numpy() == pytest.approx(wanted, abs=1e-6)
    for n, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
        np.save(tmp_path / f"{n}.npy", image)
    for ending in ("png", "npy"):
        table = predictor.predict([tmp_path / f"{n}.{ending}" for n in range(3)])
        assert table["p_tumour"].to_numpy() == pytest.approx(wanted, abs=1e-6)
    assert len(predictor.predict([])) == 0
    grey = predictor.predict([pixels[0][..., 0], pixels[0][..., :1]])  # a grey array, with and without its channel
    assert grey["p_tumour"][0] == grey["p_tumour"][1]


def test_a_single_path_is_one_image(run, raw):
    path = next(raw.rglob("*.tif"))
    predictor = Predictor.open(run)
    assert predictor.predict(str(path)).equals(predictor.predict([path]))


def test_some_folds_alone(run, raw, expected):
    path = sorted((raw / "test").iterdir())[0]
    alone = [Predictor.open(run, [k]).raw([]).shape for k in (0, 1)]
    assert alone == [(0, 1), (0, 1)]
    one, both = Predictor.open(run, [1]), Predictor.open(run)
    assert (len(one.models), len(both.models)) == (1, 2)
    test = run.test()
    p = test[(test["fold"] == 1) & (test["id"] == path.stem)]["p_tumour"].to_numpy()
    calibrated = sent(run.decision, pd.DataFrame({"id": [path.stem], "p_tumour": p}))["p_tumour"].to_numpy()
    assert one.predict([path])["p_tumour"].to_numpy() == pytest.approx(calibrated, abs=1e-6)


def test_the_command_takes_files_folders_and_globs(run, raw, expected, tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    paths = sorted((raw / "test").iterdir())
    shutil.copy(paths[0], folder / "a.tif")
    shutil.copy(paths[1], folder / "deep" / "b.tif")
    (folder / "deep" / "broken.png").write_text("no image")
    (folder / "notes.txt").write_text("not looked at: a folder's other files")
    out = tmp_path / "out.csv"
    arguments = ["predict", str(run), "--images", str(folder), str(raw / "test" / "*.tif"), str(folder / "a.tif")]
    assert main([*arguments, "--out", str(out)]) == 0
    table = pd.read_csv(out).set_index("id")
    assert len(table) == 23  # each once
    assert table.loc[str(folder / "a.tif"), "p_tumour"] == pytest.approx(expected.loc[paths[0].stem, "p_tumour"])
    assert table.loc[str(folder / "deep/b.tif"), "p_tumour"] == pytest.approx(expected.loc[paths[1].stem, "p_tumour"])
    printed = capsys.readouterr()
    assert f"23 images: {out}" in printed.out
    assert f"unreadable {folder / 'deep' / 'broken.png'}: not an image file" in printed.err
    assert main(["predict", str(run), "--images", str(paths[0]), "--folds", "1"]) == 0
    assert capsys.readouterr().out.startswith("id,p_tumour,decision\n")


def test_what_is_odd_about_new_images_is_said_once(run, tmp_path, capsys):
    grey = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    for n in range(3):
        (tmp_path / f"{n}.dcm").write_bytes(dicom_of(grey, RescaleSlope=0, RescaleIntercept=0))
    assert main(["predict", str(run), "--images", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("id,p_tumour,decision\n")
    assert printed.err.count("noticed: 3 DICOMs whose RescaleSlope is 0: read as without a rescale\n") == 1


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (["nothing.png"], "nothing.png matches no file"),
        (["*.jpeg"], r"\*.jpeg matches no file"),
        (["empty"], "empty holds no image"),
        (["broken.png"], "none of 1 images could be read; the first is broken.png: not an image file"),
    ],
)
def test_bad_input_is_one_error_and_nothing_is_written(run, tmp_path, monkeypatch, capsys, images, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_text("no image")
    assert main(["predict", str(run.directory), "--images", *images, "--out", "out.csv"]) == 2
    assert says.replace("\\", "") in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_what_cannot_be_opened(run, tmp_path):
    with pytest.raises(ConfigError, match="is not a run directory"):
        Predictor.open(tmp_path)
    with pytest.raises(ConfigError, match="has no trained fold 7: there are 0, 1"):
        Predictor.open(run, [7])
    copy = Run(shutil.copytree(run.directory, tmp_path / "copy"))
    copy.decision_path.unlink()
    with pytest.raises(DataError, match=r"has no decision.json yet: run `kit score .*` first"):
        Predictor.open(copy)
    for k in (0, 1):
        shutil.rmtree(copy.fold(k).folder)
    with pytest.raises(DataError, match="has no fold trained yet"):
        Predictor.open(copy)
    copy.ensemble_path.write_text("{}")
    with pytest.raises(ConfigError, match="is an ensemble and has no models of its own"):
        Predictor.open(copy)


def test_what_a_run_names_outside_itself_needs_trust(run, raw, tmp_path, capsys):
    copy = Run(shutil.copytree(run.directory, tmp_path / "copy"))
    image = str(sorted((raw / "test").iterdir())[0])
    step = "image.steps=[{name: super_resolution, model: /nowhere}]"
    copy.write_config(with_settings(run.config, [step]))
    assert main(["predict", str(copy), "--images", image]) == 2
    assert (
        "config.yaml prepares images with /nowhere, which lies outside the run: give --trust" in capsys.readouterr().err
    )
    for setting in ("model.name=hub/vit", "model.weights=run:/nowhere", "pseudo.run=/nowhere", step):
        copy.write_config(with_settings(run.config, [setting]))
        key = setting.partition("=")[0]
        with pytest.raises(
            ConfigError, match=f"names something outside the run, {key} = .*: repeat it with --set, or g"
        ):
            config_of(copy, "pcam", [])
        assert config_of(copy, "pcam", [], trust=True) == config_of(copy, "pcam", [setting])


def test_a_model_of_another_run_is_refused(run, tmp_path):
    copy = Run(shutil.copytree(run.directory, tmp_path / "copy"))
    copy.write_config(with_settings(run.config, ["image.size=24"]))
    with pytest.raises(DataError, match="fold0 holds a model of other images or labels than"):
        Predictor.open(copy)
    decision = files.read_json(copy.decision_path)
    copy.scored_done.unlink()
    files.write_json(copy.decision_path, {**decision, "labels": ["other"], "thresholds": {}})
    with pytest.raises(
        DataError, match=r"decision\.json is damaged \(it is of other labels than the run\): run `kit score"
    ):
        Predictor.open(copy)


def test_an_array_that_is_no_image(run):
    with pytest.raises(UnreadableImage, match=r"an array of float64, shape \(4, 4, 3\)"):
        Predictor.open(run).predict([np.zeros((4, 4, 3))])


def test_options_that_do_not_go_together(run, capsys):
    assert main(["predict", str(run), "--images", "x.png", "--tta", "flips"]) == 2
    assert main(["predict", str(run), "--records", "x", "--out", "y.csv"]) == 2
    assert "--out and --folds go with --images" in capsys.readouterr().err
