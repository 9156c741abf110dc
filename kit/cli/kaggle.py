"""Push a kernel and its datasets to Kaggle, step by step."""

import argparse
import shlex
from typing import TYPE_CHECKING

from kit.cli._arguments import (
    add_config,
    add_job,
    add_kernel,
    add_license,
    add_predicting,
    add_trust,
    add_verb,
    add_verbs,
    call_verb,
)
from kit.cli._types import at_least_one, folder, path, positive
from kit.errors import counted

if TYPE_CHECKING:
    from kit.kaggle.job import SubmissionJob
    from kit.kaggle.plan import SubmissionPlan

EXAMPLE = "kit kaggle push pcam"
call = call_verb


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit kaggle`."""
    verbs = add_verbs(parser)
    push = add_verb(verbs, "push", _push, "Push the kernel and leave it running.", EXAMPLE)
    add_kernel(push)
    add_job(push)
    text = "Show the state of the kernel pushed last."
    _add_last(add_verb(verbs, "status", _status, text, "kit kaggle status pcam"))
    _add_last(add_verb(verbs, "logs", _logs, "Show the log of the kernel pushed last.", "kit kaggle logs pcam"))
    text = "Download the output files of the kernel pushed last."
    output = add_verb(verbs, "output", _output, text, "kit kaggle output pcam --out output")
    _add_last(output)
    output.add_argument("--out", type=folder, required=True, metavar="DIR")
    text = "Write what would be sent into a folder: wheel, weights, kernel."
    bundle = add_verb(verbs, "bundle", _bundle, text, "kit kaggle bundle pcam --out bundle")
    add_kernel(bundle)
    add_predicting(bundle)
    bundle.add_argument("--out", type=folder, required=True, metavar="DIR")
    add_trust(bundle)
    text = "Publish records as a private dataset: kernels attach it and start at once."
    records = add_verb(verbs, "records", _records, text, "kit kaggle records pcam --records records/pcam")
    add_config(records)
    records.add_argument("--records", type=folder, required=True, metavar="DIR")
    text = "Publish a run or a blend as a version of a private Kaggle Model, unless one has the same content."
    model = add_verb(verbs, "model", _model, text, "kit kaggle model pcam runs/pcam/first")
    add_config(model)
    model.add_argument("run", type=folder, metavar="RUN")
    add_license(model)
    add_trust(model)
    _add_rehearse(add_verb(verbs, "rehearse", _rehearse, _REHEARSE, f"{_REHEARSED} --cases 5000"))


_REHEARSE = "Run the kernel of a code submission here, as Kaggle would: what would fail there fails before it is sent."
_REHEARSED = "kit kaggle rehearse pcam --from-run runs/pcam/first"


def _add_rehearse(parser: argparse.ArgumentParser) -> None:
    add_kernel(parser)
    add_predicting(parser)
    parser.add_argument(
        "--cases", type=at_least_one, metavar="N", help="cases of the hidden test set (default: the run's)"
    )
    text = "raw files as Kaggle lays them out, whose images are shown to the kernel (default: made-up ones)"
    parser.add_argument("--data", type=folder, metavar="DIR", help=text)
    parser.add_argument("--kernel", type=path, metavar="F.py", help="a kernel of your own, in the place of kit's")
    text = "memory of the session (default: Kaggle's)"
    parser.add_argument("--memory", type=positive, metavar="GIB", help=text)
    text = "run code that the run holds, and the competition's kaggle_evaluation/ in --data, which is its host's"
    parser.add_argument("--trust", action="store_true", help=text)


def _add_last(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--code", action="store_true", help="of the last code submission")


def _push(arguments: argparse.Namespace) -> None:
    from kit.kaggle.client import Kaggle
    from kit.kaggle.dry_run import dry_run
    from kit.kaggle.push import kernel_page
    from kit.kaggle.send import push

    plan = _kernel_plan(arguments)
    if arguments.dry_run:
        print(dry_run(plan, submitting=False))
        return
    job = push(plan, plan.jobs_folder, Kaggle(), arguments.again)
    page, version = kernel_page(job), job.state.version
    print(f"{page}: version {version}; `kit submit {arguments.competition}` continues from here")


def _status(arguments: argparse.Namespace) -> None:
    from kit.kaggle.client import Kaggle
    from kit.kaggle.output import kernel_state
    from kit.kaggle.push import kernel_page

    job = _last_job(arguments)
    state, reason = kernel_state(job, Kaggle())
    print(f"{kernel_page(job)} version {job.state.version}: {state}{f' ({reason})' if reason else ''}")


def _logs(arguments: argparse.Namespace) -> None:
    from kit.kaggle.client import Kaggle
    from kit.kaggle.output import kernel_log

    print(kernel_log(_last_job(arguments), Kaggle()) or "no log yet: Kaggle provides it when the kernel has ended")


def _output(arguments: argparse.Namespace) -> None:
    from kit.kaggle.client import Kaggle
    from kit.kaggle.output import download_output

    count = download_output(_last_job(arguments), Kaggle(), arguments.out)
    print(f"{counted(count, 'file')}: {arguments.out}")


def _bundle(arguments: argparse.Namespace) -> None:
    from kit.kaggle.bundle import OWNER
    from kit.kaggle.push import export_bundle

    by_code = arguments.from_run or arguments.blend or arguments.constant
    for file in export_bundle((_code_plan if by_code else _kernel_plan)(arguments), arguments.out):
        print(f"{file.stat().st_size:>12,}  {file}")
    command = f"kit kaggle push {shlex.quote(arguments.competition)}"
    same = "" if by_code else f"`{command}` sends the same. "
    print(f"{same}By hand: first replace {OWNER} in the metadata{' and the kernel' if by_code else ''}.")


def _records(arguments: argparse.Namespace) -> None:
    from kit.kaggle.client import Kaggle
    from kit.kaggle.datasets import publish_records
    from kit.kaggle.plan import plan_submission

    plan = plan_submission(arguments.competition, arguments.set)
    ref = publish_records(Kaggle(), plan.name, arguments.records)
    print(f"ready: https://www.kaggle.com/datasets/{ref}; kernels of {plan.name} attach it from now on")


def _model(arguments: argparse.Namespace) -> None:
    from kit.kaggle.client import Kaggle
    from kit.kaggle.models import publish_run
    from kit.kaggle.plan import plan_submission
    from kit.run import Run

    plan = plan_submission(arguments.competition, arguments.set)
    model, _ = publish_run(Kaggle(), plan.name, Run(arguments.run, arguments.trust), arguments.license)
    print(f"https://www.kaggle.com/models/{model}")


def _rehearse(arguments: argparse.Namespace) -> None:
    from kit.kaggle.rehearsal import rehearse

    plan = _code_plan(arguments)
    lines = rehearse(plan, arguments.cases, arguments.data, arguments.kernel, arguments.memory, arguments.trust)
    print("\n".join([*lines, "nothing failed"]))


def _code_plan(arguments: argparse.Namespace) -> "SubmissionPlan":
    from kit.kaggle.plan import code_plan

    options = (arguments.accelerator, arguments.hours, arguments.from_run, arguments.constant, arguments.blend)
    return code_plan(arguments.competition, arguments.set, *options, trust=arguments.trust)


def _kernel_plan(arguments: argparse.Namespace) -> "SubmissionPlan":
    from kit.kaggle.plan import plan_submission, with_weights

    options = (arguments.accelerator, arguments.hours, arguments.dataset)
    plan = plan_submission(arguments.competition, arguments.set, *options)
    plan.validate()
    return with_weights(plan, arguments.weights)


def _last_job(arguments: argparse.Namespace) -> "SubmissionJob":
    from kit.kaggle.job import last_pushed_job
    from kit.kaggle.plan import CodePlan, plan_submission

    code = CodePlan(None) if arguments.code else None
    return last_pushed_job(plan_submission(arguments.competition, arguments.set, code=code))
