"""Typed settings: defaults, then `configs/<name>.yaml`, then `--set a.b=c`. A key that does not exist is an error."""

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kit.errors import ConfigError, nearest


class _Settings(BaseModel):
    # validate_default: a float's default 0 must become 0.0, or a config read back would have another fingerprint
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ColumnSettings(_Settings):
    """Which columns of your own table say what (competition `csv`); for `folders` see `group`."""

    id: str = "id"  # the image's path below the data folder, its file name, or that without ending
    label: tuple[str, ...] = ("label",)  # one: 0/1 or class names; several: 0/1 in each
    group: str | None = None  # patient, slide; for `folders`: a regular expression, see there
    split: str | None = None  # train, val (folded like train) or test; null: rows without a label are the test set

    @field_validator("label", mode="before")
    @classmethod
    def _several(cls, label: Any) -> Any:
        return [name.strip() for name in label.split(",")] if isinstance(label, str) else label


class Source(_Settings):
    """What a competition with several tasks, or your own data, has to be told to read the raw folder."""

    target: str | None = None  # rsna: two_class, three_class or boxes; your own two classes: the positive one
    table: str | None = None  # csv: your table; medmnist: the .npz, where there are several; below the data folder
    columns: ColumnSettings = ColumnSettings()


class DataSettings(_Settings):
    """How raw files become records. The first two are shares of all images, above which the build is refused."""

    max_missing: float = Field(0.0, ge=0, le=1)  # labels without an image; images without a label
    max_rejected: float = Field(0.01, ge=0, le=1)  # files that cannot be read as an image
    shard_mib: float = Field(256, gt=0)  # of pixels before encoding; a cell that holds more becomes several shards


class CenterCrop(_Settings):
    """The central size x size pixels; an image that is smaller stops the build."""

    name: Literal["center_crop"]
    size: int = Field(ge=1)


class Resize(_Settings):
    """To size x size pixels, by the mean over areas (for shrinking) or by Lanczos of three lobes."""

    name: Literal["resize"]
    size: int = Field(ge=1)
    method: Literal["area", "lanczos"] = "area"


class Grayscale(_Settings):
    """One channel."""

    name: Literal["grayscale"]


class Clahe(_Settings):
    """Contrast-limited adaptive histogram equalisation."""

    name: Literal["clahe"]
    clip_limit: float = Field(2.0, gt=0)  # times a tile's mean histogram count
    tiles: int = Field(8, ge=1)  # per side


class SuperResolution(_Settings):
    """Enlarged by a TensorFlow-Hub model: an address, or a folder with a SavedModel."""

    name: Literal["super_resolution"]
    model: str = "https://tfhub.dev/captain-pool/esrgan-tf2/1"
    batch_size: int = Field(32, ge=1)  # images


_STEPS = {"center_crop": CenterCrop, "resize": Resize, "clahe": Clahe, "super_resolution": SuperResolution}
Step = Annotated[CenterCrop | Resize | Grayscale | Clahe | SuperResolution, Field(discriminator="name")]


class DicomSettings(_Settings):
    """How a DICOM's values become 8 bit (kit.data.pixels.dicom); other files have no such choice."""

    window: str = "first"  # the first VOI LUT or window of the header, or the one with this explanation
    percentiles: tuple[float, float] | None = None  # of the values, shown as black and white; instead of any window
    frame: int | None = Field(None, ge=0)  # of files with several; null: they are refused

    @field_validator("percentiles")
    @classmethod
    def _ascending(cls, percentiles: tuple[float, float] | None) -> tuple[float, float] | None:
        if percentiles and not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError("percentiles are two numbers from 0 to 100, the lower one first")
        return percentiles


class ImageSettings(_Settings):
    """What the records hold; part of their fingerprint.

    Encodings: raw (uint8); png; jpeg:Q (quality; jpeg alone is 95); auto: a JPEG that needs no change is stored as it
    is, everything else as png; auto:Q: everything else as jpeg:Q.
    """

    steps: tuple[Step, ...] = ()  # applied in this order, before the final size and colour
    size: int = Field(96, ge=16, le=2048)  # pixels; images are resized to size x size
    color: Literal["rgb", "gray"] = "rgb"
    encoding: str = "auto"
    dicom: DicomSettings = DicomSettings()

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        if not re.fullmatch(r"raw|png|(auto|jpeg)(:([1-9]|[1-9][0-9]|100))?", encoding):
            raise ValueError("an encoding is raw, png, jpeg:Q, auto or auto:Q, with a quality Q from 1 to 100")
        return encoding


