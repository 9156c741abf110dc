"""What a submission consists of: the plan, made from a config and the options of a command."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from kit import extensions, files
from kit.competition import Competition
from kit.competitions import find_competition
from kit.config import Config, RuntimeSettings, dump_config, load_config
from kit.config.load import override
from kit.config.model import AUTO
from kit.errors import ConfigError, SubmissionError
from kit.kaggle import bundle
from kit.kaggle.bundle import Accelerator, Wheel
from kit.run import Run
from kit.stages.ensemble import ensemble
from kit.stages.network import provisional
from kit.stages.publish import content_of, require_trusted_code
from kit.stages.score import score

if TYPE_CHECKING:
    from kit.models.cards import ModelCard
    from kit.runtime.devices import Kind

log = logging.getLogger(__name__)
CODE = "code"  # the folder of code submissions, beside those of files
CODE_HOURS = 9.0  # that most code competitions give a kernel
LICENSE = "Apache 2.0"  # one of Kaggle's names: a private model needs one, too
_KINDS: "dict[Accelerator, Kind]" = {"gpu": "GPU", "tpu": "TPU", "cpu": "CPU"}


@dataclass(frozen=True)
class CodePlan:
    """What a code submission predicts with: a run or a blend (None: a constant), published under a licence.

    `model` and `manifest` say where it is published: the version of a Kaggle Model, and the SHA-256 of its manifest.
    """

    run: Path | None
    license_name: str = LICENSE
    model: str = ""
    manifest: str = ""


@dataclass(frozen=True)
class SubmissionPlan:
    """What a submission consists of; equal plans, with the same code, give the same one.

    `name` is a config's, `config` its file where it is not one of kit's own; `own` are the files in its place, by name,
    where it names code of one's own, and that code. `data` is a dataset with the raw files,
    where the competition has none on Kaggle; `hours` is the longest session. The files `weights` are sent along, and
    `datasets` and Kaggle `models` are attached; `packages` are installed beside those that kit always needs. With
    `from_run`, that finished run is submitted instead; with `code`, a kernel that predicts a hidden test set.
    """

    name: str
    competition: Competition
    settings: tuple[str, ...] = ()
    accelerator: Accelerator = "gpu"
    hours: float = 11.5
    data: str = ""
    config: Path | None = None
    own: tuple[tuple[str, bytes], ...] = ()
    weights: tuple[Path, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    from_run: Path | None = None
    code: CodePlan | None = None

    @property
    def is_local(self) -> bool:
        """Whether nothing of this is on Kaggle, so that it is run and scored on this machine."""
        return self.from_run is None and not self.competition.slug and not self.data

    @property
    def is_constant(self) -> bool:
        """Whether a kernel is submitted that predicts with no run."""
        return self.code is not None and self.code.run is None

    @property
    def jobs_folder(self) -> Path:
        """Where the submissions of a config are kept: beside its runs."""
        folder = Path("runs", self.name, "kaggle")
        return folder / CODE if self.code else folder

    @property
    def title(self) -> str:
        """The title of the kernel; raises ConfigError where Kaggle would not take it."""
        return bundle.inference_title(self.name) if self.code else bundle.kernel_title(self.name)

    @property
    def session_seconds(self) -> int:
        """The longest session, in seconds."""
        return int(self.hours * 3600)

    @property
    def training_hours(self) -> float:
        """How long the kernel may train: the session less a tenth (at least 15 minutes) for predicting and writing."""
        return round(self.hours - max(0.25, self.hours / 10), 4)

    @property
    def wheel(self) -> Wheel:
        """Kit, with all that the kernel needs of this plan."""
        return bundle.make_wheel(None, self.own) if self.own else bundle.make_wheel(self.config)

    @property
    def submission(self) -> Path:
        """The finished submission of `from_run`; raises SubmissionError where there is none."""
        path = Run(self.from_run or "").submission_path
        if not path.exists():
            raise SubmissionError(f"{path} does not exist: write it with `kit run` or `kit submission write`")
        return path

    def validate(self) -> None:
        """Raise ConfigError for a run of another competition, and a kernel that could not succeed or be named so."""
        if self.from_run:
            run = Run(self.from_run)
            if run.exists() and run.config.competition_name != self.competition.name:
                raise ConfigError(f"{run} is a run of {run.config.competition_name}, not of {self.competition.name}")
            return
        _ = self.title, bundle.records_title(self.name)
        longest = bundle.HOURS[self.accelerator]
        if not 0.25 < self.hours <= longest:
            limits = f"a session with {self.accelerator} takes more than 0.25 and up to {longest:g} hours"
            raise ConfigError(f"{limits}, not {self.hours:g}")
        if self.code:
            return self._validate_code(self.code)
        if not self.competition.slug and not self.data:
            raise ConfigError(f"a kernel would not find the raw files of {self.name}: give --dataset OWNER/NAME")
        if self.data and self.data.count("/") != 1:
            raise ConfigError(f"--dataset {self.data}: write it as OWNER/NAME")

    def _validate_code(self, code: CodePlan) -> None:
        if not self.competition.leaderboard:
            raise ConfigError(f"{self.name} has no leaderboard on Kaggle: there is nothing to submit a kernel to")
        if code.run and (other := Run(code.run).config.competition_name) != self.competition.name:
            raise ConfigError(f"{code.run} is a run of {other}, not of {self.competition.name}")

    def fingerprint(self) -> str:
        """SHA-256 of the whole plan, including kit's code and the files; of a code submission, without kit's code.

        A newer kit is no reason to submit the same weights once more.
        """
        if self.code:
            content = content_of(Run(self.code.run)) if self.code.run else []
            return files.fingerprint([self.name, [*self.settings], self.accelerator, self.hours, CODE, content])
        if self.from_run:
            return files.fingerprint([self.name, files.sha256_of(self.submission)])
        weights = [files.sha256_of(path) for path in self.weights]
        extras = [list(self.packages), list(self.models)]
        options = [self.name, *self.settings, self.accelerator, self.hours, self.data, weights, extras]
        return files.fingerprint([*options, self.wheel.sha256])


def plan_submission(
    competition: str,
    settings: Sequence[str] = (),
    accelerator: Accelerator = "gpu",
    hours: float | None = None,
    data: str = "",
    from_run: Path | None = None,
    code: CodePlan | None = None,
) -> SubmissionPlan:
    """The plan of a submission of a config, by its name or the path of its file; without weights (`with_weights`).

    `hours` is by default half an hour less than Kaggle's longest session; of a code submission, what most competitions
    give one.
    """
    config = load_config(competition, settings)
    path = Path(competition) if competition.endswith((".yaml", ".yml", ".py")) else None
    name = path.stem if path else competition
    return SubmissionPlan(
        name=name,
        competition=find_competition(config.competition, config),
        settings=_with_digests(settings, config),
        accelerator=accelerator,
        hours=(CODE_HOURS if code else bundle.HOURS[accelerator] - 0.5) if hours is None else hours,
        data=data,
        config=path,
        own=_own_files(name, load_config(competition) if path else None, config),
        from_run=from_run,
        code=code,
    )


def _with_digests(settings: Sequence[str], config: Config) -> tuple[str, ...]:
    """The settings with names of code as kit has them: on another machine their files are in the wheel."""
    every, texts = config.model_dump(), list[str]()
    for text in settings:
        path = text.partition("=")[0].split(".")
        value = reduce(lambda values, key: values.get(key, {}) if isinstance(values, dict) else {}, path, every)
        has_code = any(extensions.names_in(value, tuple(path)))
        texts.append(override(".".join(path), value) if has_code else text)
    return tuple(texts)


def _own_files(name: str, written: Config | None, config: Config) -> tuple[tuple[str, bytes], ...]:
    """The code that a config needs, and the config as it is `written`, if in a file: names beside kit's configs."""
    sources = extensions.sources(config.code)
    if not sources:
        return ()
    extensions.remember(config.code)  # for runs that come back from there
    settings = {f"{name}.yaml": dump_config(written).encode()} if written else {}
    code = {f"{extensions.CODE}/{source.file}": source.content for source in sources}
    return tuple(sorted({**settings, **code}.items()))


