"""Build, verify, describe or export TFRecords."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kit.cli._arguments import add_config, add_verb, add_verbs, call_verb
from kit.cli._types import at_least_one, folder, folder_or_address, path, worker_count
from kit.errors import counted

if TYPE_CHECKING:
    from kit.data.records.shards import Rejected

EXAMPLE = "kit records build pcam --data DIR --out records/pcam --size 96"
call = call_verb


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit records`."""
    verbs = add_verbs(parser)
    build = add_verb(verbs, "build", _build, "Build TFRecords from raw files.", EXAMPLE)
    add_config(build)
    build.add_argument("--data", type=folder_or_address, required=True, metavar="DIR")
    build.add_argument("--out", type=folder_or_address, required=True, metavar="DIR")
    build.add_argument("--examples", type=path, metavar="F.parquet", help="from `kit examples`, instead of listing DIR")
    build.add_argument("--size", type=at_least_one, metavar="N", help="pixels; images become N x N")
    build.add_argument(
        "--encoding", metavar="raw|png|jpeg:Q|auto", help="auto: JPEGs of that size as they are, else png"
    )
    build.add_argument("--workers", type=worker_count, metavar="N", help="processes (default: one per core)")
    build.add_argument(
        "--runner", metavar="NAME", help="build with Apache Beam, such as DataflowRunner: DIRs may be gs:// or s3://"
    )
    build.add_argument(
        "--runner-option", action="append", default=[], metavar="--x=y", help="for the runner; may be repeated"
    )
    text = "Read everything back and compare it with the manifest."
    verify = add_verb(verbs, "verify", _verify, text, "kit records verify records/pcam")
    info = add_verb(verbs, "info", _info, "Describe a records directory.", "kit records info records/pcam")
    example = "kit records export records/pcam --out images --ids ID ID"
    export = add_verb(verbs, "export", _export, "Write the prepared images as files, with their labels.", example)
    for verb in (verify, info, export):
        verb.add_argument("directory", type=folder, metavar="DIR")
    export.add_argument("--out", type=folder, required=True, metavar="FOLDER", help="new, or empty")
    export.add_argument("--format", choices=["png", "jpeg"], default="png", help="default: png; jpeg has quality 95")
    export.add_argument("--ids", nargs="+", metavar="ID", help="only these images (default: all)")


def _build(arguments: argparse.Namespace) -> None:
    from kit.config import load_config
    from kit.stages.check import check_settings
    from kit.stages.examples import examples_in, list_examples
    from kit.stages.records import build_records

    image = [f"image.{key}={value}" for key in ("size", "encoding") if (value := getattr(arguments, key)) is not None]
    config = load_config(arguments.competition, [*arguments.set, *image])
    check_settings(config)
    data, out = arguments.data, arguments.out
    table = examples_in(config, arguments.examples) if arguments.examples else list_examples(config, Path(data))
    if arguments.runner:
        from kit.data.records.beam import build_with_beam

        beam = (arguments.runner, arguments.runner_option)
        manifest = build_with_beam(config.competition_name, table, data, out, config.image, config.data, *beam)
        count, shards, rejected = sum(shard.examples for shard in manifest.shards), manifest.shards, manifest.rejected
    else:
        records = build_records(config, table, Path(data), Path(out), arguments.workers)
        count, shards, rejected = len(records.table), records.shards, records.rejected
    print(f"{counted(count, 'example')} in {counted(len(shards), 'shard')}, {len(rejected)} rejected: {out}")
    _print_rejected(rejected)


def _verify(arguments: argparse.Namespace) -> None:
    from kit.data.records.manifest import open_records, verify_records

    print(f"{counted(verify_records(open_records(arguments.directory)), 'example')}, as they were written")


def _info(arguments: argparse.Namespace) -> None:
    from kit.data.records.manifest import describe, open_records

    records = open_records(arguments.directory)
    image = records.image
    steps = "".join(f"{step.name} -> " for step in image.steps)
    print(f"{records.competition}: {steps}{image.size}x{image.size} {image.color}, {image.encoding}")
    size = f"{counted(records.cells, 'cell')}, {counted(len(records.shards), 'shard')}"
    print(f"{size}, fingerprint {records.fingerprint[:12]}")
    print(describe(records).to_string(float_format="{:.1f}".format))
    _print_rejected(records.rejected)


def _export(arguments: argparse.Namespace) -> None:
    from kit.data.records.export import export
    from kit.data.records.manifest import open_records

    count = export(open_records(arguments.directory), arguments.out, arguments.format, arguments.ids)
    print(f"{counted(count, 'image')} with their labels: {arguments.out}")


def _print_rejected(rejected: "Sequence[Rejected]") -> None:
    for entry in rejected:
        print(f"rejected {entry.path}: {entry.reason}")