class InputSettings(_Settings):
    """How records become training batches."""

    balance: Literal["none", "classes"] = "none"  # classes: each class (multilabel: each label, and none) equally often
    cache: Literal["none", "encoded", "decoded"] = (
        "none"  # in memory; encoded images that fit a quarter of it always are
    )
    deterministic: bool = True  # an epoch's order depends on seed, fold and epoch alone


class ModelSettings(_Settings):
    """Which model of the registry, where its weights come from, and what else its builder is told."""

    name: str = "pcam_cnn"
    weights: str | None = None  # imagenet | none | path of a .h5 file; null: what the model's card says
    arguments: dict[str, Any] = {}


_PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "pcam": {  # tissue has no up or down, and stains differ
        "horizontal_flip": True,
        "vertical_flip": True,
        "rotation": 180,
        "shift": 0.05,
        "zoom": 0.1,
        "brightness": 0.1,
        "channel_shift": 20,
    },
    "xray": {"rotation": 10, "shift": 0.05, "zoom": 0.1, "brightness": 0.1, "fill_mode": "constant"},
    "strong": {
        "horizontal_flip": True,
        "rotation": 20,
        "shift": 0.1,
        "zoom": 0.2,
        "shear": 10,
        "brightness": 0.2,
        "channel_shift": 20,
        "erasing": 0.25,
        "mixup": 0.2,
    },
}


class AugmentSettings(_Settings):
    """Random changes of the training images; a number is the half-width of a uniform distribution around "none"."""

    preset: Literal["none", "pcam", "xray", "strong"] = "none"  # where a setting beside it is given, that one counts
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: float = Field(0, ge=0, le=180)  # degrees
    shift: float = Field(0, ge=0, lt=1)  # share of the side
    zoom: float = Field(0, ge=0, lt=1)  # .1: a factor in [.9, 1.1]
    shear: float = Field(0, ge=0, lt=90)  # degrees, along x
    brightness: float = Field(0, ge=0, lt=1)  # .1: a factor in [.9, 1.1]
    channel_shift: float = Field(0, ge=0, le=255)  # grey levels, each channel by itself
    fill_mode: Literal["constant", "reflect", "nearest", "wrap"] = "reflect"
    fill_value: float = Field(0, ge=0, le=255)  # grey level, for fill_mode constant
    rand_augment: float = Field(0, ge=0, le=1)  # magnitude of Keras's RandAugment, two changes an image; 0: none
    erasing: float = Field(0, ge=0, le=1)  # share of the images that lose a rectangle (RandomErasing)
    grid_mask: float = Field(0, ge=0, le=1)  # share of the images that lose a grid (keras-cv's GridMask)
    mixup: float = Field(0, ge=0)  # alpha of MixUp, 0: none; with cutmix as well each batch takes one of the two
    cutmix: float = Field(0, ge=0, le=1)  # factor of Keras's CutMix
    fourier_mix: float = Field(0, ge=0)  # alpha of keras-cv's FourierMix

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        return {**_PRESETS.get(str(given.get("preset")), {}), **given} if isinstance(given, dict) else given


class LossSettings(_Settings):
    """What is minimised (kit.train.losses); labels that are not known (NaN) count for nothing."""

    name: Literal["crossentropy", "focal", "asymmetric"] = "crossentropy"
    gamma: float = Field(2.0, ge=0)  # focal; of the negatives of asymmetric, whose positives have none
    clip: float = Field(0.05, ge=0, lt=1)  # asymmetric: negatives below that probability count for nothing
    smoothing: float = Field(0.0, ge=0, lt=1)  # .1: a label of 1 is learnt as .95 (of C classes: .9 + .1 / C)
    # balanced: n / (classes * n of the class); effective: by Cui et al. 2019 with effective_beta; or given: of one
    # label [negative, positive], of classes one each, of several labels that of each one's positives.
    weights: Literal["none", "balanced", "effective"] | tuple[Annotated[float, Field(gt=0)], ...] = "none"
    effective_beta: float = Field(0.999, gt=0, lt=1)


