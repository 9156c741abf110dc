"""Competitions that send their cases one by one: kit's prediction as the server that their `kaggle_evaluation/` asks.

That package comes with the competition's files. Its gateway sends a path (of an image, or a folder of a series) or a
table with ids at a time, in random order, and takes a table of as many rows. In the commit run the local gateway does
so with the public files; in the rerun another container does, and it writes the submission.
"""

import importlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from kit.competition import Competition
from kit.data.table.listing import list_folder
from kit.errors import DataError
from kit.stages.hidden import GATEWAY, Cases, Models, Outcome, filled, images_of
from kit.submit.submission import constants

log = logging.getLogger(__name__)
RERUN = "KAGGLE_IS_COMPETITION_RERUN"  # set where the test set is the hidden one
SHARED = Path(os.environ.get("KIT_KAGGLE_ROOT", "/kaggle"), "shared")  # where a gateway puts what it sends


def serve(
    competition: Competition,
    root: Path,
    models: Models | None,
    cells: Mapping[str, Any],
    deadline: float,
    outcome: Outcome,
) -> None:
    """Answer the gateway of a competition mounted at `root`: until it has all answers (commit run), or for good.

    The server starts before any network is loaded, as a gateway waits for it only 15 minutes. After the `deadline`
    (of `time.monotonic`), and for what cannot be read, answers are constants. Raises DataError for a package without
    one inference server.
    """
    columns = [competition.id_column, *constants(competition)]

    def predict(*batch: Any) -> Any:  # its name is the endpoint's
        cases = cases_of(competition, root, batch)
        sample = pd.DataFrame({competition.id_column: list(cases)}).reindex(columns=columns)
        outcome.cases += len(cases)
        table = None
        if models is not None and time.monotonic() > deadline:
            outcome.late += len(cases)
        elif models is not None:
            table, unreadable = models.predict(cases)
            outcome.unreadable |= unreadable
        _remove_shared(batch)
        return _as_asked(filled(competition, sample, table, cells))

    server = _server_class(root)(predict)
    if os.environ.get(RERUN):
        log.info("answering the gateway, which writes the submission")
        server.serve()
    else:
        server.run_local_gateway()


def cases_of(competition: Competition, root: Path, batch: tuple[Any, ...]) -> Cases:
    """The cases of what a gateway sent: id -> images. Raises DataError for what holds neither a path nor ids."""
    for part in batch:
        if isinstance(part, str | os.PathLike):
            path = Path(part)
            if path.is_dir():
                return {path.name: [path / name for name in list_folder(path).images["path"]]}
            return {path.stem: [path]}
        table = part.to_pandas() if hasattr(part, "to_pandas") else part
        if isinstance(table, pd.DataFrame) and competition.id_column in table:
            images = {**images_of(root), **(images_of(SHARED) if SHARED.is_dir() else {})}
            ids = table[competition.id_column].astype(str)
            return {name: [images[name]] if name in images else [] for name in ids}
    kinds = ", ".join(type(part).__name__ for part in batch)
    raise DataError(f"the gateway sent {kinds or 'nothing'}: neither a path nor a table with {competition.id_column}")


def _server_class(root: Path) -> Any:
    """The class of the competition's inference server."""
    modules = sorted((root / GATEWAY).glob("*_inference_server.py"))
    sys.path.insert(0, str(root))
    for module in (importlib.import_module(f"{GATEWAY}.{path.stem}") for path in modules):
        for name, value in vars(module).items():
            if name.endswith("InferenceServer") and getattr(value, "__module__", "") == module.__name__:
                return value
    raise DataError(f"{root / GATEWAY} has no class ...InferenceServer in a file ..._inference_server.py")


def _as_asked(table: pd.DataFrame) -> Any:
    """The table as gateways like it: of Polars, where that is installed."""
    return importlib.import_module("polars").DataFrame(table.to_dict("list")) if find_spec("polars") else table


def _remove_shared(batch: tuple[Any, ...]) -> None:
    """Remove what has been answered from the shared folder, whose disk is small."""
    for part in batch:
        if isinstance(part, str | os.PathLike) and Path(part).is_relative_to(SHARED):
            shutil.rmtree(part, ignore_errors=True)
