"""Text from elsewhere is shown, not obeyed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.kaggle.output import log_text
from kit.kaggle.text import shortened, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümlaut 数据 😀\ttab\nline\r\n", "plain, ümlaut 数据 😀\ttab\nline\n"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b2J", r"\x9b2J"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("100%\rdone\b\b", r"100%\rdone\x08\x08"),
        ("file\u202egpj.exe", r"file\u202egpj.exe"),
        ("\u2066a\u2069 \u200f \u2028", r"\u2066a\u2069 \u200f \u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_would_move_the_cursor_is_an_escape(text, shown):
    assert visible(text) == shown
    shown.encode()


@given(st.text())
def test_nothing_but_printable_text_comes_out(text):
    shown = visible(text)
    shown.encode()
    assert all(character in "\n\t" or ord(character) >= 32 for character in shown)
    assert "\x7f" not in shown and not any(0x80 <= ord(character) < 0xA0 for character in shown)
    assert visible(shown) == shown


def test_messages_have_an_end():
    assert len(shortened("x" * 10**6)) < 2100 and shortened("one\nline\r\n") == r"one line\r "


@pytest.mark.parametrize("log", ["null", "7", "[7]", '[{"data": {"a": "\\u001b"}}]', "[" * 99999, "\x1b[2J"])
def test_a_log_of_any_shape_is_text(log):
    assert "\x1b" not in log_text(log)
