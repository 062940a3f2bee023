"""Errors as users see them: one line of bounded length, whatever they repeat."""

from __future__ import annotations

from lffd.errors import LONGEST_MESSAGE, DataError, LffdError, UsageError


def test_a_message_is_one_line() -> None:
    assert str(DataError("a\nb\r\nc\u2028d")) == "a\\nb\\nc\\nd"
    assert str(LffdError("plain")) == "plain"
    assert not isinstance(UsageError("x"), ValueError)  # tyro would draw a box around it


def test_a_long_message_keeps_its_ends() -> None:
    text = str(DataError(f"begin {'x' * 10**6} end"))
    assert len(text) <= LONGEST_MESSAGE
    assert text.startswith("begin x")
    assert text.endswith("x end")
