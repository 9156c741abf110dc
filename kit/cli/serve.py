"""Show a web page, and a JSON API, on which a run predicts new images."""

import argparse
import sys
from contextlib import suppress

from kit.cli._arguments import add_trust
from kit.cli._types import at_least_one, count, numbers, path, run_or_file
from kit.errors import ConfigError

EXAMPLE = "kit serve runs/pcam/first"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit serve`."""
    parser.add_argument("run", type=run_or_file, metavar="RUN", help="a run, or a file that `kit export` wrote")
    parser.add_argument("--port", type=count, default=7860, metavar="N", help="default: 7860; 0: any that is free")
    text = "listen there, so that other machines can reach it (default: 127.0.0.1, this one alone); 0.0.0.0: everywhere"
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help=text)
    text = "images to try on the page: files, folders, globs (default: some of the run's own, on 127.0.0.1 alone)"
    parser.add_argument("--examples", nargs="+", type=path, metavar="PATH", help=text)
    parser.add_argument("--folds", type=numbers, metavar="0,2", help="the models of these folds alone: faster")
    parser.add_argument("--max-mib", type=at_least_one, default=100, metavar="N", help="the largest upload (100)")
    text = "start it, have it answer one image, and stop"
    parser.add_argument("--check", action="store_true", help=text)
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit serve`."""
    from kit.serve.check import check
    from kit.serve.limits import Limits
    from kit.serve.server import Options, opens, serving

    if not arguments.host:
        raise ConfigError("--host is empty: give an address, such as 0.0.0.0")
    options = Options(
        host=arguments.host,
        port=0 if arguments.check else arguments.port,
        limits=Limits(size=arguments.max_mib * 2**20),
        examples=arguments.examples,
        folds=arguments.folds,
        trust=arguments.trust,
    )
    print(f"loading {arguments.run} …", flush=True)
    with serving(arguments.run, options) as server:
        if arguments.check:
            print(f"it works: {check(server)}\nopen the page with:  kit serve {arguments.run}")
            return
        if warning := opens(server):
            print(warning, file=sys.stderr)
        print(f"open {server.address} in a browser; Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            server.wait()
        print("stopped")
