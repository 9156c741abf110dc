"""From here to a score: push a kernel, wait, fetch, check, submit once; run it again to continue."""

import argparse
from pathlib import Path

from kit.cli import DONE
from kit.cli._arguments import add_job, add_kernel
from kit.cli._types import folder, path
from kit.cli.run import run_and_print
from kit.errors import ConfigError

EXAMPLE = "kit submit pcam"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit submit`."""
    add_kernel(parser)
    add_job(parser)
    parser.add_argument("--from-run", type=folder, metavar="RUN", help="send a finished local run's submission instead")
    parser.add_argument("--data", type=folder, metavar="DIR", help="raw files of a COMP that is not on Kaggle")
    parser.add_argument(
        "--ledger", type=path, default=Path("submissions.csv"), metavar="F.csv", help="the table of submissions"
    )


def call(arguments: argparse.Namespace) -> int:
    """Run `kit submit`."""
    from kit.evaluate.text import as_text
    from kit.kaggle.plan import plan_submission, with_weights
    from kit.run import Run
    from kit.stages.score import score
    from kit.stages.submission import require_current_submission
    from kit.submit import ledger

    options = (arguments.accelerator, arguments.hours, arguments.dataset, arguments.from_run)
    plan = plan_submission(arguments.competition, arguments.set, *options)
    name, leaderboard = plan.competition.name, plan.competition.leaderboard
    if plan.is_local:
        print(f"{name} is not on Kaggle: it is run and scored here")
        local = {"data": arguments.data, "settings": arguments.set, "max_hours": arguments.hours}
        return DONE if arguments.dry_run else run_and_print(arguments.competition, **local)
    if arguments.data:
        raise ConfigError(f"--data is for what is scored here; a kernel of {plan.name} has its raw files from Kaggle")
    plan.validate()
    if plan.from_run:
        scores = score(Run(plan.from_run))
        if leaderboard:
            require_current_submission(Run(plan.from_run))
        if not leaderboard:
            print(f"{as_text(*scores)}\n{name} has no leaderboard: there is nothing to send")
            return DONE
    else:
        plan = with_weights(plan, arguments.weights)
    if arguments.dry_run:
        from kit.kaggle.dry_run import dry_run

        print(dry_run(plan))
        return DONE
    from kit.kaggle.job import finished_job

    job = None if arguments.again else finished_job(plan)
    if job is None:
        from kit.kaggle.client import Kaggle
        from kit.kaggle.send import submit

        if leaderboard:
            ledger.check(arguments.ledger)
        job = submit(plan, plan.jobs_folder, Kaggle(), arguments.ledger, arguments.again)
    scores = score(Run(job.state.run))
    print(as_text(*scores))
    if not leaderboard:
        print(f"{name} takes no submission from kit; predictions and scores are in {job.folder}")
        return DONE
    print(f"\n{job.run_id} on the leaderboard: {job.state.score_text}; out of fold {scores[0].value:.4f}")
    print(f"recorded in {arguments.ledger} (kit ledger); all files are in {job.folder}")
    return DONE
