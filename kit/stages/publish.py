"""A run or a blend that is scored -> the files by which a kernel predicts a hidden test set, and which hold no image.

`inference.json` says what to do with the runs beside it; each of these is a file of `kit export`, under an ending that
Kaggle does not unpack.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, FiniteFloat

from kit import extensions, files
from kit.competitions import find_competition
from kit.decisions import AnyDecision, schema_of_decision
from kit.errors import ConfigError, DataError
from kit.predict.packed import ENDING, pack
from kit.run import Run, names_of
from kit.schemas import Schema
from kit.submit.submission import constants
from kit.tasks import find_task

MANIFEST = "inference.json"
_PACKED = ".kit"


class Member(Schema):
    """A run's file, what is in it, and how much it counts."""

    file: str = Field(pattern=r"^run\d{1,3}\.kit$")
    sha256: str
    weight: FiniteFloat


class Manifest(Schema):
    """`inference.json`: runs, whose weighted mean is decided on, and cells of a submission for what has no prediction.

    `decision` is what `decision.json` of the run, or of the blend, holds.
    """

    members: tuple[Member, ...] = Field(min_length=1)
    decision: dict[str, Any]
    constants: dict[str, float | str]

    def decided(self) -> AnyDecision:
        """The decision as its type; ValueError where it is none."""
        return schema_of_decision(self.decision).model_validate(self.decision)


def publish_files(run: Run, folder: Path) -> list[Path]:
    """Write what predicts a hidden test set into `folder`, an empty one; returns the files, the manifest last.

    Raises ConfigError for a blend that cannot be computed image by image, cases of parts and code that was not made
    here, and what `pack` raises.
    """
    weights = members_of(run)
    require_trusted_code(run)
    part = getattr(getattr(run.decision, "cases", None), "part", None)
    if part:
        raise ConfigError(
            f"evaluate.case_part = {part}: of hidden images kit does not know the {part}; score {run} again with "
            "--set evaluate.case_part=null"
        )
    competition = find_competition(run.config.competition, run.config)
    decision, members = run.decision, []
    for n, (member, weight) in enumerate(weights.items()):
        packed, path = folder / f"run{n}{ENDING}", folder / f"run{n}{_PACKED}"
        pack(Run(member), packed)
        packed.rename(path)
        members.append(Member(file=path.name, sha256=files.sha256_of(path), weight=weight))
    manifest = Manifest(
        members=tuple(members),
        decision=decision.as_json(),
        constants=constants(competition, run.examples(), getattr(decision, "sends", "") == "decisions"),
    )
    files.write_json(folder / MANIFEST, manifest.as_json())
    return [*(folder / member.file for member in members), folder / MANIFEST]


def require_trusted_code(run: Run) -> None:
    """Raise ConfigError for code in what a run consists of that was not made here: kernels execute it unasked."""
    for member in members_of(run):
        extensions.require_trusted(Run(member).config.code)


def content_of(run: Run) -> list[list[str]]:
    """What identifies what `publish_files` would write: SHA-256 of the runs' files. DataError where one is gone."""
    runs = [run.decision_path], *(Run(each).files_of_predictor() for each in members_of(run))
    if gone := next((path for paths in runs for path in paths if not path.is_file()), None):
        raise DataError(f"{gone} is not there: a run without its weights cannot predict a hidden test set")
    return [[files.sha256_of(path) for path in paths] for paths in runs]


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder; raises DataError for one that is damaged, and runs that are not those it names."""
    manifest: Manifest = files.read_model(folder / MANIFEST, Manifest, "publish the run again")
    for member in manifest.members:
        path = folder / member.file
        if not path.is_file() or files.sha256_of(path) != member.sha256:
            raise DataError(f"{path} is missing, or not the run that was published: attach the model version again")
    return manifest


def members_of(run: Run) -> Mapping[Path, float]:
    """The folders of the runs that a run consists of, and how much each counts."""
    if not run.is_ensemble:
        return {run.directory: 1.0}
    report = run.ensemble
    again = f"blend them again with `kit ensemble {' '.join(report.runs)} --blend mean --out DIR`"
    if report.weights is None or find_task(run.folds.task).prediction != "probabilities":
        raise ConfigError(f"{run} is a blend ({report.chosen}) that has no weights for new images: {again}")
    runs = [Run(name) for name in report.runs]
    if gone := next((each for each in runs if not each.exists()), None):
        raise DataError(f"{run} is a blend of {gone}, which is not there: restore it, or {again}")
    weights = [report.weights.get(name, 0.0) for name in names_of(runs)]
    return {each.directory: weight for each, weight in zip(runs, weights, strict=True) if weight}
