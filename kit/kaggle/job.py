"""A submission as a job: what it is made of, and the folder with all that is known of it.

`state.json` keeps every step's result. So the same command goes on after Ctrl-C, a crash or a lost reply, and neither
pushes nor submits twice: what a lost reply hid is looked up by the job's id, which stands in the kernel's source and in
the submission's description.
"""

import datetime
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit import files
from kit.competition import Competition
from kit.errors import ConfigError, KitError, SubmissionError
from kit.kaggle import bundle
from kit.kaggle.bundle import Accelerator
from kit.kaggle.http import KaggleError


@dataclass(frozen=True)
class Plan:
    """What a submission is made of; equal plans, of the same code, make the same one.

    `name` is a config's, `config` its file where it is not the kit's own. `data` is a dataset with the raw files, where
    the competition names none; `hours` is the longest session. The files `weights` go along, and `datasets` are
    attached. With `from_run`, that finished run is sent instead.
    """

    name: str
    competition: Competition
    settings: tuple[str, ...] = ()
    accelerator: Accelerator = "gpu"
    hours: float = 11.5
    data: str = ""
    config: Path | None = None
    weights: tuple[Path, ...] = ()
    datasets: tuple[str, ...] = ()
    from_run: Path | None = None

    @property
    def training_hours(self) -> float:
        """What the kernel may train: the session less a tenth (a quarter of an hour at least) to predict and write."""
        return round(self.hours - max(0.25, self.hours / 10), 4)

    def validate(self) -> None:
        """Raise ConfigError for a kernel that could not end well."""
        longest = bundle.HOURS[self.accelerator]
        if not 0.25 < self.hours <= longest:
            what = f"a session with {self.accelerator} takes more than 0.25 and up to {longest:g} hours"
            raise ConfigError(f"{what}, not {self.hours:g}")
        if not self.competition.slug and not self.data:
            raise ConfigError(f"where would a kernel find the raw files of {self.name}? Give --dataset OWNER/NAME")
        if self.data and self.data.count("/") != 1:
            raise ConfigError(f"--dataset {self.data}: write it as OWNER/NAME")

    @property
    def submission(self) -> Path:
        """The finished submission of `from_run`."""
        path = Path(self.from_run or "") / "submission.csv"
        if not path.exists():
            raise SubmissionError(f"{path} does not exist: `kit run` or `kit submission write` makes it")
        return path

    def fingerprint(self) -> str:
        """SHA-256 of it all, the kit's code and the files included."""
        sums = [files.sha256_of(path) for path in self.weights]
        made_of = [self.name, *self.settings, self.accelerator, self.hours, self.data, sums]
        if self.from_run:
            return files.fingerprint([self.name, files.sha256_of(self.submission)])
        return files.fingerprint([*made_of, bundle.make_wheel(self.config).sha256])


@dataclass(frozen=True)
class Job:
    """One submission under way: its plan, its folder, whom to tell, and how to wait (seconds)."""

    plan: Plan
    folder: Path
    say: Callable[[str], None] = print
    sleep: Callable[[float], None] = field(default=time.sleep)

    @property
    def state(self) -> dict[str, Any]:
        """What is known so far."""
        return dict(files.read_json(self.folder / "state.json"))

    @property
    def run_id(self) -> str:
        """The name by which it is found again among kernels and submissions."""
        return self.folder.name

    def keep(self, **values: Any) -> None:
        """Remember."""
        files.write_json(self.folder / "state.json", {**self.state, **values})

    def fail(self, error: KitError) -> KitError:
        """Remember that this job comes to nothing, whatever is tried; returns `error`, to be raised."""
        self.keep(failed=str(error))
        return error


def open_job(plan: Plan, parent: Path, again: bool = False, say: Callable[[str], None] = print, **more: Any) -> Job:
    """The job in `parent` to go on with, or a new one.

    That is the last one of the same plan (`again`: if it is unfinished), else one whose kernel was pushed and whose end
    has not come (unless `again`). Raises KaggleError when the same plan has failed before (unless `again`).
    """
    jobs, wanted = _jobs(plan, parent, say, **more), plan.fingerprint()
    if same := next((job for job in jobs if job.state["plan"] == wanted), None):
        ended = {"failed", "done"} & set(same.state)
        if not ended or ("done" in ended and not again):
            return same
        if not again:
            raise KaggleError(
                f"{same.run_id} failed with the same code and settings: {same.state['failed']}\n"
                "Change what was wrong, or try the same with --again"
            )
    elif jobs and not again and not plan.from_run:
        last = jobs[0]
        if last.state.get("push_begun") and not {"failed", "done"} & set(last.state):
            say(f"goes on with {last.run_id}, pushed from other code or settings; --again leaves it and begins anew")
            return last
    folder = parent / f"kit-{secrets.token_hex(4)}"
    now = datetime.datetime.now(datetime.UTC).isoformat()
    files.write_json(folder / "state.json", {"begun": now, "plan": wanted, "from_run": bool(plan.from_run)})
    return Job(plan, folder, say, **more)


def last_push(plan: Plan, parent: Path) -> Job:
    """The job whose kernel was pushed last; raises ConfigError where there is none."""
    job = next((job for job in _jobs(plan, parent) if "version" in job.state), None)
    if job is None:
        raise ConfigError(f"nothing of {plan.name} was pushed from this folder yet: kit kaggle push {plan.name}")
    return job


@contextmanager
def opened(plan: Plan, parent: Path, again: bool = False, **more: Any) -> Iterator[Job]:
    """`open_job`, held for this process: two commands never work at one submission."""
    parent.mkdir(parents=True, exist_ok=True)
    with files.locked(parent):
        yield open_job(plan, parent, again, **more)


def _jobs(plan: Plan, parent: Path, say: Callable[[str], None] = print, **more: Any) -> list[Job]:
    """The jobs of pushed kernels, or (`plan.from_run`) of local runs, the newest first."""
    jobs = [Job(plan, path.parent, say, **more) for path in parent.glob("kit-*/state.json")]
    kind = [job for job in jobs if job.state["from_run"] == bool(plan.from_run)]
    return sorted(kind, key=lambda job: str(job.state["begun"]), reverse=True)
