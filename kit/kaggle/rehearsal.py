"""An inference kernel rehearsed here, as Kaggle would run it: what would fail there fails before a submission is spent.

It runs in an environment without kit, network, answers or training images (kit.kaggle.machine): as a commit run, as one
with an empty test set, and as the rerun with other ids, one of whose images cannot be read.
"""

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from kit.errors import ConfigError, SubmissionError, counted
from kit.kaggle import bundle
from kit.kaggle.code import OUTPUTS
from kit.kaggle.machine import Files, Ran, make_python, run_session
from kit.kaggle.models import staged
from kit.kaggle.plan import SubmissionPlan
from kit.kaggle.push import write_bundle
from kit.kaggle.text import visible
from kit.run import Run
from kit.stages.imitation import Pictures, faults_of, imitate, pictures_of
from kit.tables import CASE

log = logging.getLogger(__name__)
RERUN = {"KAGGLE_IS_COMPETITION_RERUN": "1"}
_FEW, _MOST = 3, 64  # cases of the commit run, and of the rerun
_LONGEST = 3600.0  # seconds of a scene, after which it is no use to wait
_GIB = 2**30


@dataclass(frozen=True)
class Scene:
    """A session to rehearse: its name, how many cases are mounted in which layout, and how many are unreadable."""

    name: str
    cases: int
    layout: str
    rerun: bool = False
    unreadable: int = 0


def rehearse(
    plan: SubmissionPlan,
    cases: int | None = None,
    data: Path | None = None,
    script: Path | None = None,
    memory: float | None = None,
    trust: bool = False,
) -> list[str]:
    """Run the kernel of a code submission here; returns what was seen, a line each.

    `cases` is the number of hidden ones (default: as many as the run's test set), to which time and memory are
    extrapolated. Test images are those of `data`, raw files as Kaggle lays them out, or made up. `script` is another
    kernel than kit's own; `memory` in GiB is the session's. Raises SubmissionError with a line for each failure, and
    for a gateway among the data, which is somebody's code, unless `trust` allows it.
    """
    code = plan.code
    if code is None:
        raise SubmissionError("only code submissions are rehearsed")
    plan.validate()
    run = Run(code.run) if code.run else None
    pictures = pictures_of(run, plan.competition, data)
    if pictures.gateway and not trust:
        raise SubmissionError(f"{pictures.gateway} is code that a rehearsal runs: give --trust if it is the host's")
    known, images = _cases_of(run) if run else (0, 1.0)
    if script and not script.is_file():
        raise ConfigError(f"--kernel {script} does not exist")
    most = memory or bundle.MEMORY[plan.accelerator]
    with tempfile.TemporaryDirectory(prefix="kit-rehearsal-") as work:
        folder = Path(work).resolve()
        mounts, source = _sent(replace(plan, accelerator="cpu"), folder / "sent")
        source = script.read_text("utf-8") if script else source
        at_once = 2 * run.config.predict.batch_size if run else 1
        stage = _Stage(plan, pictures, folder, mounts, source, most, at_once, images)
        return stage.play(cases or known or 1000)


