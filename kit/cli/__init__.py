"""The `kit` command. Each command is a file of this package, found by its name, without logic of its own.

`kit/cli/COMMAND.py` (an underscore for a hyphen) has a docstring whose first line is the command's help, an `EXAMPLE`,
`add(parser)` for its arguments, and `call(arguments)`, which calls one stage, prints, and returns an exit code (None is
0). What is slow to import is imported in `call`, so that `kit --help` and light commands stay quick.
"""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from kit import __version__, log
from kit.cli import _streams
from kit.cli._stopping import LINE, end_quietly, stoppable
from kit.errors import ConfigError, KitError
from kit.files import described

__all__ = ["BAD_INPUT", "DONE", "OUT_OF_TIME", "STOPPED", "UNREAD", "command_names", "entry", "main", "make_parser"]

DONE, BAD_INPUT, OUT_OF_TIME, STOPPED, UNREAD = 0, 2, 3, 130, 141  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    return _guarded(arguments, alone=False)


def entry() -> NoReturn:
    """The `kit` command: as `main`, and then the end of the process."""
    code = _guarded(None, alone=True)
    end_quietly(code)
    sys.exit(code)


def _guarded(arguments: Sequence[str] | None, alone: bool) -> int:
    """Run a command on streams that may be closed, full, or no longer read."""
    _streams.open_closed()
    try:
        try:
            return _run(arguments, alone)
        finally:
            _streams.flush()
    except BrokenPipeError:  # `| head` has seen enough
        _streams.discard()
        return UNREAD
    except OSError as error:  # output redirected to a full disk
        print(f"kit: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return BAD_INPUT


def _run(arguments: Sequence[str] | None, alone: bool) -> int:
    with stoppable(alone) as stopping:
        try:
            log.show()
            code = _called(arguments)
        except (Exception, KeyboardInterrupt) as error:
            # A library may make an error of its own of a KeyboardInterrupt, or of workers that got the signal, too.
            if stopping.requested or isinstance(error, KeyboardInterrupt):
                print(LINE, file=sys.stderr)
                return STOPPED
            if isinstance(error, BrokenPipeError) or not isinstance(error, (KitError, OSError)):
                raise
            # An OSError is a read-only folder, a device that fails: the system's message, without a traceback.
            print(f"kit: {described(error) if isinstance(error, OSError) else error}", file=sys.stderr)
            return BAD_INPUT
        if code == OUT_OF_TIME:
            print("kit: out of time; run the same command again to continue", file=sys.stderr)
        return code


def _called(arguments: Sequence[str] | None) -> int:
    parsed = make_parser().parse_args(arguments)
    return int(parsed.call(parsed) or DONE)


def command_names() -> list[str]:
    """The names of all commands, as they are typed."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others of kit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (`{self.prog} --help` says more)")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it parses has the command's function as `call`."""
    parser = _Parser(prog="kit", description="From a folder of medical images to a checked submission.")
    parser.add_argument("--version", action="version", version=f"kit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in command_names():
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        text = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=text, description=text, epilog=f"example: {module.EXAMPLE}")
        module.add(command)
        command.set_defaults(call=module.call)
    return parser
