"""What is wrong with settings is told before a file is listed, and before anything is written."""

import importlib.util
import sys

import pytest

from kit.cli import main
from kit.config import load_config
from kit.errors import ConfigError
from kit.run import Run
from kit.stages.check import check_settings
from tests.conftest import TINY


@pytest.fixture
def refused(tmp_path, capsys):
    """A function of settings: the message with which `kit run pcam` refuses them, of a folder without any image."""
    (tmp_path / "empty").mkdir()

    def message(*settings, competition="pcam_scratch"):
        sets = [word for setting in settings for word in ("--set", setting)]
        run = ["--data", str(tmp_path / "empty"), "--run", str(tmp_path / "runs" / "x")]
        assert main(["run", competition, *run, *sets]) == 2
        error = capsys.readouterr().err
        assert error.startswith("kit: ") and error.count("\n") == 1
        assert not (tmp_path / "runs").exists()
        return error

    return message


@pytest.mark.once
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.name=efficientnet", "did you mean 'efficientnet_lite0' or 'efficientnetb0'"),
        ("model.name=ResNet-50", "did you mean 'resnet50'"),
        ("model.arguments={unitz: 8}", "model.arguments.unitz: pcam_cnn takes no such argument; did you mean 'units'?"),
        ("train.loss=focal", "train.loss = 'focal': is a group of settings: set train.loss.name"),
        ("train=3", "train = 3: is a group of settings: set train.epochs"),
        ("model.weights=imagnet", "imagnet does not exist (imagenet, none, the path"),
        ("model.weights=imagenet", "model pcam_cnn has no ImageNet weights"),
        ("model.weights=nowhere.weights.h5", "nowhere.weights.h5 does not exist"),
        ("model.weights=run:nowhere", "has no trained fold"),
        ("model.weights=kaggle:owner/name", "write it as kaggle:OWNER/NAME/FILE"),
    ],
)
def test_names_that_do_not_exist(refused, setting, words):
    assert words in refused(*TINY, "model.name=pcam_cnn", setting)


@pytest.mark.once
def test_stains_of_grey_images(refused):
    assert "augment.stain changes the stains of colour images" in refused("image.color=gray", "augment.stain=0.05")
    steps = "image.steps=[{name: grayscale}, {name: resize, size: 96}, {name: macenko}]"
    assert "macenko needs colour: put it before grayscale" in refused(steps)


@pytest.mark.once
def test_files_that_hold_no_weights(refused, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02}q\x00.")
    assert "neither an HDF5 nor a .keras file" in refused(f"model.weights={tmp_path / 'weights.pth'}")
    assert "is a folder" in refused(f"model.weights={tmp_path}")


@pytest.mark.once
def test_packages_that_are_not_installed(refused, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "kit.stages.check.find_spec", lambda name: None if name in ("wandb", "keras_cv") else find(name)
    )
    assert "wandb is not installed" in refused("runtime.trackers=[wandb]")
    assert "augment.grid_mask needs keras-cv" in refused("augment.grid_mask=.5")


@pytest.mark.once
def test_a_network_of_another_kind_than_the_target(refused):
    words = refused("target=boxes", competition="rsna_scratch")
    assert "predicts probabilities, but the target needs boxes: choose another model, such as fcos" in words
    words = refused("model.name=fcos")
    assert "model.name = fcos predicts boxes, but the target needs probabilities" in words


