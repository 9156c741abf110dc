"""The `kit` command: parse, call one stage, print, exit code (0 done, 2 bad input, 3 out of time,
130 stopped). No logic."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from kit import __version__, log
from kit.cli import kaggle as cli_kaggle
from kit.errors import ConfigError, KitError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    log.show()
    parser = _parser()
    given = parser.parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a kernel or a queue sends is met as Ctrl-C is
    try:
        return int(given.call(given) or 0)
    except KitError as error:
        print(f"kit: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a read-only folder: the machine's word, without a traceback
        print(f"kit: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kit: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _doctor(given: argparse.Namespace) -> None:
    from kit.config import RuntimeSettings, load_config
    from kit.runtime import devices
    from kit.runtime import session as host

    settings = load_config(given.competition, given.set).runtime if given.competition else RuntimeSettings()
    facts = devices.environment(devices.set_up(settings))
    facts["session_hours_left"] = host.session_hours_left()
    facts["kaggle_mount"] = str(host.KAGGLE_INPUT) if host.KAGGLE_INPUT.is_dir() else None
    facts["kaggle_login"] = host.kaggle_login()
    facts["missing"] = devices.missing_packages()
    facts["hints"] = host.hints()
    print(json.dumps(facts, indent=1))
    if facts["missing"]:
        raise ConfigError(f"packages that kit needs are not installed: {', '.join(facts['missing'])}")


def _models(given: argparse.Namespace) -> None:
    from kit.config import RuntimeSettings
    from kit.runtime import devices

    devices.set_up(RuntimeSettings())
    from kit.models import registry

    print(registry.as_text(given.part))


def _examples(given: argparse.Namespace) -> None:
    from kit import pipeline
    from kit.competitions import find_competition, raw_folder
    from kit.config import load_config
    from kit.data.table.check import as_text
    from kit.data.table.examples import write_examples

    if not given.out and not given.check:
        raise ConfigError("nothing to do: give --out F.parquet for the table, or --check to look at the data")
    config = load_config(given.competition, given.set)
    competition = find_competition(config.competition, config)
    data = raw_folder(competition, given.data, Path("data"))
    if given.check:
        found = pipeline.check(config, data)
        print(json.dumps(found, indent=1) if given.json else as_text(found))
    if given.out:
        with redirect_stdout(sys.stderr) if given.json else nullcontext():  # nothing but JSON where that was asked for
            table = pipeline.examples(config, data)
            write_examples(given.out, table)
            print(f"{len(table.table)} images, {table.table['group'].nunique()} groups: {given.out}")


def _records_build(given: argparse.Namespace) -> None:
    from kit import pipeline
    from kit.config import load_config
    from kit.data.table.examples import read_examples

    settings = [f"image.{key}={value}" for key in ("size", "encoding") if (value := getattr(given, key)) is not None]
    config = load_config(given.competition, [*given.set, *settings])
    table = read_examples(given.examples) if given.examples else pipeline.examples(config, Path(given.data))
    if given.runner:
        from kit.data.records.beam import build_with_beam

        image, beam = config.image, (given.runner, given.runner_option)
        made = build_with_beam(config.competition, table, given.data, given.out, image, config.data, *beam)
        _say_built(sum(shard["examples"] for shard in made["shards"]), made["shards"], made["rejected"], given.out)
        return
    built = pipeline.build_records(config, table, Path(given.data), Path(given.out), given.workers)
    _say_built(len(built.table), built.shards, built.rejected, given.out)


def _say_built(examples: int, shards: Sequence[Any], rejected: Sequence[dict[str, str]], out: str) -> None:
    print(f"{examples} examples in {len(shards)} shards, {len(rejected)} rejected: {out}")
    for entry in rejected:
        print(f"rejected {entry['path']}: {entry['reason']}")


def _records_verify(given: argparse.Namespace) -> None:
    from kit.data.records.manifest import open_records, verify_records

    print(f"{verify_records(open_records(given.directory))} examples, as they were written")


def _records_info(given: argparse.Namespace) -> None:
    from kit.data.records.manifest import describe, open_records

    records = open_records(given.directory)
    image = records.image
    steps = "".join(f"{step.name} -> " for step in image.steps)
    print(f"{records.competition}: {steps}{image.size}x{image.size} {image.color}, {image.encoding}")
    print(f"{records.cells} cells, {len(records.shards)} shards, fingerprint {records.fingerprint[:12]}")
    print(describe(records).to_string(float_format="{:.1f}".format))
    for entry in records.rejected:
        print(f"rejected {entry['path']}: {entry['reason']}")


def _train(given: argparse.Namespace) -> int:
    from kit import pipeline
    from kit.config import load_config
    from kit.data.records.manifest import open_records
    from kit.runtime import session as host

    config, deadline = load_config(given.competition, given.set), host.deadline(given.max_hours)
    return _on_time(pipeline.train(config, open_records(given.records), given.run, given.folds, deadline))


def _predict(given: argparse.Namespace) -> None:
    from kit import pipeline
    from kit.data.records.manifest import open_records

    pipeline.predict(given.run, open_records(given.records), given.tta)
    print(f"written: {given.run / 'oof.parquet'}, {given.run / 'test.parquet'}")


def _score(given: argparse.Namespace) -> None:
    from kit.evaluate import text
    from kit.stages import score as results

    scores, thresholds = results.score(given.runs[0])
    found = results.compare(given.runs) if len(given.runs) > 1 else []
    if given.json:
        print(json.dumps({"scores": scores, "thresholds": thresholds, "comparison": found}, indent=1))
        return
    print(text.as_text(scores, thresholds))
    if found:
        print(text.comparison(found, scores["interval"]["confidence"]))


def _ensemble(given: argparse.Namespace) -> None:
    from kit.evaluate import text
    from kit.stages import score as results

    print(text.ensemble(results.ensemble(given.runs, given.out, given.blend, given.metadata)))
    print(f"as a run of its own: {given.out}")


def _ledger(given: argparse.Namespace) -> None:
    from kit.stages import score as results
    from kit.submit import ledger

    if given.run is None:
        print(ledger.as_text(ledger.read(given.ledger)))
        return
    if given.file is None:
        raise ConfigError("which file was sent? Give --file submission.csv")
    results.score(given.run)
    line = ledger.entry(given.run, given.file, given.description)
    print(ledger.as_text(ledger.write(given.ledger, {**line, "public": given.public, "private": given.private})))


def _submission_write(given: argparse.Namespace) -> None:
    from kit.stages import score as results

    results.write_submission(given.run, given.sample, given.out)
    print(f"written and checked: {given.out}")


def _submission_check(given: argparse.Namespace) -> None:
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.submit.submission import check_submission, read_submission

    config = load_config(given.competition)
    competition = find_competition(config.competition, config)
    submission, sample = (read_submission(path, competition.id_column) for path in (given.file, given.sample))
    oof = None
    if given.run:
        import pandas as pd

        oof = pd.read_parquet(given.run / "oof.parquet")
    for remark in check_submission(competition, submission, sample, oof):
        print(f"noticed: {remark}")
    print(f"{given.file}: {len(submission)} rows, as {competition.name} wants them")


def _run(given: argparse.Namespace) -> int:
    from kit import pipeline
    from kit.evaluate.text import as_text

    made = pipeline.run(given.competition, given.data, given.run, given.records, given.set, given.max_hours)
    if made is not None:
        print(as_text(*pipeline.score(made.parent)))
        print(f"{'submission' if made.suffix == '.csv' else 'no test images; out-of-fold predictions'}: {made}")
    return _on_time(made is not None)


def _search(given: argparse.Namespace) -> int:
    from kit.tune.search import help_search, search

    common = (given.competition, given.space, given.trials, given.hours, given.run, given.records)
    if given.helper:
        help_search(*common, given.set, given.helper)
        return 0
    return _on_time(search(*common, given.data, given.workers, given.set))


def _lr_find(given: argparse.Namespace) -> None:
    from kit.config import load_config
    from kit.tune.lr_find import lr_find

    rate = lr_find(given.competition, given.records, given.out, given.set)
    phases = load_config(given.competition, given.set).train.phases
    use = "learning_rate of a phase that trains all" if phases else f"--set train.learning_rate={rate:.2g}"
    print(f"steepest descent at {rate:.2g}: {use}   ({given.out} shows the curve)")


def _demo(given: argparse.Namespace) -> int:
    run = given.out / "toy"
    code = _run(
        argparse.Namespace(**vars(given), competition="toy", data=None, run=run, records=None, set=[], max_hours=None)
    )
    print(
        f"\nWhat you have now in {run}: a model per fold, out-of-fold and test predictions, scores.json and a checked\n"
        "submission. The demo again takes seconds, and so does `kit score`: what is done is not done again.\n"
        "Next, the same on real images:  kit run pcam --data DIR --run runs/pcam/first   (README.md says more)"
    )
    return code


def _on_time(finished: bool) -> int:
    if not finished:
        print("kit: out of time; the same command goes on from here", file=sys.stderr)
    return 0 if finished else 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kit", description="From a folder of medical images to a checked submission.")
    parser.add_argument("--version", action="version", version=f"kit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(under: Any, name: str, call: Callable[..., Any], text: str, example: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = under.add_parser(
            name, help=text, description=text, epilog=f"example: {example}"
        )
        made.set_defaults(call=call)
        return made

    def settings(made: argparse.ArgumentParser) -> None:
        made.add_argument("competition", metavar="COMP", help="a competition, or the path of a config (YAML)")
        made.add_argument(
            "--set", action="append", default=[], metavar="a.b=c", help="change a setting; may be repeated"
        )

    text = "what is here: versions, devices, memory, mounts, missing packages, Kaggle login"
    made = command(commands, "doctor", _doctor, text, "kit doctor")
    made.add_argument("competition", nargs="?", metavar="COMP", help="as its config's runtime settings have it")
    made.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a setting; may be repeated")
    made = command(commands, "demo", _demo, "the whole job on a small made-up competition", "kit demo --out demo")
    made.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")

    text = "the models there are: parameters, image side, weights and their licence"
    made = command(commands, "models", _models, text, "kit models resnet")
    made.add_argument("part", nargs="?", default="", metavar="FILTER", help="only those with this in name or source")

    made = command(
        commands,
        "examples",
        _examples,
        "raw files -> example table; what is in the data",
        "kit examples pcam --data DIR --check --out examples.parquet",
    )
    settings(made)
    made.add_argument("--data", type=Path, metavar="DIR", help="raw files (default: where Kaggle mounts them)")
    made.add_argument("--out", type=Path, metavar="F.parquet", help="write the table: one row per image")
    made.add_argument(
        "--check", action="store_true", help="decode every image: sizes, formats, unreadable files, duplicates, leaks"
    )
    made.add_argument("--json", action="store_true", help="--check for machines, with all names")

    under = commands.add_parser("records", help="build, verify or describe TFRecords").add_subparsers(
        required=True, metavar="VERB"
    )
    made = command(
        under,
        "build",
        _records_build,
        "raw files -> TFRecords",
        "kit records build pcam --data DIR --out records/pcam --size 96",
    )
    settings(made)
    made.add_argument("--data", required=True, metavar="DIR")
    made.add_argument("--out", required=True, metavar="DIR")
    made.add_argument("--examples", type=Path, metavar="F.parquet", help="from `kit examples`, instead of listing DIR")
    made.add_argument("--size", type=int, metavar="N", help="pixels; images become N x N")
    made.add_argument(
        "--encoding", metavar="raw|png|jpeg:Q|auto", help="auto: JPEGs of that size as they are, else png"
    )
    made.add_argument("--workers", type=_at_least_one, metavar="N", help="processes (default: one per core)")
    made.add_argument(
        "--runner", metavar="NAME", help="build with Apache Beam, such as DataflowRunner: DIRs may be gs:// or s3://"
    )
    made.add_argument(
        "--runner-option", action="append", default=[], metavar="--x=y", help="for the runner; may be repeated"
    )
    for name, call, text in (
        ("verify", _records_verify, "read everything back and compare it with the manifest"),
        ("info", _records_info, "what is in a records directory"),
    ):
        made = command(under, name, call, text, f"kit records {name} records/pcam")
        made.add_argument("directory", type=Path, metavar="DIR")

    made = command(
        commands, "train", _train, "fit the folds", "kit train pcam --records records/pcam --run runs/pcam/first"
    )
    settings(made)
    made.add_argument("--records", type=Path, required=True, metavar="DIR")
    made.add_argument("--run", type=Path, required=True, metavar="DIR")
    made.add_argument("--folds", type=_numbers, metavar="0,1", help="only these folds, counted from 0")
    made.add_argument(
        "--max-hours",
        type=float,
        metavar="H",
        help="stop cleanly between epochs before that much time is over (default: what the host leaves this session)",
    )

    made = command(
        commands,
        "predict",
        _predict,
        "out-of-fold and test predictions",
        "kit predict --run runs/pcam/first --records records/pcam",
    )
    made.add_argument("--run", type=Path, required=True, metavar="DIR")
    made.add_argument("--records", type=Path, required=True, metavar="DIR")
    made.add_argument(
        "--tta",
        choices=["none", "mirror", "flips", "dihedral", "crops", "scales"],
        help="average over 1, 2, 4, 8, 6 or 3 views (default: the config's)",
    )

    example = "kit score runs/pcam/first runs/pcam/second"
    text = "metrics with intervals, thresholds, calibration; of several runs also each against the first, paired"
    made = command(commands, "score", _score, text, example)
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    made.add_argument("--json", action="store_true", help="for machines")

    example = "kit ensemble runs/pcam/first runs/pcam/second --out runs/pcam/both"
    text = "blend runs: every way scored on folds that did not fit it, the best (or the plain mean) taken"
    made = command(commands, "ensemble", _ensemble, text, example)
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder with the files of a run")
    made.add_argument(
        "--blend",
        default="auto",
        metavar="NAME",
        help="mean, best_single, weighted:2,1, geometric, logit, rank, convex, nnls, greedy, stack or boost, whatever "
        "they are worth (default: auto)",
    )
    made.add_argument(
        "--metadata", type=lambda names: names.split(","), default=[], metavar="age,sex", help="what boost may use too"
    )

    example = "kit ledger --run runs/pcam/first --file submission.csv --public 0.95"
    text = "what was sent: out-of-fold scores beside the leaderboard's"
    made = command(commands, "ledger", _ledger, text, example)
    made.add_argument("--ledger", type=Path, default=Path("submissions.csv"), metavar="F.csv")
    made.add_argument("--run", type=Path, metavar="RUN", help="add a submission of this run, or its scores later")
    made.add_argument("--file", type=Path, metavar="F", help="the file that was sent")
    made.add_argument("--public", type=float, metavar="SCORE")
    made.add_argument("--private", type=float, metavar="SCORE")
    made.add_argument("--description", default="", metavar="TEXT")

    under = commands.add_parser("submission", help="write or check a submission").add_subparsers(
        required=True, metavar="VERB"
    )
    example = "kit submission write runs/pcam/first --sample DIR/sample_submission.csv --out submission.csv"
    made = command(under, "write", _submission_write, "test predictions -> a checked submission", example)
    made.add_argument("run", type=Path, metavar="RUN", help="a run or an ensemble")
    made.add_argument("--sample", type=Path, metavar="F", help="the sample submission, where there is one")
    made.add_argument("--out", type=Path, required=True, metavar="F")
    example = "kit submission check pcam submission.csv --sample DIR/sample_submission.csv"
    made = command(under, "check", _submission_check, "would the competition take it, and score it as meant?", example)
    made.add_argument("competition", metavar="COMP")
    made.add_argument("file", type=Path, metavar="F")
    made.add_argument("--sample", type=Path, required=True, metavar="F")
    made.add_argument("--run", type=Path, metavar="RUN", help="compare its columns' means with out-of-fold ones too")

    made = command(
        commands, "run", _run, "all stages, skipping what is done", "kit run pcam --data DIR --run runs/pcam/first"
    )
    settings(made)
    made.add_argument("--data", type=Path, metavar="DIR", help="raw files (default: where Kaggle mounts them)")
    made.add_argument("--run", type=Path, metavar="DIR", help="default: runs/COMP/run")
    made.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="default: records/ beside the run, shared by its neighbours; on Kaggle and Colab a scratch folder",
    )
    made.add_argument(
        "--max-hours",
        type=float,
        metavar="H",
        help="stop cleanly between epochs before that much time is over (default: what the host leaves this session)",
    )

    cli_kaggle.add_commands(commands, command, settings, _run)

    made = command(
        commands,
        "search",
        _search,
        "try settings; the best as a config, chosen without fold 0's validation images",
        "kit search pcam --space pcam_cnn --records records/pcam --trials 26 --hours 9",
    )
    settings(made)
    made.add_argument("--space", required=True, metavar="FILE", help="what to try: a YAML file, or a name of the kit's")
    made.add_argument("--trials", type=_at_least_one, required=True, metavar="N", help="finished ones in all")
    made.add_argument(
        "--hours",
        type=float,
        metavar="H",
        help="stop cleanly between epochs before that much time is over (default: what the host leaves this session)",
    )
    made.add_argument("--run", type=Path, metavar="DIR", help="default: runs/COMP/search")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--records", type=Path, metavar="DIR")
    source.add_argument("--data", type=Path, metavar="DIR", help="raw files (default: where Kaggle mounts them)")
    made.add_argument("--workers", type=_at_least_one, default=1, metavar="N", help="processes that share the trials")
    made.add_argument("--helper", type=int, help=argparse.SUPPRESS)  # the number of a process that --workers started

    made = command(
        commands,
        "lr-find",
        _lr_find,
        "train on while the learning rate rises: a figure, and a rate to begin with",
        "kit lr-find pcam --records records/pcam --out lr.png",
    )
    settings(made)
    made.add_argument("--records", type=Path, required=True, metavar="DIR")
    made.add_argument("--out", type=Path, required=True, metavar="F.png", help="the figure; the curve goes beside it")
    return parser


def _at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
