"""Write a run as a model that needs no kit (SavedModel, ONNX, LiteRT), or as one file that kit takes instead of it."""

import argparse

from kit.cli._arguments import add_trust
from kit.cli._types import at_least_one, folder, numbers, path

EXAMPLE = "kit export runs/pcam/first --format onnx"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit export`."""
    parser.add_argument("run", type=folder, metavar="RUN")
    formats = ["kit", "savedmodel", "onnx", "litert"]
    parser.add_argument("--format", choices=formats, default="kit", help="default: kit")
    text = "where to write: a folder, or (kit) a file that ends in .kit.zip (default: RUN/exported)"
    parser.add_argument("--out", type=path, metavar="PATH", help=text)
    parser.add_argument("--folds", type=numbers, metavar="0,2", help="the models of these folds alone: smaller, faster")
    text = "the model takes images of any height and width, and makes them its own size"
    parser.add_argument("--any-size", action="store_true", help=text)
    text = "litert: weights and activations in 8-bit integers; what that costs is measured on out-of-fold images"
    parser.add_argument("--int8", action="store_true", help=text)
    parser.add_argument("--records", type=folder, metavar="DIR", help="--int8: the run's records (default: beside it)")
    text = "--int8: measure on at most N out-of-fold images (default: 2000)"
    parser.add_argument("--images", type=at_least_one, default=2000, metavar="N", help=text)
    parser.add_argument("--card", action="store_true", help="write a model card as well (Markdown)")
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit export`."""
    from kit.run import Run
    from kit.stages.export import Wanted, export, write_card

    run = Run(arguments.run, arguments.trust)
    wanted = Wanted(
        arguments.format, arguments.folds, arguments.any_size, arguments.int8, arguments.records, arguments.images
    )
    path = export(run, wanted, arguments.out, arguments.trust)
    print(path)
    if arguments.card:
        print(write_card(run, path))
