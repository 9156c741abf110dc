import re
import subprocess
import sys

import pytest

from kit.competitions import competition_names
from kit.config import AugmentSettings, config_names, dump_config, load_config, parse_rule, read_config
from kit.config.load import override
from kit.errors import ConfigError
from kit.files import fingerprint


@pytest.mark.parametrize("name", config_names())
def test_every_config_loads_and_survives_a_round_trip(name, tmp_path):
    config = load_config(name)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    again = read_config(tmp_path / "config.yaml")
    assert again == config
    # as JSON too: 0 and 0.0 are equal but have different fingerprints
    assert fingerprint(again.model_dump()) == fingerprint(config.model_dump())


def test_every_competition_has_a_config():
    assert set(competition_names()) <= set(config_names())


def test_overrides():
    config = load_config(
        "pcam_scratch", ["image.size=64", "model.arguments.units=8", "train.patience=3", "train.learning_rate=1e-3"]
    )
    assert (config.image.size, config.model.arguments, config.train.patience) == (64, {"units": 8}, 3)
    assert config.train.learning_rate == 0.001


@pytest.mark.parametrize("xla", ["auto", "on", "off"])
def test_on_and_off_survive_yaml(xla, tmp_path):
    config = load_config("toy", [f"runtime.xla={xla}"])
    assert config.runtime.xla == xla
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert read_config(tmp_path / "config.yaml") == config


