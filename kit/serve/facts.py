"""What the page says of a run beside its predictions, and the images that it offers to try."""

from dataclasses import dataclass
from pathlib import Path

from kit.competitions import find_competition
from kit.data.pixels.images import encode
from kit.data.pixels.reading import read_file
from kit.data.records.images import images_of
from kit.decisions import AnyDecision
from kit.errors import DataError, UnreadableImage
from kit.run import Run
from kit.schemas import AnyScores
from kit.stages.export import model_card
from kit.stages.predict import find_images
from kit.stages.records import records_of

_EXAMPLES = 6


@dataclass(frozen=True)
class Facts:
    """Of a run: title, decision, scores, the model card as HTML, image files to try, and what these are."""

    title: str
    name: str
    decision: AnyDecision
    scores: AnyScores
    card: str
    examples: list[bytes]
    examples_are: str


def facts_of(run: Run, name: str, examples: list[Path] | None, own: bool) -> Facts:
    """The facts of a run of that name; `examples` are image files, by default (if `own`) some of its own images.

    Raises DataError for examples that are not there.
    """
    config = run.config
    files, are = _given(examples) if examples else _of_records(run) if own else ([], "")
    title = find_competition(config.competition, config).title
    return Facts(title, name, run.decision, run.scores, as_html(model_card(run, name)), files, are)


def as_html(markdown: str) -> str:
    """Markdown as HTML; HTML in it stays text, and its images and links are left out."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    return str(parser.render(markdown))


def _given(paths: list[Path]) -> tuple[list[bytes], str]:
    try:
        return [read_file(path) for path in find_images(paths)], "Images to try"
    except UnreadableImage as error:
        raise DataError(f"--examples: {error}") from error


def _of_records(run: Run) -> tuple[list[bytes], str]:
    """Images of the run's records, if these are beside it and hold images without steps; of its test set, if any."""
    try:
        records = records_of(run)
    except DataError:
        return [], ""
    if records is None or records.image.steps:  # preparing them again would change them
        return [], ""
    test = records.rows(None)
    rows, are = (
        (test, "Test images, which the models have not seen")
        if len(test)
        else (
            records.table[records.table["split"] == "train"],
            "Training images: the models have seen them and are surer of them than of new ones",
        )
    )
    ids = list(rows["id"].sample(min(_EXAMPLES, len(rows)), random_state=0))
    images = images_of(records, ids)
    return [encode(images[name], "png") for name in ids], are