@dataclass
class _Stage:
    """The kernel with what it attaches, and where it is run."""

    plan: SubmissionPlan
    pictures: Pictures
    folder: Path
    mounts: dict[str, Files]
    source: str
    memory: float  # GiB
    at_once: int  # images that are in memory together, at most
    images: float = 1.0  # of a case; here each has one

    def play(self, count: int) -> list[str]:
        """Rehearse all scenes for so many hidden cases; raises SubmissionError with what failed."""
        python = make_python(self.folder / "python")
        waits = bool(self.pictures.gateway)  # a server would wait for Kaggle's gateway in a rerun
        scenes = [
            Scene("the commit run", _FEW, "new"),
            *([] if waits else [Scene("a commit run with an empty test set", 0, "old")]),
            Scene("the rerun", min(max(count, _FEW + 1), _MOST), "new", rerun=not waits, unreadable=1),
        ]
        lines: list[str] = []
        failures: list[str] = []
        known: list[str] = []
        ran: list[Ran] = []
        for seed, scene in enumerate(scenes):
            log.info(f"rehearsing {scene.name}: {counted(scene.cases, 'case')}")
            data = self.folder / f"data{seed}"
            data.mkdir()
            ids = imitate(self.plan.competition, self.pictures, data, scene.cases, seed, scene.unreadable)
            this = self._run(python, scene, data)
            failure = self._failure(scene, this, ids, known)
            known += ids
            ran.append(this)
            if failure:
                failures.append(f"{scene.name}: {failure}")
                break  # the next would most likely fail alike
            lines.append(
                f"{scene.name}: {counted(scene.cases, 'case')} in {this.seconds:.0f} s, {_gib(this)} of memory"
            )
        if not failures:
            failures += self._extrapolate(count, scenes, ran, lines)
        if failures:
            raise SubmissionError("the rehearsal failed\n" + "\n".join(failures))
        return lines

    def _run(self, python: Path, scene: Scene, data: Path) -> Ran:
        slug = str(self.plan.competition.slug)
        return run_session(
            python,
            self.folder / "kaggle",
            scene.layout,
            self.source,
            self.mounts,
            (slug, data),
            RERUN if scene.rerun else {},
            self.memory * _GIB,
            min(_LONGEST, self.plan.hours * 3600),
        )

    def _failure(self, scene: Scene, ran: Ran, ids: list[str], known: list[str]) -> str:
        """What is wrong, in a line; empty if nothing is."""
        last = next((line for line in reversed(visible(ran.log).splitlines()) if line.strip()), "it says nothing")
        if ran.internet:
            return f"the internet is used, which is off there: it reaches for {ran.internet[0]}; attach what is needed"
        if ran.stopped == "time":
            return f"too slow: {counted(scene.cases, 'case')} took more than {ran.seconds / 3600:.2g} h here"
        if ran.stopped == "memory" or "MemoryError" in ran.log or ran.code in (-9, 137):
            return f"out of memory: it took {_gib(ran)} of the session's {self.memory:g} GiB"
        if "the weights are missing" in ran.log:
            return last if "the weights are missing" in last else "the weights are missing: they are not attached"
        if ran.code:
            return f"the kernel failed (exit code {ran.code}): {last}"
        output = next((ran.output[name] for name in OUTPUTS if name in ran.output), None)
        if output is None:
            return f"no output: the kernel left no {OUTPUTS[0]}, and Kaggle submits only a version that has one"
        if OUTPUTS[0] not in ran.output:
            return ""
        return faults_of(output, ids, known, self.plan.competition.id_column)

    def _extrapolate(self, count: int, scenes: list[Scene], ran: list[Ran], lines: list[str]) -> list[str]:
        """Add what so many cases would take to `lines`; returns what is too much."""
        few, many = (ran[0], scenes[0].cases), (ran[-1], scenes[-1].cases)
        each = max(0.0, (many[0].seconds - few[0].seconds) / (many[1] - few[1]))
        hours = (few[0].seconds + each * (count * self.images - few[1])) / 3600
        growth = max(0.0, (many[0].memory - few[0].memory) / (many[1] - few[1]))
        at_once = min(int(count * self.images), max(self.at_once, many[1]))
        memory = (max(few[0].memory, many[0].memory) + growth * max(0, at_once - many[1])) / _GIB
        limit = self.plan.training_hours
        most = int((limit * 3600 - few[0].seconds) / each / self.images) if each > 0 else count
        if self.images > 1:
            lines.append(
                f"each case had one image, and has {self.images:.3g} in the test set of the run, which counts below; "
                f"how {self.plan.competition.name} finds them was not rehearsed"
            )
        lines.append(
            f"{counted(count, 'hidden case')} would take {hours:.2f} h on this machine "
            f"({each * self.images:.3f} s a case) of the {limit:g} h that a kernel of {self.plan.hours:g} h has for "
            f"them, and with {at_once} in memory at once about {memory:.1f} of {self.memory:g} GiB"
        )
        if hours > limit:
            return [f"too slow: {lines[-1]}. {most:,} cases fit: fewer folds or views, a smaller network, or a GPU"]
        if memory > self.memory and self.plan.accelerator == "cpu":  # else batches are in the accelerator's memory
            return [f"out of memory: {lines[-1]}. Set a smaller predict.batch_size"]
        return []


def _cases_of(run: Run) -> tuple[int, float]:
    """How many cases a run's test set has, and how many images each has on average."""
    examples = run.examples()
    test = examples[examples["split"] == "test"]
    count = int(test[CASE if CASE in test else "id"].nunique())
    return count, len(test) / count if count else 1.0


def _sent(plan: SubmissionPlan, folder: Path) -> tuple[dict[str, Files], str]:
    """What the kernel of a plan attaches, by owner/name, and its script; nothing is sent."""
    mounts: dict[str, Files] = {}
    plan = staged(plan, "me", folder / "model")
    if plan.code and plan.code.model:
        mounts[plan.code.model] = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    for dataset in write_bundle(plan, folder, "me"):
        ref = bundle.dataset_ref("me", dataset.title)
        mounts[ref] = {path.name: path.read_bytes() for path in dataset.paths}
    return mounts, (folder / "kernel" / "kernel.py").read_text(encoding="utf-8")


def _gib(ran: Ran) -> str:
    return f"{ran.memory / _GIB:.1f} GiB"