@pytest.mark.once
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluate.calibration=platt", "evaluate.calibration and test_prevalence: of probabilities alone"),
        ("evaluate.threshold=youden", "evaluate.threshold: of probabilities alone"),
        ("model.arguments.backbone=fcos", "model.arguments.backbone = fcos finds boxes itself"),
        ("model.arguments.channels=x", "model.arguments.channels = 'x': a whole number is needed"),
        ("model.arguments.backbone_arguments=3", "model.arguments.backbone_arguments = 3: a dictionary"),
        ("model.arguments.unitz=3", "replaces all that the recipe gives"),
        ("pseudo.run=runs/other", "pseudo.run: of probabilities alone, but fcos finds boxes"),
        ("train.loss.name=focal", "train.loss: of probabilities alone"),
        ("augment.mixup=.2", "augment.mixup"),
        ("model.arguments.backbon=resnet50", "model.arguments.backbon: fcos takes no such argument; did you mean"),
    ],
)
def test_settings_that_boxes_do_not_have(refused, setting, words):
    assert words in refused(setting, competition="toy_boxes")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.name=pcam_cnn_tuned", "cannot be built for images of (32, 32, 3)"),
        ("train.optimizer_arguments={momentun: 1}", "train.optimizer_arguments of adam"),
        ("train.optimizer_arguments={beta_1: x}", "train.optimizer_arguments.beta_1 = 'x': give a number"),
        ("train.optimizer_arguments={beta_1: null}", "train.optimizer_arguments.beta_1 = None: give a number"),
        ("train.optimizer_arguments={clipnorm: [1]}", "train.optimizer_arguments.clipnorm = [1]: give a number"),
        ("train.phases=[{epochs: 1, learning_rate: .1, unfreeze: 2 stages}]", "unfreeze"),
    ],
)
def test_what_cannot_be_built(refused, keras, setting, words):
    assert words in refused(*TINY[:2], setting)


@pytest.mark.once
def test_loading_no_keras(tmp_path):
    """In a process of its own: the checks of names are done before Keras is loaded."""
    import subprocess

    code = (
        "import sys\n"
        "from kit.config import load_config\n"
        "from kit.run import Run\n"
        "from kit.stages.check import check_settings\n"
        "check_settings(load_config('pcam_mobilenet', ['model.weights=none']), Run('nowhere'))\n"
        "print({'keras', 'tensorflow', 'h5py', 'sklearn', 'scipy'} & set(sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.once
def test_a_trained_run_needs_its_weights_no_more(tmp_path):
    config = load_config("toy", ["folds=2", f"model.weights={tmp_path}/gone.weights.h5"])
    run = Run(tmp_path / "run")
    with pytest.raises(ConfigError, match="does not exist"):
        check_settings(config, run)
    for k in range(2):
        run.fold(k).folder.mkdir(parents=True)
        run.fold(k).done.write_text("{}")
    run.write_config(config)
    check_settings(config, run)
    with pytest.raises(ConfigError, match="does not exist"):  # it will be trained anew
        check_settings(load_config("toy", ["folds=2", "seed=1", f"model.weights={tmp_path}/gone.weights.h5"]), run)


@pytest.mark.once
def test_records_are_not_built_for_a_model_that_does_not_exist(toy_root, tmp_path, capsys):
    words = ["records", "build", "pcam", "--data", str(toy_root), "--out", str(tmp_path / "r")]
    assert main([*words, "--set", "model.name=resnet5"]) == 2
    assert "did you mean 'resnet50'" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_training_that_cannot_be_leaves_no_run(toy_records, tmp_path, capsys, keras):
    words = ["train", "toy", "--records", str(toy_records.directory), "--run", str(tmp_path / "r")]
    assert main([*words, "--set", "train.optimizer_arguments={momentun: 1}"]) == 2
    assert "train.optimizer_arguments" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_a_prevalence_of_other_labels_is_told_before_records_are_built(toy_root, tmp_path, capsys, keras):
    words = ["run", "pcam", "--data", str(toy_root), "--run", str(tmp_path / "r")]
    sets = [word for setting in (*TINY, "evaluate.test_prevalence=[0.1,0.2]") for word in ("--set", setting)]
    assert main([*words, *sets]) == 2
    assert "evaluate.test_prevalence: give 1 number, for tumour" in capsys.readouterr().err
    assert not (tmp_path / "r").exists() and not (tmp_path / "records").exists()
