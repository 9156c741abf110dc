"""All settings, one file per section, and the loader: defaults, then `configs/NAME.yaml`, then `--set a.b=c`.

`settings.py` lists the sections. A key that does not exist is an error.
"""

from kit.config.augment import AugmentSettings, check_augment
from kit.config.data import DataSettings
from kit.config.evaluate import EvaluateSettings, parse_rule
from kit.config.image import Clahe, DicomSettings, ImageSettings, Macenko, Reinhard, SuperResolution
from kit.config.input import InputSettings
from kit.config.load import Overrides, config_names, configs_of, dump_config, load_config, read_config
from kit.config.predict import BoxSettings, PredictSettings
from kit.config.runtime import RuntimeSettings
from kit.config.settings import Config
from kit.config.source import ColumnSettings, Source
from kit.config.train import LossSettings, Optimizer, Phase, TrainSettings

__all__ = [
    "AugmentSettings",
    "BoxSettings",
    "Clahe",
    "ColumnSettings",
    "Config",
    "DataSettings",
    "DicomSettings",
    "EvaluateSettings",
    "ImageSettings",
    "InputSettings",
    "LossSettings",
    "Macenko",
    "Optimizer",
    "Overrides",
    "Phase",
    "PredictSettings",
    "Reinhard",
    "RuntimeSettings",
    "Source",
    "SuperResolution",
    "TrainSettings",
    "check_augment",
    "config_names",
    "configs_of",
    "dump_config",
    "load_config",
    "parse_rule",
    "read_config",
]
