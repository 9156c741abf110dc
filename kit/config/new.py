"""A competition of one's own to start from: a file of code and a config, from the templates in `configs/new`."""

import re
from pathlib import Path

from kit import files
from kit.config.load import CONFIGS, config_names
from kit.errors import ConfigError, DataError

LIKE = ("csv", "folders")  # what its raw folder is like; names of the templates
_IN_TEMPLATES = "moles"  # the name that is replaced in them
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def write_competition(name: str, like: str, folder: Path) -> list[Path]:
    """Write NAME.py and NAME.yaml into `folder`; returns their paths.

    Raises ConfigError for a name that no competition can have, or that is one of kit's, and DataError where one of the
    files is there.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: a competition's name has small letters, digits and _, the first a letter")
    if name in config_names():
        raise ConfigError(f"{name!r} is a competition or config of kit's own: choose another name")
    paths = [folder / f"{name}.{ending}" for ending in ("py", "yaml")]
    if present := [path for path in paths if path.exists()]:
        raise DataError(f"{present[0]} is there already: remove it, or choose another name")
    for path in paths:
        template = {".py": f"{like}.py", ".yaml": "settings.yaml"}[path.suffix]
        text = (CONFIGS / "new" / template).read_text(encoding="utf-8")
        title = name.replace("_", " ").capitalize()
        text = text.replace(_IN_TEMPLATES, name).replace(_IN_TEMPLATES.capitalize(), title)
        files.write_text(path, text)
    return paths
