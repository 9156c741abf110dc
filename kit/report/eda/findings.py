"""What is odd about a folder of images: duplicates, side by side, leaks, and files that are missing or of no use."""

from collections.abc import Mapping, Sequence
from typing import Any

from kit.errors import counted, remarked, some
from kit.report import page

_KINDS = {  # of duplicates, the worst first: what a set of them is, and whether that is bad
    "across_classes": ("with different labels: one is wrong", "bad"),
    "across_boxes": ("with different boxes", "bad"),
    "across_splits": ("on two sides of a split: a leak", "bad"),
    "across_groups": ("in several groups: one can be on each side of a fold", "bad"),
    "within_class": ("of one label", ""),
}
_SETS, _OF_A_SET = 12, 4  # that are shown, and images of each
_NAMED = 5


def duplicates_to_show(checks: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Sets of ids with equal pixels to be shown, the worst first, each with its kind; none twice."""
    sets, seen = [], set()
    for kind in _KINDS:
        for ids in checks["duplicates"][kind]:
            if tuple(ids) not in seen:
                seen.add(tuple(ids))
                sets.append((kind, [*ids[:_OF_A_SET]]))
    return sets[:_SETS]


def blocks(
    checks: Mapping[str, Any], images: Mapping[str, bytes], texts: Mapping[str, str], complete: bool
) -> list[page.Block]:
    """What checks found (kit.data.table.check); `images` (JPEG) and `texts` of the duplicates to be shown, by id.

    `complete`: every image was looked at, not only a sample.
    """
    found: list[page.Block] = [page.Text(text, "warning") for text in _warnings(checks)]
    found += (
        [page.Text(_listed(checks["remarks"], checks["notes"]), "note")] if checks["remarks"] or checks["notes"] else []
    )
    sets = duplicates_to_show(checks)
    for kind, (words, tone) in _KINDS.items():
        numbered = enumerate((ids for of, ids in sets if of == kind), 1)
        shown = [
            page.Picture(images[name], name, texts[name], f"set {number}", tone)
            for number, ids in numbered
            for name in ids
            if name in images
        ]
        if shown:
            found.append(page.Gallery(shown, f"Images with the same pixels, {words}."))
    every = sum(len(checks["duplicates"][kind]) for kind in ("within_class", "across_classes"))
    if every:
        text = f"{checks['duplicates']['images']:,} images have the same pixels as another, in {counted(every, 'set')}"
        text += f"; {len(sets)} are shown, kit examples --check --json names all" if every > len(sets) else ""
        found.append(page.Text(f"{text}.", "note"))
    scope = "Every image was decoded" if complete else "Only the sample was decoded (--quick)"
    nothing = "" if found else " Nothing odd was found: no missing or unreadable file, no duplicate, no leak."
    return [page.Text(f"{scope}.{nothing}", "note"), *found]


def _warnings(checks: Mapping[str, Any]) -> list[str]:
    """What someone has to act on, a line each."""
    lines = []
    for what, words in (
        ("missing", ("expected image has no file", "expected images have no file")),
        ("surplus", ("image is in no table or class, and not used", "images are in no table or class, and not used")),
    ):
        if names := checks[what]:
            lines.append(f"{counted(len(names), *words)}: {some(names, _NAMED)}.")
    if bad := checks["unreadable"]:
        names = [f"{each['path']} ({each['reason']})" for each in bad]
        lines.append(f"{counted(len(bad), 'file', 'files')} cannot be read: {some(names, _NAMED)}.")
    for kind, (what, tone) in _KINDS.items():
        if (sets := checks["duplicates"][kind]) and tone:
            lines.append(f"{counted(len(sets), 'set')} of images with the same pixels {what}.")
    if groups := checks["groups_in_several_splits"]:
        line = counted(len(groups), "group (patient) is", "groups (patients) are")
        lines.append(f"{line} on two sides of the official split: {some(groups, _NAMED)}. Test scores may be too good.")
    return lines


def _listed(remarks: Mapping[str, int], notes: Sequence[str]) -> str:
    return "\n".join([*(f"Noticed: {remarked(count, what)}." for what, count in remarks.items()), *notes])