class Phase(_Settings):
    """A stretch of training with its own rate, on part of the backbone; it starts from the best weights so far.

    What is frozen keeps its batch statistics too.
    """

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    unfreeze: str = Field("all", pattern=r"^(none|all|[1-9]\d* (layers|stages))$")  # of the backbone, from its end
    layer_decay: float = Field(1.0, gt=0, le=1)  # rate of a stage of the backbone / rate of what follows it


Optimizer = Literal[
    "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion", "nadam", "rmsprop", "sgd"
]


class TrainSettings(_Settings):
    """One fold's training."""

    epochs: int = Field(15, ge=1)  # without phases
    batch_size: int = Field(64, ge=1)  # images an update is made from, over all devices
    accumulate: int = Field(1, ge=1)  # parts of a batch, one after the other, where the whole does not fit in memory
    optimizer: Optimizer = "adam"
    optimizer_arguments: dict[str, Any] = {}  # others of Keras's, such as {momentum: .9}
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)  # decoupled, of any optimiser
    clip_norm: float | None = Field(None, gt=0)  # of all gradients together
    phases: tuple[Phase, ...] = ()  # instead of epochs and learning_rate
    freeze_batch_norm: bool = False  # of the backbone, in all phases: small batches make poor statistics
    # null: the network's own, .99 for most of Keras's, which lags hundreds of steps behind: too many for small sets
    batch_norm_momentum: float | None = Field(None, ge=0, lt=1)
    # exponential: up in warmup_epochs, hold_epochs, then times decay each epoch; one_cycle: up in the first 30 %
    schedule: Literal["constant", "cosine", "plateau", "exponential", "one_cycle"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0)  # cosine and exponential: linearly to learning_rate
    hold_epochs: float = Field(0.0, ge=0)  # exponential only
    decay: float = Field(0.8, gt=0, le=1)  # exponential only
    # where the warm-up begins; null: at 0, of exponential, which keeps it for an epoch, at a fiftieth of learning_rate
    start_learning_rate: float | None = Field(None, ge=0)
    min_learning_rate: float = Field(1e-6, ge=0)  # plateau and exponential
    plateau_factor: float = Field(0.2, gt=0, lt=1)
    plateau_patience: int = Field(2, ge=1)  # epochs
    patience: int | None = Field(None, ge=1)  # epochs without a better score before a phase stops; null: never
    # What is scored and kept: the weights themselves, or an average of them. swa (arXiv:1803.05407) is that of the last
    # epochs, scored as one epoch more and kept if it is the best.
    average: Literal["none", "ema", "swa"] = "none"
    ema_momentum: float = Field(0.999, gt=0, lt=1)  # a step
    swa_epochs: int = Field(5, ge=2)  # the last so many of the last phase
    loss: LossSettings = LossSettings()

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """The phases; without any, one of everything."""
        return self.phases or (Phase(epochs=self.epochs, learning_rate=self.learning_rate),)


class PredictSettings(_Settings):
    """How images are scored once a fold is trained."""

    batch_size: int = Field(256, ge=1)
    # The mean over views of each image: 1, 2, 4, 8, 6 (itself, its corners and centre) or 3 (sizes) of them.
    tta: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"] = "none"


class EvaluateSettings(_Settings):
    """How predictions are scored, cut and calibrated."""

    resamples: int = Field(2000, ge=100)  # of the bootstrap intervals
    confidence: float = Field(0.95, gt=0, lt=1)
    threshold: str = "f1"  # a rule of kit.evaluate.thresholds, such as sensitivity_at_specificity:0.95
    # Of what is submitted, fitted out of fold; of a single label only isotonic, by its ties, changes the ROC AUC.
    calibration: Literal["none", "temperature", "platt", "isotonic", "beta"] = "none"
    test_prevalence: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None  # each label's share, where known
    subgroups: tuple[str, ...] = ("sex", "age", "view_position")  # columns of the examples, where there are such

    @field_validator("threshold")
    @classmethod
    def _known_rule(cls, rule: str) -> str:
        if rule != "f1":  # a wrong one is told before hours of training, and the default costs no import
            from kit.evaluate.thresholds import parse_rule

            parse_rule(rule)
        return rule