def test_a_config_of_your_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("competition: toy\nfolds: 4\n")
    assert load_config(str(path)).folds == 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("image.sise=64", "'image.sise'; did you mean 'image.size'"),
        ("flods=3", "'flods'; did you mean 'folds'"),
        ("image.size=huge", "image.size = 'huge'"),
        ("folds=1", "folds = 1"),
        ("train.epochs", "key=value"),
        ("folds.k=3", "'folds' is a value"),
        ("train.epochs=[", "--set train.epochs=[ is not valid YAML"),
        ("train.optimizer=adma", "train.optimizer"),
        ("columns.lable=x", "'columns.lable'; did you mean 'columns.label'"),
        (
            "image.steps=[{name: clahe, tile: 4}]",
            "'image.steps.0.clahe.tile'; did you mean 'image.steps.0.clahe.tiles'",
        ),
        ("evaluate.threshold=f2", "evaluate.threshold = 'f2': there is no threshold rule 'f2'; did you mean 'f1'"),
        ("evaluate.threshold=fbeta", "threshold rule 'fbeta': write fbeta:BETA"),
    ],
)
def test_bad_settings_name_the_key(setting, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_config("pcam", [setting])


def test_unknown_names():
    with pytest.raises(ConfigError, match="'pcma'; did you mean 'pcam'"):
        load_config("pcma")
    with pytest.raises(ConfigError, match=r"cannot read nope\.yaml"):
        load_config("nope.yaml")


@pytest.fixture(scope="module")
def structure(keras):
    """A function: a model's settings -> the model for two labels, without values: there in a moment, and built once."""
    from kit.models import registry

    built = {}

    def build(settings):
        key = repr(settings)
        if key not in built:
            small = 96 if settings.name in ("inception_v3", "pcam_cnn_tuned") else 64
            with keras.StatelessScope(initialize_variables=False):
                built[key] = registry.build(settings.name, shape=(small, small, 3), outputs=2, **settings.arguments)
        return built[key]

    yield build
    keras.utils.clear_session()


@pytest.mark.parametrize("name", config_names())
def test_every_config_names_a_model_that_takes_its_arguments(name, structure):
    from kit.models.detect.detector import Detector
    from kit.stages.network import provisional
    from kit.train.optimize import make_optimizer, unfreeze

    config = provisional(load_config(name))
    if config.model.name.startswith("hub/"):
        pytest.skip("KerasHub's presets are fetched from the network")
    model = structure(config.model)
    assert isinstance(model, Detector) or model.output_shape == (None, 2)
    for phase in config.train.all_phases:
        unfreeze(model, phase.unfreeze)
        make_optimizer(config.train, phase, 10)


def test_an_unknown_setting_of_a_phase_is_named():
    with pytest.raises(ConfigError, match=r"unknown setting 'train\.phases\.0\.epoch'; did you mean"):
        load_config("toy", ["train.phases=[{epoch: 1, epochs: 1, learning_rate: 1}]"])


def test_class_weights_and_balanced_batches_exclude_each_other():
    with pytest.raises(ConfigError, match=r"input\.balance = classes and train\.loss\.weights both correct"):
        load_config("toy", ["input.balance=classes", "train.loss.weights=balanced"])
    assert load_config("toy", ["input.balance=classes"]).train.loss.weights == "none"
    assert load_config("toy", ["train.loss.weights=[1, 2]"]).train.loss.weights == (1.0, 2.0)


def test_a_setting_overrides_its_preset():
    pcam = load_config("toy", ["augment.preset=pcam", "augment.rotation=5", "augment.vertical_flip=false"]).augment
    assert (pcam.rotation, pcam.vertical_flip, pcam.horizontal_flip, pcam.zoom) == (5, False, True, 0.1)
    strong = load_config("toy", ["augment={preset: strong, mixup: 0}"])
    assert (strong.augment.mixup, strong.augment.shear, strong.augment.erasing) == (0, 10, 0.25)
    assert load_config("toy", ["augment={preset: xray}"]).augment.fill_mode == "constant"
    none = load_config("toy", ["augment={preset: none}"]).augment
    assert none.model_dump() == AugmentSettings().model_dump()
    with pytest.raises(ConfigError, match=r"augment\.preset = 'strog'"):
        load_config("toy", ["augment.preset=strog"])


def test_shift_and_zoom_are_one_number_or_one_for_each_side():
    boxes = load_config("toy", ["augment={preset: boxes}"]).augment
    assert (boxes.shift_xy, boxes.zoom_xy, boxes.fill_mode) == ((0.02, 0.04), (0.02, 0.03), "constant")
    one = load_config("toy", ["augment.shift=.1", "augment.zoom=0"]).augment
    assert (one.shift_xy, one.zoom_xy) == ((0.1, 0.1), (0, 0))
    for value in ("1", "-.1", "[.1]", "[.1, 1]", "[.1, .1, .1]", "far", "null"):
        with pytest.raises(ConfigError) as error:
            load_config("toy", [f"augment.shift={value}"])
        assert re.fullmatch(
            r"toy: augment\.shift = .+: it is a number from 0 to below 1, or a list .*", str(error.value)
        )


@pytest.mark.parametrize("preset", ["none", "pcam", "xray", "boxes", "strong"])
def test_a_preset_survives_a_round_trip(preset, tmp_path):
    config = load_config("toy", [f"augment.preset={preset}", "augment.zoom=0"])
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert read_config(tmp_path / "config.yaml") == config
    assert config.augment.zoom == 0


@pytest.mark.parametrize("what", ["none", "all", "3 layers", "12 stages"])
def test_what_a_phase_can_unfreeze(what):
    config = load_config("toy", [f"train.phases=[{{epochs: 1, learning_rate: .1, unfreeze: {what}}}]"])
    assert config.train.all_phases[0].unfreeze == what


@pytest.mark.parametrize("what", ["0 layers", "-1 stages", "3", "layers", "3 blocks", "all but 2 layers"])
def test_what_it_cannot_unfreeze(what):
    with pytest.raises(ConfigError, match=r"train\.phases\.0\.unfreeze"):
        load_config("toy", [f"train.phases=[{{epochs: 1, learning_rate: .1, unfreeze: '{what}'}}]"])


def test_without_phases_there_is_one_that_trains_everything():
    (phase,) = load_config("toy", ["train.epochs=7", "train.learning_rate=.01"]).train.all_phases
    assert (phase.epochs, phase.learning_rate, phase.unfreeze, phase.layer_decay) == (7, 0.01, "all", 1.0)


def test_settings_that_phases_override_cannot_be_set():
    for setting in ("train.epochs=3", "train.learning_rate=0.1"):
        with pytest.raises(ConfigError, match=f"--set {setting.split('=')[0]} has no effect beside train.phases"):
            load_config("pcam_mobilenet", [setting])
        load_config("pcam_mobilenet", [setting, "train.phases=[]"])


@pytest.mark.parametrize(
    ("rule", "parsed"),
    [
        ("f1", ("f1", ())),
        ("fbeta:2", ("fbeta", (2.0,))),
        ("cost:1,5", ("cost", (1.0, 5.0))),
        ("prevalence", ("prevalence", ())),
        ("prevalence:.1", ("prevalence", (0.1,))),
    ],
)
def test_threshold_rules(rule, parsed):
    assert parse_rule(rule) == parsed


@pytest.mark.parametrize("value", [1e-5, 0.1, 3, True, None, "same", "a: b", [1, [2.5]], {"momentum": 1e-7}])
def test_an_override_keeps_its_value(value):
    config = load_config("pcam", [override("model.arguments.x", value)])
    assert config.model.arguments["x"] == value
    assert type(config.model.arguments["x"]) is type(value)


def test_settings_load_light():
    code = "import sys, kit.config; print({'numpy', 'pandas', 'keras', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("learning_rate=1", "did you mean 'train.learning_rate'?"),
        ("batch_size=8", "did you mean 'train.batch_size' or 'predict.batch_size'?"),
        ("image.siz=8", "did you mean 'image.size'?"),
        ("train.optimizer=addam", "did you mean 'adam'"),
        ("predict.tta=flip", "did you mean 'flips'"),
        ("model.nam=resnet50", "did you mean 'model.name'?"),
    ],
)
def test_settings_and_words_that_are_meant(setting, hint):
    with pytest.raises(ConfigError) as refused:
        load_config("toy", [setting])
    assert hint in str(refused.value) and "\n" not in str(refused.value)


def test_arguments_of_a_model_in_short(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(
        "competition: toy\nmodel: {name: features, backbone: [a, b], head: mlp, arguments: {head: linear}}\n"
    )
    config = load_config(str(path))
    assert config.model.name == "features" and config.model.arguments == {"backbone": ["a", "b"], "head": "linear"}
    config = load_config(str(path), ["model.backbone=[c]", "model.units=8", "model.backbone_arguments.until=x"])
    arguments = {"backbone": ["c"], "head": "linear", "units": 8, "backbone_arguments": {"until": "x"}}
    assert config.model.arguments == arguments
    assert load_config(str(path), ["model.backbone=c"], config).model.arguments["backbone"] == "c"
    continued = load_config(str(path), [], config)  # the file replaces the run's
    assert continued.model.arguments == {"backbone": ["a", "b"], "head": "linear"}
    assert read_config_of(dump_config(config), tmp_path) == config


def read_config_of(text, folder):
    (folder / "dumped.yaml").write_text(text)
    return read_config(folder / "dumped.yaml")
