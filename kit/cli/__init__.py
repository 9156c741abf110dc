"""The `kit` command. Each command is a file of this package, found by its name, without logic of its own.

`kit/cli/COMMAND.py` (an underscore for a hyphen) has a docstring whose first line is the command's help, an `EXAMPLE`,
`add(parser)` for its arguments, and `call(arguments)`, which calls one stage, prints, and returns an exit code (None is
0). What is slow to import is imported in `call`, so that `kit --help` and light commands stay quick.
"""

import argparse
import importlib
import pkgutil
import signal
import sys
import threading
from collections.abc import Sequence

from kit import __version__, log
from kit.cli import _streams
from kit.errors import KitError

__all__ = ["BAD_INPUT", "DONE", "OUT_OF_TIME", "STOPPED", "UNREAD", "command_names", "main", "make_parser"]

DONE, BAD_INPUT, OUT_OF_TIME, STOPPED, UNREAD = 0, 2, 3, 130, 141  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    _streams.open_closed()
    try:
        try:
            return _run(arguments)
        finally:
            _streams.flush()
    except BrokenPipeError:  # `| head` has seen enough
        _streams.discard()
        return UNREAD
    except OSError as error:  # output redirected to a full disk
        print(f"kit: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return BAD_INPUT


def _run(arguments: Sequence[str] | None) -> int:
    log.show()
    parsed = make_parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kernel or a queue sends it: treat it as Ctrl-C
    try:
        code = int(parsed.call(parsed) or DONE)
    except KitError as error:
        print(f"kit: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a read-only folder: the system's message, without a traceback
        print(f"kit: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("kit: stopped; run the same command again to continue", file=sys.stderr)
        return STOPPED
    if code == OUT_OF_TIME:
        print("kit: out of time; run the same command again to continue", file=sys.stderr)
    return code


def command_names() -> list[str]:
    """The names of all commands, as they are typed."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it parses has the command's function as `call`."""
    parser = argparse.ArgumentParser(prog="kit", description="From a folder of medical images to a checked submission.")
    parser.add_argument("--version", action="version", version=f"kit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in command_names():
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        text = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=text, description=text, epilog=f"example: {module.EXAMPLE}")
        module.add(command)
        command.set_defaults(call=module.call)
    return parser
