"""The guard for everything that comes from outside: files, texts, numbers, values in messages.

Only regular files are opened, and size, digits and nesting are bounded before time or memory is spent.
"""

from __future__ import annotations

import os
import reprlib
import stat
from pathlib import Path

from lffd.errors import DataError, LffdError

MAX_FILE_BYTES, MAX_TEXT_BYTES = 1 << 32, 1 << 30
MAX_DIGITS, MAX_NUMBER_LENGTH = 15, 60

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlevel = 3


def open_file(path: str | os.PathLike[str], refusal: type[LffdError] = DataError) -> int:
    """Return a descriptor for reading a regular file; a pipe or a device is refused without waiting for it.

    Raises:
        DataError: or the `refusal` given, when it cannot be opened, or is no file. Links are followed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refusal(f"{path}: cannot be read: it does not exist") from None
    except OSError as error:
        raise refusal(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise refusal(f"{shown(str(path))}: cannot be read: no file can have this name") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refusal(f"{path}: cannot be read: it is not a file")
    return descriptor


def read_file(
    path: str | os.PathLike[str],
    start: int | None = None,
    most: int = MAX_FILE_BYTES,
    refusal: type[LffdError] = DataError,
) -> bytes:
    """Return the bytes of a regular file, or only `start` of them; a file of more than `most` is not read whole.

    Raises:
        DataError: or the `refusal` given, when it cannot be read, is no file, or is too large.
    """
    with open(open_file(path, refusal), "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if start is None and size > most:
            raise refusal(f"{path}: has {size:,} bytes, more than the {most:,} that are read")
        try:
            return stream.readall() if start is None else stream.read(start)
        except OSError as error:
            raise refusal(f"{path}: cannot be read: {error.strerror}") from error


def is_below(path: Path, folder: Path) -> bool:
    """Return whether a path, as written, stays in a folder; links inside are the owner's own."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a UTF-8 text file (a byte order mark is dropped).

    Raises:
        DataError: when it cannot be read, is too large or is not text.
    """
    try:
        return read_file(path, most=MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def parse_number(text: str, where: str, what: str) -> float:
    """Return a number; `nan` and `inf` are numbers too, digits with underscores are not.

    Raises:
        DataError: when `text` is no number.
    """
    try:
        if "_" not in text and len(text) <= MAX_NUMBER_LENGTH:
            return float(text)
    except ValueError:
        pass
    raise DataError(f"{where}: {what} must be a number, not {shown(text.strip())}")


def parse_whole(text: str, where: str, expected: str) -> int:
    """Return a whole number from 0 on of at most 15 digits.

    Raises:
        DataError: when `text` is not such a number; `expected` says what was, in words.
    """
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdecimal() and len(stripped) <= MAX_DIGITS):
        raise DataError(f"{where}: expected {expected}, found {shown(stripped)}")
    return int(stripped)


def shown(value: object) -> str:
    """Return a value for an error message: short, on one line, however long and nested it is."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python writes no number of over 4,300 digits
        return f"a {type(value).__name__} of thousands of digits"
