"""The guard for what comes from outside: files, texts, numbers, values in messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lffd.errors import DataError
from lffd.untrusted import is_below, parse_number, parse_whole, read_file, read_text, shown


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "/dev/full", "."])
def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is not a file"):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "does not exist"),
        ("a\0b", r"'.*a\\x00b': cannot be read: no file can have this name"),
        ("a\ud800b", r"a\\ud800b': cannot be read: no file can have this name"),
        ("n" * 5000, "File name too long"),
    ],
)
def test_names_that_no_file_can_have(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_file(tmp_path / name)


def test_no_more_is_read_than_was_agreed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfabcdef")
    assert read_file(path, 4) == b"\xef\xbb\xbfa"
    assert read_file(path) == b"\xef\xbb\xbfabcdef"
    assert read_text(path) == "abcdef"
    with pytest.raises(DataError, match="has 9 bytes, more than the 8 that are read"):
        read_file(path, most=8)
    path.write_bytes(b"a\xff")
    with pytest.raises(DataError, match=r"is not UTF-8 text \(byte 1\)"):
        read_text(path)


@pytest.mark.parametrize("text", ["1_0", "one", "", "9" * 5000, "0x10"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(DataError, match=r"^here: it must be a number, not ") as caught:
        parse_number(text, "here", "it")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["-1", "1_0", "1.0", "", "٣", "²", "1" * 16, "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(DataError, match=r"^here: expected a count, found ") as caught:
        parse_whole(text, "here", "a count")
    assert len(str(caught.value)) < 200


def test_numbers() -> None:
    assert parse_number(" -1.5e3 ", "here", "it") == -1500
    assert parse_whole(" 0042\n", "here", "a count") == 42


def test_any_value_is_shown_in_short() -> None:
    nested: list[object] = []
    for _ in range(60):
        nested = [nested, nested]  # written out, this has 2 ** 60 brackets
    for value in (nested, "x" * 10**6, 10**5000, {1: nested}, [0] * 10**6, None):
        assert len(shown(value)) < 400
        assert "\n" not in shown(value)


@pytest.mark.parametrize(
    ("name", "below"),
    [("a.jpg", True), ("sub/../a.jpg", True), ("../a.jpg", False), ("/etc/passwd", False), ("sub/../../b", False)],
)
def test_what_stays_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, below: bool) -> None:
    assert is_below(tmp_path / name, tmp_path) == below
    monkeypatch.chdir(tmp_path)
    assert is_below(Path(".") / name, Path(".")) == below
