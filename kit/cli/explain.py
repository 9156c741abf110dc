"""Show where the models of a run look: maps over images, with checks of how far the maps can be trusted."""

import argparse

from kit.cli._arguments import add_trust
from kit.cli._types import at_least_one, count, folder, names
from kit.errors import ConfigError

EXAMPLE = "kit explain runs/pcam/first --worst 8"
_KINDS = {  # option -> kind of case (kit.evaluate.cases), and help
    "worst": ("worst", "the predictions that are most wrong"),
    "best": ("best", "the predictions that are most right"),
    "unsure": ("unsure", "those nearest to the decision's cut"),
    "random": ("random", "any"),
    "false-positives": ("false positive", "wrongly decided on, the surest first"),
    "false-negatives": ("false negative", "wrongly not decided on"),
}


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit explain`."""
    parser.add_argument("run", type=folder, metavar="RUN")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="new images: files, folders or globs; needs --out")
    parser.add_argument("--ids", type=names, default=[], metavar="A,B", help="these images of the run's records")
    for kind, (_, text) in _KINDS.items():
        parser.add_argument(f"--{kind}", type=at_least_one, metavar="N", help=f"so many training images: {text}")
    parser.add_argument("--records", type=folder, metavar="DIR", help="the records of the run (default: beside it)")
    parser.add_argument(
        "--method",
        choices=["gradcam", "hirescam", "occlusion"],
        help="default: gradcam, of runs with boxes occlusion, which takes much longer",
    )
    parser.add_argument("--label", action="append", default=[], metavar="NAME", help="may be repeated")
    parser.add_argument(
        "--folds",
        choices=["own", "mean"],
        default="own",
        help="the model that has not seen the image (default), or the mean of all folds' maps",
    )
    parser.add_argument("--against", type=folder, metavar="RUN2", help="show another run's maps beside")
    parser.add_argument("--checks", type=count, metavar="N", help="check the maps on N images (0: do not)")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of what is drawn at random (default: 0)")
    parser.add_argument("--out", type=folder, metavar="DIR", help="--images: the folder to write")
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit explain`."""
    from kit.run import Run
    from kit.stages.explain import Wanted, explain, explain_images

    asked = {kind: getattr(arguments, kind.replace("-", "_")) for kind in _KINDS}
    wanted = Wanted(
        ids=arguments.ids,
        counts={_KINDS[kind][0]: number for kind, number in asked.items() if number},
        labels=arguments.label,
        method=arguments.method or "",
        folds=arguments.folds,
        checks=arguments.checks,
        seed=arguments.seed,
    )
    run = Run(arguments.run, arguments.trust)
    if bool(arguments.images) != bool(arguments.out):
        raise ConfigError("--images and --out go together: explanations of a run's own images are kept in the run")
    if arguments.images:
        if wanted.ids or wanted.counts or arguments.against or arguments.records:
            raise ConfigError("--images are all explained, by RUN alone: leave out what chooses images, and --against")
        place, scores = explain_images(run, arguments.images, wanted, arguments.out, arguments.trust)
    else:
        if wanted.ids and wanted.counts:
            raise ConfigError("--ids names the images: leave out what chooses others")
        against = Run(arguments.against, arguments.trust) if arguments.against else None
        place, scores = explain(run, wanted, arguments.records, against, arguments.trust)
    for check in scores.checks:
        print(f"{check.name}: {check.sentence}")
    print(f"written: {place.page}")
