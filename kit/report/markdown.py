"""Markdown from data: tables, and text that stays text."""

from collections.abc import Sequence

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>|#"})


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(content: str) -> str:
    """Any text, on one line, as text in Markdown."""
    return " ".join(str(content).split()).translate(_MARKS)
