"""Arguments that several commands take."""

import argparse
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit.cli._types import folder, number_from_zero, path, positive

HOURS_HELP = "stop cleanly between epochs before this time is over (default: what the host leaves this session)"
# Their files are listed, not imported, which would take longer than the help.
_COMPETITIONS = sorted(each.name for each in pkgutil.iter_modules([str(Path(__file__).parents[1] / "competitions")]))
COMPETITION_HELP = (
    f"{', '.join(_COMPETITIONS)}, another config of `kit competitions`, or the path of your own: a config (YAML) or a "
    "competition (Python)"
)
MOUNTED_DATA_HELP = "raw files (default: where Kaggle mounts them)"


def add_config(parser: argparse.ArgumentParser) -> None:
    """COMP and --set: a config, and changes to it."""
    parser.add_argument("competition", metavar="COMP", help=COMPETITION_HELP)
    add_settings(parser)


def add_settings(
    parser: argparse.ArgumentParser, text: str = "change a setting (`kit settings` lists them); may be repeated"
) -> None:
    """--set alone."""
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help=text)


def add_max_hours(parser: argparse.ArgumentParser) -> None:
    """--max-hours: how long training may take."""
    parser.add_argument("--max-hours", type=number_from_zero, metavar="H", help=HOURS_HELP)


def add_retrain(parser: argparse.ArgumentParser) -> None:
    """--retrain: whether folds that are trained may be trained again."""
    text = "train folds again that were trained with other settings or data (without it, that is refused)"
    parser.add_argument("--retrain", action="store_true", help=text)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """--trust: whether a run may name things outside it, and hold code that was not made here."""
    text = "run code that the run holds, and load what it names outside its folder (presets, SavedModels, other runs)"
    parser.add_argument("--trust", action="store_true", help=text)


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """COMP, --set, and what else makes a kernel's plan."""
    add_config(parser)
    parser.add_argument("--accelerator", choices=["gpu", "tpu", "cpu"], default="gpu", help="default: gpu (2 x T4)")
    parser.add_argument("--hours", type=positive, metavar="H", help="the longest session (default: 11.5, on a TPU 8.5)")
    text = "with the raw files, where COMP has none on Kaggle"
    parser.add_argument("--dataset", default="", metavar="OWNER/NAME", help=text)
    text = "a file of weights that the kernel needs; may be repeated"
    parser.add_argument("--weights", type=path, action="append", default=[], metavar="FILE", help=text)


def add_predicting(parser: argparse.ArgumentParser) -> None:
    """--from-run, --blend, --constant: what a code submission predicts with."""
    parser.add_argument("--from-run", type=folder, metavar="RUN", help="the run, or blend, that predicts")
    add_code(parser)


def add_code(parser: argparse.ArgumentParser) -> None:
    """What a code submission predicts with, beside --from-run."""
    source = parser.add_mutually_exclusive_group()
    text = "--code: predict with the mean of these runs"
    source.add_argument("--blend", nargs="+", type=folder, metavar="RUN", help=text)
    text = "--code: submit the same cells for every case: cheap, and shows that the way to a score works"
    source.add_argument("--constant", action="store_true", help=text)
    add_license(parser)


def add_license(parser: argparse.ArgumentParser) -> None:
    """--license of a Kaggle Model."""
    text = "of the private Kaggle Model with the weights, as Kaggle writes it (default: Apache 2.0)"
    parser.add_argument("--license", default="Apache 2.0", metavar="NAME", help=text)


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
