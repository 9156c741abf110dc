"""From here to a score: push a kernel, wait, fetch, check, submit once; run it again to continue."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cli import DONE
from kit.cli._arguments import add_code, add_job, add_kernel, add_trust
from kit.cli._types import folder, path
from kit.cli.run import run_and_print
from kit.errors import ConfigError

if TYPE_CHECKING:
    from kit.kaggle.job import SubmissionJob
    from kit.kaggle.plan import SubmissionPlan

EXAMPLE = "kit submit pcam"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit submit`."""
    add_kernel(parser)
    add_job(parser)
    text = "send a finished local run's submission instead; with --code, a kernel that predicts with that run"
    parser.add_argument("--from-run", type=folder, metavar="RUN", help=text)
    text = "submit a kernel, which Kaggle reruns on the hidden test set (by itself where a competition takes no files)"
    parser.add_argument("--code", action="store_true", help=text)
    add_code(parser)
    parser.add_argument("--data", type=folder, metavar="DIR", help="raw files of a COMP that is not on Kaggle")
    parser.add_argument(
        "--ledger", type=path, default=Path("submissions.csv"), metavar="F.csv", help="the table of submissions"
    )
    add_trust(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run `kit submit`."""
    from kit.evaluate.text import as_text
    from kit.kaggle.plan import with_weights
    from kit.run import Run
    from kit.stages.score import score

    plan = _plan(arguments)
    name, leaderboard = plan.competition.name, plan.competition.leaderboard
    if plan.is_local:
        print(f"{name} is not on Kaggle: it is run and scored here")
        local = {"data": arguments.data, "settings": arguments.set, "max_hours": arguments.hours}
        return DONE if arguments.dry_run else run_and_print(arguments.competition, **local)
    if arguments.data:
        raise ConfigError(f"--data is for what is scored here; a kernel of {plan.name} has its raw files from Kaggle")
    plan.validate()
    if plan.from_run:
        scores = score(Run(plan.from_run, arguments.trust))
        if not leaderboard:
            print(f"{as_text(*scores)}\n{name} has no leaderboard: there is nothing to send")
            return DONE
    elif not plan.code:
        plan = with_weights(plan, arguments.weights)
    if arguments.dry_run:
        from kit.kaggle.dry_run import dry_run

        print(dry_run(plan))
        return DONE
    job = _job(arguments, plan)
    on_the_board = f"{job.run_id} on the leaderboard: {job.state.score_text}"
    if not job.state.run:
        print(f"\n{on_the_board}; a constant: the way to a score works")
        return DONE
    scores = score(Run(job.state.run))
    print(as_text(*scores))
    if not leaderboard:
        print(f"{name} takes no submission from kit; predictions and scores are in {job.folder}")
        return DONE
    print(f"\n{on_the_board}; out of fold {scores[0].value:.4f}")
    print(f"recorded in {arguments.ledger} (kit ledger); all files are in {job.folder}")
    return DONE


def _plan(arguments: argparse.Namespace) -> "SubmissionPlan":
    from kit.kaggle.plan import code_plan, plan_submission

    options = (arguments.accelerator, arguments.hours)
    if arguments.constant or arguments.blend or (arguments.code and arguments.from_run):
        how = {"constant": arguments.constant, "blend": arguments.blend, "license_name": arguments.license}
        how["trust"] = arguments.trust
        return code_plan(arguments.competition, arguments.set, *options, arguments.from_run, **how)
    return plan_submission(arguments.competition, arguments.set, *options, arguments.dataset, arguments.from_run)


def _job(arguments: argparse.Namespace, plan: "SubmissionPlan") -> "SubmissionJob":
    from kit.kaggle.job import finished_job_of_run
    from kit.run import Run
    from kit.stages.submission import require_current_submission
    from kit.submit import ledger

    if plan.from_run and Run(plan.from_run).submission_path.is_file():
        require_current_submission(Run(plan.from_run))
    job = None if arguments.again else finished_job_of_run(plan)
    if job:
        return job
    from kit.kaggle.client import Kaggle
    from kit.kaggle.send import submit

    if plan.competition.leaderboard:
        ledger.check(arguments.ledger)
    return submit(plan, plan.jobs_folder, Kaggle(), arguments.ledger, arguments.again, as_code=arguments.code)
