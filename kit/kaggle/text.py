"""Text from a server or a log, safe to show on a terminal."""

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # Unicode's control, format (bidi), surrogate and separator characters
_LONGEST = 2000  # characters of a message


def visible(text: str) -> str:
    """The text with everything that would move the cursor, change colours or reorder letters written as an escape.

    Line feeds and tabs stay; a carriage return before a line feed is left out.
    """
    return "".join(_escaped(character) for character in str(text).replace("\r\n", "\n"))


def shortened(text: str) -> str:
    """`visible` text of a message, on one line, and cut where it is absurdly long."""
    line = " ".join(str(text).split("\n"))
    return visible(line[:_LONGEST]) + (" ..." if len(line) > _LONGEST else "")


def _escaped(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
