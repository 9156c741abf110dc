"""A mounted test set -> a submission: what an inference kernel does, in its commit run and when it is rerun."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit import files
from kit.competitions import find_competition
from kit.config import Config, load_config
from kit.errors import ConfigError, DataError
from kit.run import SUBMISSION
from kit.runtime import devices
from kit.runtime.session import find_mount
from kit.stages.gateway import RERUN, serve
from kit.stages.hidden import GATEWAY, Models, Outcome, filled, hidden_cases, predicted
from kit.submit.submission import constants

_KINDS = {"gpu": "GPU", "tpu": "TPU"}


def submit_hidden(
    name: str, settings: Sequence[str], weights: Path | None, output: Path, seconds: float, accelerator: str
) -> dict[str, Any]:
    """Write `submission.csv` of the mounted test set of a config's competition into `output`; returns how it went.

    `weights` is the folder that `publish_files` wrote, None for a constant. Cases that are not reached within so many
    `seconds` get a constant. Raises ConfigError where the session has another accelerator, before anything else, and
    DataError where the competition is not attached. Where its files hold a gateway, cases come from there.
    """
    begun = time.monotonic()
    models = Models(weights) if weights else None
    config = named = load_config(name, settings)
    if models:
        config = models.config
        require_accelerator(config, accelerator)
    competition = find_competition(named.competition, config)  # as it is submitted: the run's may know no slug yet
    root = find_mount(str(competition.slug))
    if root is None:
        raise DataError(f"{competition.slug} is not attached to this kernel")
    cells = models.manifest.constants if models else constants(competition)
    outcome = Outcome()
    if (root / GATEWAY).is_dir():
        serve(competition, root, models, cells, begun + seconds, outcome)
    else:
        sample, cases = hidden_cases(competition, root, config)
        outcome.cases = len(sample)
        table = predicted(models, cases, begun + seconds, outcome)
        submission = filled(competition, sample, table, cells)
        files.write_text(output / SUBMISSION, submission.to_csv(index=False))
    outcome.say()
    summary = {"cases": outcome.cases, "unreadable": len(outcome.unreadable), "late": outcome.late}
    return {**summary, "rerun": bool(os.environ.get(RERUN)), "seconds": round(time.monotonic() - begun, 1)}


def require_accelerator(config: Config, accelerator: str) -> None:
    """Raise ConfigError unless this session has it: Kaggle may quietly give another machine."""
    expected = _KINDS.get(accelerator)
    kind = devices.set_up(config.runtime).kind
    if expected and kind != expected:
        raise ConfigError(
            f"this session has a {kind}, not the {expected} that was asked for: push again, or with --accelerator cpu"
        )