class PseudoSettings(_Settings):
    """A second round of training that also sees test images which an earlier run, of the same folds, is sure of.

    Each fold takes what that run's model of the same fold says: no other has not seen the fold's validation images.
    """

    run: str | None = None  # null: none
    above: float = Field(0.95, gt=0.5, le=1)  # a label from there on is 1
    below: float = Field(0.05, ge=0, lt=0.5)  # and down from there 0


class RuntimeSettings(_Settings):
    """Backend, devices, precision and compiler; `auto` asks the machine (see kit.runtime.devices)."""

    backend: Literal["auto", "tensorflow", "jax"] = "auto"  # auto: $KERAS_BACKEND, else tensorflow
    devices: int | None = Field(None, ge=1)  # how many share each batch; null: all; of one CPU: so many virtual ones
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    xla: Literal["auto", "on", "off"] = "auto"
    steps_per_execution: int | None = Field(None, ge=1)  # steps at most between two looks at the loss; null: by device
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()  # who else is told of every epoch


class Config(Source):
    """Everything a run depends on besides its data."""

    competition: str
    seed: int = Field(0, ge=0)
    folds: int = Field(5, ge=2)
    fold_seed: int | None = Field(None, ge=0)  # of the split into folds; null: seed. Runs to blend share one
    pseudo: PseudoSettings = PseudoSettings()
    data: DataSettings = DataSettings()
    image: ImageSettings = ImageSettings()
    input: InputSettings = InputSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @property
    def split_seed(self) -> int:
        """The seed of the split into folds."""
        return self.seed if self.fold_seed is None else self.fold_seed

    @model_validator(mode="after")
    def _one_correction(self) -> "Config":
        if self.input.balance == "classes" and self.train.loss.weights != "none":
            raise ValueError(
                "input.balance = classes and train.loss.weights both correct the same imbalance: use one of them"
            )
        return self


def config_names() -> list[str]:
    """Names of the configs that come with the kit."""
    return sorted(f.name[:-5] for f in resources.files("kit.configs").iterdir() if f.name.endswith(".yaml"))


def load_config(name: str, overrides: Iterable[str] = ()) -> Config:
    """The config `name` (one of `config_names()`, or the path of a YAML file) with `a.b=value` overrides applied.

    Raises ConfigError for an unknown name or key (with the nearest known ones) and for a value of the wrong kind.
    """
    if name.endswith((".yaml", ".yml")):
        text = _read(Path(name))
    elif name in config_names():
        text = (resources.files("kit.configs") / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigError(f"unknown competition {name!r}{nearest(name, config_names())}")
    overrides = list(overrides)
    config = _validated(_with_overrides(_mapping(text, name), overrides), source=name)
    changed = {override.partition("=")[0] for override in overrides}
    if config.train.phases and (useless := changed & {"train.epochs", "train.learning_rate"}):
        raise ConfigError(
            f"--set {min(useless)} counts for nothing beside train.phases, which have their own: --set train.phases=[]"
        )
    return config


def read_config(path: Path) -> Config:
    """The resolved config in a file that `dump_config` wrote, such as a run's."""
    return _validated(_mapping(_read(path), str(path)), source=str(path))


def dump_config(config: Config) -> str:
    """The config as YAML text that `read_config` and `load_config` take."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from error


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{source} must hold `key: value` lines")
    return value


def _with_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    for override in overrides:
        key, equals, text = override.partition("=")
        if not (key and equals):
            raise ConfigError(f"--set {override}: write it as key=value, for example --set image.size=96")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override}: {parent!r} is a value, not a group of settings")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    return values


def _validated(values: dict[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_explained(e["loc"], e) for e in error.errors()[:3])) from error


def _explained(location: tuple[Any, ...], error: Any) -> str:
    key = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        parents = location[:-1]
        siblings = [".".join([*map(str, parents), name]) for name in _fields_at(parents)]
        return f"unknown setting {key!r}{nearest(key, siblings)}"
    if error["type"] == "missing":
        return f"the setting {key!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}" if key else message


def _fields_at(parents: Iterable[Any]) -> Iterable[str]:
    model: Any = Config
    for parent in parents:  # a step of a list is found by its name, a phase by its number
        field = getattr(model, "model_fields", {}).get(parent)
        model = field.annotation if field else _STEPS.get(parent, next(iter(get_args(model)), model))
    return getattr(model, "model_fields", ())