def code_plan(
    competition: str,
    settings: Sequence[str] = (),
    accelerator: Accelerator = "gpu",
    hours: float | None = None,
    run: Path | None = None,
    constant: bool = False,
    blend: Sequence[Path] | None = None,
    license_name: str = LICENSE,
    trust: bool = False,
) -> SubmissionPlan:
    """The plan of a code submission: of a scored run or blend, the mean of several runs, or a `constant`.

    A constant needs no accelerator. Several runs are blended beside the submissions of the config. `trust`: code that
    the runs hold may be executed. Raises ConfigError where none, or more than one, of these is given.
    """
    if sum((run is not None, constant, bool(blend))) != 1:
        raise ConfigError("a code submission predicts with one of --from-run RUN, --blend RUN RUN and --constant")
    plan = plan_submission(competition, settings, "cpu" if constant else accelerator, hours, code=CodePlan(None))
    if blend:
        runs = [Run(each, trust) for each in blend]
        whole = Run(plan.jobs_folder / f"blend-{files.fingerprint([str(each) for each in runs])[:8]}")
        ensemble(runs, whole, "mean")
        run = whole.directory
    if run:
        score(Run(run, trust))
        require_trusted_code(Run(run))
    return replace(plan, code=CodePlan(run, license_name))


def by_code(plan: SubmissionPlan, run: Path | None, license_name: str = LICENSE) -> SubmissionPlan:
    """The plan that submits a kernel which predicts with a run, in the place of files."""
    hours = min(plan.hours, CODE_HOURS)
    return replace(plan, from_run=None, code=CodePlan(run, license_name), hours=hours, weights=(), data="", packages=())


