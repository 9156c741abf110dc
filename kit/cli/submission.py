"""Write or check a submission."""

import argparse

from kit.cli._arguments import COMPETITION_HELP, add_trust, add_verb, add_verbs, call_verb
from kit.cli._types import folder, output_file, path
from kit.errors import counted

EXAMPLE = "kit submission write runs/pcam/first --sample DIR/sample_submission.csv --out submission.csv"
call = call_verb


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit submission`."""
    verbs = add_verbs(parser)
    write = add_verb(verbs, "write", _write, "Turn test predictions into a checked submission.", EXAMPLE)
    write.add_argument("run", type=folder, metavar="RUN", help="a run or an ensemble")
    write.add_argument("--sample", type=path, metavar="F", help="the sample submission, where there is one")
    write.add_argument("--out", type=output_file, required=True, metavar="F")
    add_trust(write)
    example = "kit submission check pcam submission.csv --sample DIR/sample_submission.csv"
    check = add_verb(verbs, "check", _check, "Check whether the competition would accept a submission.", example)
    check.add_argument("competition", metavar="COMP", help=COMPETITION_HELP)
    check.add_argument("file", type=path, metavar="F")
    check.add_argument("--sample", type=path, required=True, metavar="F")
    check.add_argument("--run", type=folder, metavar="RUN", help="compare its columns' means with out-of-fold ones too")


def _write(arguments: argparse.Namespace) -> None:
    from kit.run import Run
    from kit.stages.submission import write_submission

    write_submission(Run(arguments.run, arguments.trust), arguments.sample, arguments.out)
    print(f"written and checked: {arguments.out}")


def _check(arguments: argparse.Namespace) -> None:
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.run import Run
    from kit.stages.per_case import scored_examples
    from kit.stages.submission import sent_oof
    from kit.submit.submission import check_submission, read_submission

    config = load_config(arguments.competition)
    competition = find_competition(config.competition, config)
    submission, sample = (read_submission(path, competition.id_column) for path in (arguments.file, arguments.sample))
    run = Run(arguments.run) if arguments.run else None
    known = (sent_oof(run), scored_examples(run)) if run else ()
    for remark in check_submission(competition, submission, sample, *known):
        print(f"noticed: {remark}")
    print(f"{arguments.file}: {counted(len(submission), 'row')}, as {competition.name} requires")
