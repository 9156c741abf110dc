"""Arguments that several commands take."""

import argparse
from collections.abc import Callable
from typing import Any

from kit.cli._types import number_from_zero, path, positive

HOURS_HELP = "stop cleanly between epochs before this time is over (default: what the host leaves this session)"
MOUNTED_DATA_HELP = "raw files (default: where Kaggle mounts them)"


def add_config(parser: argparse.ArgumentParser) -> None:
    """COMP and --set: a config, and changes to it."""
    parser.add_argument("competition", metavar="COMP", help="a competition, or the path of a config (YAML)")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """--set alone."""
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a setting; may be repeated")


def add_max_hours(parser: argparse.ArgumentParser) -> None:
    """--max-hours: how long training may take."""
    parser.add_argument("--max-hours", type=number_from_zero, metavar="H", help=HOURS_HELP)


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """COMP, --set, and what else makes a kernel's plan."""
    add_config(parser)
    parser.add_argument("--accelerator", choices=["gpu", "tpu", "cpu"], default="gpu", help="default: gpu (2 x T4)")
    parser.add_argument("--hours", type=positive, metavar="H", help="the longest session (default: 11.5, on a TPU 8.5)")
    text = "with the raw files, where COMP has none on Kaggle"
    parser.add_argument("--dataset", default="", metavar="OWNER/NAME", help=text)
    text = "a file of weights that the kernel needs; may be repeated"
    parser.add_argument("--weights", type=path, action="append", default=[], metavar="FILE", help=text)


def add_job(parser: argparse.ArgumentParser) -> None:
    """--again and --dry-run, of commands that continue a job."""
    parser.add_argument("--again", action="store_true", help="start over, though the same has finished or failed")
    parser.add_argument("--dry-run", action="store_true", help="print the requests; needs no login and sends nothing")


def add_verbs(parser: argparse.ArgumentParser) -> Any:
    """The subparsers of a command with verbs, for `add_verb`."""
    return parser.add_subparsers(required=True, metavar="VERB")


def add_verb(
    verbs: Any, name: str, call: Callable[[argparse.Namespace], int | None], text: str, example: str
) -> argparse.ArgumentParser:
    """The parser of a verb; `call` is what it does, and becomes the parsed `verb`."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=f"example: {example}")
    parser.set_defaults(verb=call)
    return parser


def call_verb(arguments: argparse.Namespace) -> int | None:
    """Run the verb that was parsed; the `call` of a command with verbs."""
    code: int | None = arguments.verb(arguments)
    return code
