"""The commands that talk to Kaggle: `kit submit`, `kit kaggle ...`, `kit data fetch`. Parse, call, print. No logic."""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kit.kaggle.job import Job, Plan

Run = Callable[[argparse.Namespace], int]


def add_commands(commands: Any, command: Callable[..., Any], settings: Callable[[Any], None], run: Run) -> None:
    """Add them to the parser `commands`; `run` is `kit run`, for a competition that Kaggle does not have."""

    def sending(under: Any, name: str, call: Callable[..., Any], text: str, example: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = command(under, name, call, text, example)
        settings(made)
        made.add_argument("--accelerator", choices=["gpu", "tpu", "cpu"], default="gpu", help="default: gpu (2 x T4)")
        made.add_argument("--hours", type=float, metavar="H", help="the longest session (default: 11.5, on a TPU 8.5)")
        made.add_argument(
            "--dataset", default="", metavar="OWNER/NAME", help="with the raw files, where COMP names none on Kaggle"
        )
        made.add_argument(
            "--weights",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="a file of weights the kernel needs; may be repeated",
        )
        return made

    def going_on(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument(
            "--again",
            action="store_true",
            help="begin anew, though the same is done or has failed",
        )
        made.add_argument("--dry-run", action="store_true", help="print the requests; needs no login and sends nothing")
        return made

    text = "from here to a score: push a kernel, wait, fetch, check, submit once; the same command goes on"
    made = going_on(sending(commands, "submit", _submit, text, "kit submit pcam"))
    made.add_argument("--from-run", type=Path, metavar="RUN", help="send a finished local run's submission instead")
    made.add_argument("--data", type=Path, metavar="DIR", help="raw files of a COMP that is scored here, not on Kaggle")
    made.add_argument("--ledger", type=Path, default=Path("submissions.csv"), metavar="F.csv", help="what was sent")
    made.set_defaults(run_here=run)

    under = commands.add_parser("kaggle", help="kernels and their datasets, step by step").add_subparsers(
        required=True, metavar="VERB"
    )
    text = "write what would be sent into a folder: wheel, weights, kernel"
    made = sending(under, "bundle", _bundle, text, "kit kaggle bundle pcam --out bundle")
    made.add_argument("--out", type=Path, required=True, metavar="DIR")
    text = "publish built records as a private dataset: kernels attach it and start at once"
    made = command(under, "records", _records, text, "kit kaggle records pcam --records records/pcam")
    settings(made)
    made.add_argument("--records", type=Path, required=True, metavar="DIR")
    going_on(sending(under, "push", _push, "push the kernel and leave it running", "kit kaggle push pcam"))
    for name, call, text in (
        ("status", _status, "what the kernel pushed last is doing"),
        ("logs", _logs, "the log of the kernel pushed last"),
        ("output", _output, "the files that the kernel pushed last has left"),
    ):
        made = command(under, name, call, text, f"kit kaggle {name} pcam")
        settings(made)
        if name == "output":
            made.add_argument("--out", type=Path, required=True, metavar="DIR")

    under = commands.add_parser("data", help="a competition's raw files").add_subparsers(required=True, metavar="VERB")
    text = "download a competition's files, check and unpack them, and look at every image"
    made = command(under, "fetch", _fetch, text, "kit data fetch pcam --out data/pcam")
    settings(made)
    made.add_argument("--out", type=Path, metavar="DIR", help="default: data/COMP")
    made.add_argument("--max-gib", type=float, metavar="G", help="what it may become, unpacked (default: 100)")
    made.add_argument("--no-check", action="store_true", help="do not look at the images")


def _submit(given: argparse.Namespace) -> int:
    from kit.evaluate import text
    from kit.kaggle import send

    plan = _plan(given)
    if plan.from_run is None and not plan.competition.slug and not plan.data:
        print(f"{plan.competition.name} is not on Kaggle: it is run and scored here")
        if given.dry_run:
            return 0
        here = {"run": None, "records": None, "max_hours": given.hours}
        return int(given.run_here(argparse.Namespace(**{**vars(given), **here})))
    if given.data:
        raise ConfigError(f"--data is for what is scored here; a kernel of {plan.name} has its raw files from Kaggle")
    if plan.from_run:
        scores = _scored(plan.from_run)
        if not plan.competition.leaderboard:
            print(f"{text.as_text(*scores)}\n{plan.competition.name} has no leaderboard: there is nothing to send")
            return 0
    else:
        plan = _with_weights(plan, given)
    if given.dry_run:
        return _rehearse(plan)
    from kit.kaggle.client import Kaggle

    job = send.submit(plan, _jobs(plan), Kaggle(), given.ledger, given.again, say=_say)
    scores = _scored(Path(job.state["run"]))
    print(text.as_text(*scores))
    if not plan.competition.leaderboard:
        print(f"{plan.competition.name} takes no submission from kit; predictions and scores are in {job.folder}")
        return 0
    public, private = (_number(job.state[board]) for board in ("public", "private"))
    print(
        f"\n{job.run_id} on the leaderboard: public {public}, private {private}; out of fold {scores[0]['value']:.4f}"
    )
    print(f"written down in {given.ledger} (kit ledger); all of it is in {job.folder}")
    return 0


def _bundle(given: argparse.Namespace) -> None:
    from kit.kaggle import send
    from kit.kaggle.bundle import OWNER

    if given.out.exists() and any(given.out.iterdir()) and not (given.out / "kernel/kernel-metadata.json").exists():
        raise ConfigError(f"{given.out} is not empty, and no earlier bundle: give another --out")
    send.make_bundle(_with_weights(_plan(given), given), given.out, OWNER)
    for path in sorted(given.out.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>12,}  {path}")
    print(
        f"`kit kaggle push {given.competition}` sends the same. By hand: replace {OWNER} in the two kinds of metadata."
    )


def _records(given: argparse.Namespace) -> None:
    from kit.kaggle import bundle, send
    from kit.kaggle.client import Kaggle

    plan, kaggle = _plan(given), Kaggle()
    with tempfile.TemporaryDirectory(dir=given.records.absolute().parent, prefix=".part-") as folder:
        dataset = bundle.records_dataset(Path(folder), plan.name, given.records)
        ref = send.ensure_dataset(kaggle, dataset, _say)
    print(f"ready: https://www.kaggle.com/datasets/{ref}; kernels of {plan.name} attach it from now on")


def _push(given: argparse.Namespace) -> int:
    from kit.kaggle import send
    from kit.kaggle.job import opened

    plan = _with_weights(_plan(given), given)
    if given.dry_run:
        return _rehearse(plan)
    from kit.kaggle.client import Kaggle

    kaggle = Kaggle()
    with opened(plan, _jobs(plan), given.again, say=_say) as job:
        send.push(job, kaggle)
    print(
        f"{send.kernel_page(job)}: version {job.state['version']}; `kit submit {given.competition}` goes on from here"
    )
    return 0


def _status(given: argparse.Namespace) -> None:
    from kit.kaggle import send
    from kit.kaggle.client import Kaggle, KaggleError

    job = _last_push(given)
    state, why = Kaggle().kernel_state(job.state["kernel"], job.state["version"])
    if state in send.FAILED:  # it is under way no longer, and the next push is another
        job.fail(KaggleError(why or state))
    print(
        f"{send.kernel_page(job)} version {job.state['version']}: {state.replace('_', ' ')}{f' ({why})' if why else ''}"
    )


def _logs(given: argparse.Namespace) -> None:
    from kit.kaggle import send
    from kit.kaggle.client import Kaggle

    job = _last_push(given)
    log = Kaggle().kernel_output(job.state["kernel"], job.state["version"], job.folder, lambda name: False)
    print(send.log_text(log) or "no log yet: Kaggle gives it when the kernel has ended")


def _output(given: argparse.Namespace) -> None:
    from kit.files import PART
    from kit.kaggle import send
    from kit.kaggle.client import Kaggle

    if given.out.exists():
        raise ConfigError(f"{given.out} is there already: the files of two versions would be mixed; give another --out")
    job, kaggle = _last_push(given), Kaggle()
    ref, version = job.state["kernel"], job.state["version"]
    if (state := kaggle.kernel_state(ref, version)[0]) not in {"complete", *send.FAILED}:
        raise ConfigError(f"version {version} of {ref} is {state}: there is no output yet")
    part = given.out.absolute().with_name(f"{PART}{given.out.name}-{ref.split('/')[1]}-v{version}")
    part.mkdir(parents=True, exist_ok=True)
    kaggle.kernel_output(ref, version, part)
    part.rename(given.out)
    print(f"{sum(path.is_file() for path in given.out.rglob('*'))} files: {given.out}")


def _fetch(given: argparse.Namespace) -> None:
    from kit import pipeline
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.data.table.check import as_text
    from kit.kaggle.client import Kaggle
    from kit.kaggle.fetch import MAX_GIB, fetch_data

    config = load_config(given.competition, given.set)
    competition = find_competition(config.competition, config)
    out = given.out or Path("data", competition.name)
    fetch_data(competition, out, Kaggle, MAX_GIB if given.max_gib is None else given.max_gib, _say)
    if not given.no_check:
        print(as_text(pipeline.check(config, out)))
    print(f"kit run {given.competition} --data {out}")


def _plan(given: argparse.Namespace) -> "Plan":
    """What is asked for, of a command that sends nothing."""
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.kaggle.bundle import HOURS, Accelerator
    from kit.kaggle.job import Plan

    config = load_config(given.competition, given.set)
    own = Path(given.competition) if given.competition.endswith((".yaml", ".yml")) else None
    accelerator: Accelerator = getattr(given, "accelerator", "gpu")
    hours = getattr(given, "hours", None)
    return Plan(
        name=own.stem if own else given.competition,
        competition=find_competition(config.competition, config),
        settings=tuple(given.set),
        accelerator=accelerator,
        hours=HOURS[accelerator] - 0.5 if hours is None else hours,
        data=getattr(given, "dataset", ""),
        config=own,
        from_run=getattr(given, "from_run", None),
    )


def _with_weights(plan: "Plan", given: argparse.Namespace) -> "Plan":
    """The plan with what its kernel needs besides kit: weights, and the datasets that hold them."""
    from kit.config import RuntimeSettings, load_config
    from kit.runtime import devices

    config = load_config(given.competition, given.set)
    if config.pseudo.run:
        raise ConfigError("pseudo.run is a folder on this machine, which a kernel does not have")
    devices.set_up(RuntimeSettings())
    from kit.models import registry, weights

    card = registry.model_card(config.model.name)
    source = card.weights if config.model.weights is None else config.model.weights
    files = weights.to_send(source, card.name, card.published, given.weights)
    named = ["/".join(source.removeprefix("kaggle:").split("/")[:2])] if source.startswith("kaggle:") else []
    return replace(plan, weights=tuple(files), datasets=tuple(named))


def _rehearse(plan: "Plan") -> int:
    from kit.kaggle import send
    from kit.kaggle.bundle import OWNER

    print(send.rehearse(plan, _jobs(plan) / "dry-run", OWNER))
    return 0


def _last_push(given: argparse.Namespace) -> "Job":
    from kit.kaggle.job import last_push

    plan = _plan(given)
    return last_push(plan, _jobs(plan))


def _scored(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from kit import files
    from kit.stages import score as results

    if not (run / "config.yaml").exists():
        raise DataError(f"{run} is not a run directory: it has no config.yaml")
    if not (run / "scores.json").exists():
        return results.score(run)
    return files.read_json(run / "scores.json"), files.read_json(run / "thresholds.json")


def _jobs(plan: "Plan") -> Path:
    """Where the submissions of a config are kept: beside its runs."""
    return Path("runs", plan.name, "kaggle")


def _number(value: float | None) -> str:
    return "not given" if value is None else f"{value:g}"


def _say(line: str) -> None:
    print(line, flush=True)