def with_weights(plan: SubmissionPlan, paths: Sequence[Path] = ()) -> SubmissionPlan:
    """The plan with the weights that its kernel needs: `paths`, files found here, packages, and what it attaches.

    Where the kernel chooses the network (`auto`), a larger one's weights are sent if they are here. Loads Keras.
    Raises ConfigError for weights, and for other files and folders of this machine, that a kernel cannot have.
    """
    config = load_config(str(plan.config or plan.name), plan.settings)
    here = {"pseudo.run": config.pseudo.run, "data.exclude": config.data.exclude}
    for setting, value in {**here, "train.relabel.run": config.train.relabel.run}.items():
        if value:
            raise ConfigError(f"{setting} = {value} is on this machine, a kernel does not have it: leave it out")
    for kind, name in (("competition", config.competition), ("model", config.model.name), ("metric", config.metric)):
        if name in extensions.installed(kind):
            raise ConfigError(f"the {kind} {name} is of a package, which a kernel does not have: give a file, FILE.py")
    from kit.runtime import devices

    arguments, is_open = config.model.arguments, config.model.name == AUTO and config.model.weights is None
    config = provisional(config)
    if is_open and "backbone" not in arguments:
        return replace(plan, weights=tuple(_weights_for_auto(config, plan.accelerator, paths)))
    devices.set_up(RuntimeSettings())
    from kit.models import registry, weights

    found_here: Sequence[Path] = paths
    datasets: list[str] = []
    models: list[str] = []
    packages: list[str] = []
    for card in registry.weights_cards(config.model.name, config.model.arguments):
        source = card.weights if config.model.weights is None else config.model.weights
        if (model := _kaggle_model(card)) and source == card.weights:
            models.append(model)
            continue
        found_here = weights.to_send(source, card.name, card.published, found_here)
        datasets += ["/".join(source.removeprefix("kaggle:").split("/")[:2])] if source.startswith("kaggle:") else []
        packages += weights.packages_to_send(source, card.published)
    return replace(
        plan, weights=tuple(found_here), datasets=tuple(datasets), models=tuple(models), packages=tuple(packages)
    )


def _weights_for_auto(config: Config, accelerator: Accelerator, paths: Sequence[Path]) -> list[Path]:
    """The files of weights for a kernel that chooses its network itself: `paths`, and that of the one it would choose.

    Where the latter is not here, the kernel takes the network whose weights come with kit.
    """
    from kit.models import auto, weights

    files_to_send = weights.to_send("none", AUTO, None, paths)
    name, file = auto.to_send(_KINDS[accelerator], config.image.size)
    if file and file.name not in {path.name for path in paths}:
        return [*files_to_send, file]
    if name != auto.ALWAYS and not file and not paths:
        log.info(f"model.name = auto: the kernel will take {auto.ALWAYS}; {auto.missing_hint(name)}")
    return files_to_send


def _kaggle_model(card: "ModelCard") -> str | None:
    """The Kaggle Model that holds the weights of a preset of KerasHub; None for everything else."""
    if not card.name.startswith("hub/"):
        return None
    from kit.models.keras_hub_presets import kaggle_model

    return kaggle_model(card.name.removeprefix("hub/"))
