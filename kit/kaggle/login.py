"""Logging in to Kaggle through its own client, and saying which login was refused."""

import contextlib
import io
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kit.kaggle.http import CLIENT_NEEDED, KaggleError, refused_login
from kit.runtime.session import LOGIN, logins


def require_client() -> None:
    """Raise KaggleError where Kaggle's client is not installed."""
    if not (find_spec("kaggle") and find_spec("kagglesdk")):
        raise KaggleError(CLIENT_NEEDED)


def logged_in() -> Any:
    """Kaggle's own client (KaggleApi), logged in; raises KaggleError, naming the file or variable that was refused."""
    _check_logins()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints a page of help where there is no login
            try:
                from kaggle.api.kaggle_api_extended import KaggleApi
            except SystemExit:  # up to 2.2.3
                KaggleApi = sys.modules["kaggle.api.kaggle_api_extended"].KaggleApi
            api = KaggleApi()
            api.authenticate()
    except ImportError as error:
        raise KaggleError(f"{CLIENT_NEEDED} ({error})", 401) from error
    except SystemExit as error:
        if logins():
            raise KaggleError(f"Kaggle rejected the login{refused_login()}", 401) from error
        raise KaggleError(f"not logged in to Kaggle: {LOGIN}", 401) from error
    if _has_token() and api.config_values.get("auth_method") != "ACCESS_TOKEN":
        # The client fell back to a key, but would go on sending the token that was refused.
        raise KaggleError(f"Kaggle rejected the login{refused_login()}", 401)
    return api


def _has_token() -> bool:
    places = logins()
    return bool(places) and ("access_token" in places[0] or places[0] == "$KAGGLE_API_TOKEN")


def _check_logins() -> None:
    """Raise KaggleError for a login that cannot be one: an empty file, a token with blanks, a key without a user."""
    for place in logins()[:1]:
        value = os.environ.get(place[1:], "") if place.startswith("$") else place
        path = Path(value) if _is_file(value) else None
        try:
            text = path.read_text(encoding="utf-8").strip() if path else value.strip()
            if path and path.name == "kaggle.json":
                valid = set(json.loads(text)) >= {"username", "key"}
            elif path and path.name == "credentials.json":
                valid = isinstance(json.loads(text), dict)
            else:
                valid = text.isascii() and text.isprintable() and bool(text) and " " not in text
        except (OSError, ValueError, TypeError):
            valid = False
        if not valid:
            where = f"{place} (the file {path})" if path and place.startswith("$") else place
            raise KaggleError(f"{where} holds no Kaggle token or key: {LOGIN}", 401)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a token that is too long for a name
        return False
