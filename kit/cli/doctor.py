"""Show versions, devices, memory, mounts, missing packages and the Kaggle login."""

import argparse
import json

from kit import log
from kit.cli._arguments import add_settings
from kit.errors import ConfigError

EXAMPLE = "kit doctor"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit doctor`."""
    parser.add_argument("competition", nargs="?", metavar="COMP", help="with the runtime settings of its config")
    add_settings(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit doctor`."""
    from kit.config import RuntimeSettings, load_config
    from kit.runtime import devices, session

    name = arguments.competition
    settings = load_config(name, arguments.set).runtime if name else RuntimeSettings()
    with log.quiet("kit.runtime.devices"):  # the output is JSON, and says it too
        device = devices.set_up(settings)
    facts = {
        **devices.environment(device),
        "input": "tf.data" if devices.has_tensorflow() else "threads: TensorFlow is not installed",
        "session_hours_left": session.session_hours_left(),
        "kaggle_mount": str(session.KAGGLE_INPUT) if session.KAGGLE_INPUT.is_dir() else None,
        "kaggle_login": session.kaggle_login(),
        "missing": devices.missing_packages(device.backend),
        "hints": session.hints(),
    }
    print(json.dumps(facts, indent=1))
    if facts["missing"]:
        raise ConfigError(f"required packages are not installed: {', '.join(facts['missing'])}")
