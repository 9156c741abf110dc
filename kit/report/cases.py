"""Images to look at: galleries of what is right, wrong and doubtful, labels that may be wrong, and explanations."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kit.evaluate.cases import choose
from kit.evaluate.label_errors import CLASS
from kit.report.page import Block, Gallery, Picture, Section, Table, Text, number
from kit.schemas import Explanation

FEW = 3  # labels, up to which galleries take the images of all of them together
_OF_FEW, _OF_EACH = 12, 3  # images of a kind: of all labels together, of each of many
_LISTED = 24  # labels that may be wrong, on the page; the file has all

TITLES = {
    "false positive": "False alarms: called, and not there by its label. The surest come first.",
    "false negative": "Missed: there by its label, and not called. Those that the model was surest of come first.",
    "unsure": "Least sure: nearest to the cut; another cut, or another day's training, might decide otherwise.",
    "best": "Right and sure: the smallest errors, of each truth in turn.",
}


def in_short(judged: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """So many images that are right and as many that are wrong, most surely both: the cases for the top of the page.

    `judged` is the table of kit.evaluate.cases.judge.
    """
    is_wrong = judged["error"] != ""
    right = choose(judged[~judged["id"].isin(judged["id"][is_wrong])], "best", count)
    if len(right) < count:  # of many labels, an image is rarely right in all
        right = choose(judged[~is_wrong], "best", count)
    errors = [
        choose(judged[judged["error"] == error], "worst", count) for error in ("false negative", "false positive")
    ]
    wrong = pd.concat(errors).sort_index(kind="stable").drop_duplicates("id").head(count)  # of each in turn
    return pd.concat([right, wrong], ignore_index=True)


def kinds(judged: pd.DataFrame, labels: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The cases of each of `TITLES`: of few labels together, else some of each label."""
    if len(labels) <= FEW:
        return {kind: choose(judged, kind, _OF_FEW) for kind in TITLES}
    parts = [judged[judged["label"] == label] for label in labels[:16]]
    return {kind: pd.concat([choose(part, kind, _OF_EACH) for part in parts], ignore_index=True) for kind in TITLES}


def gallery(cases: pd.DataFrame, pictures: Mapping[str, bytes], caption: str, width: int) -> list[Block]:
    """Pictures of the cases that there are, by id; no block where there are none."""
    shown = [_picture(case, pictures[case["id"]]) for case in _rows(cases) if case["id"] in pictures]
    return [Gallery(shown, caption, width)] if shown else []


def section(
    galleries: Mapping[str, pd.DataFrame], pictures: Mapping[str, bytes], width: int, note: str = ""
) -> Section:
    """The galleries by kind, of pictures of at least so many pixels; `note` says what is drawn over them."""
    blocks: list[Block] = [Text(note, "note")] if note and pictures else []
    for kind, table in galleries.items():
        blocks += gallery(table, pictures, TITLES[kind], width)
        if table.empty and pictures and kind.startswith("false"):
            blocks.append(Text(f"{TITLES[kind].partition(':')[0]}: none.", "note"))
    return Section("Images to look at", "cases", blocks)


def label_errors(table: pd.DataFrame, pictures: Mapping[str, bytes], file: str, images: int) -> Section:
    """Labels that are likely wrong (kit.evaluate.label_errors), the first of them with pictures; `file` has all."""
    title, anchor = "Labels to look at again", "labels-to-check"
    if table.empty:
        return Section(title, anchor, [])
    count = len(table)
    text = (
        f"{number(count)} of {number(images)} labels look wrong to the model: it is surer of another one than it is, "
        f"in the mean, of the images that have it (confident learning). Many will be right, and the model wrong. All "
        f"are in {file}."
    )
    rows = table.head(_LISTED)
    shown = [
        Picture(
            pictures[row["id"]],
            f"{row['id']}, given {_called(row, 'given')}",
            f"\nsuggested: {_called(row, 'suggested')}\n{row['id']}",
            f"given: {_called(row, 'given')}",
        )
        for row in _rows(rows)
        if row["id"] in pictures
    ]
    if shown:
        return Section(title, anchor, [Text(text), Gallery(shown)])
    cells = [[str(row["id"]), _called(row, "given"), _called(row, "suggested"), number(row["score"])] for row in
             rows.to_dict("records")]  # fmt: skip
    caption = "The likeliest errors. Score: how much is left for the given label (0: nothing)."
    return Section(title, anchor, [Text(text), Table(["image", "given", "suggested", "score"], cells, caption, 3)])


def explanations(entries: Sequence[Explanation], pictures: Mapping[str, bytes]) -> Section:
    """What the model looked at: the pictures of `kit explain`, by file."""
    shown = []
    for entry in entries:
        if entry.file in pictures:
            lines = ["", f"{entry.label} {_probability(entry.p)}", f"truth: {_known(entry.truth)}", entry.id]
            alt = f"what spoke for {entry.label} in {entry.id}"
            shown.append(Picture(pictures[entry.file], alt, _lines(lines), entry.kind))
    caption = (
        "Where the probability of the label came from: bright regions raised it most. Bright is not the same as ill; a "
        "map that points beside the finding says that the model may have learnt something else."
    )
    return Section("What the model looked at", "explanations", [Gallery(shown, caption, 200)] if shown else [])


def _picture(case: Mapping[str, Any], image: bytes) -> Picture:
    label, truth, decision = case["label"], case["truth"], case["decision"]
    lines = [f"truth: {_known(truth)}", f"called: {decision}"]
    badge, tone = "", ""
    if isinstance(truth, str):
        wrong = {label: "false alarm", f"not {label}": "missed"} if f"not {label}" in (truth, decision) else {}
        badge, tone = ("right", "good") if truth == decision else (wrong.get(decision, "wrong"), "bad")
    text = _lines(["", *lines, f"{label} {_probability(case['p'])}", case["id"]])
    return Picture(image, f"image {case['id']}; {'; '.join(lines)}", text, badge, tone)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _called(row: Mapping[Any, Any], column: str) -> str:
    if row["label"] == CLASS:
        return str(row[column])
    return str(row["label"]) if str(row[column]) == "1" else f"not {row['label']}"


def _known(value: Any) -> str:
    return "not known" if value is None or value != value else str(value)


def _probability(p: Any) -> str:
    return number(float(p)) if isinstance(p, int | float) else "–"


def _lines(parts: Sequence[Any]) -> str:
    return "\n".join(map(str, parts))
