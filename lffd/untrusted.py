"""Files that come from outside: only regular ones are opened, and never more is read than was agreed."""

from __future__ import annotations

import os
import stat

from lffd.errors import DataError

MAX_FILE_BYTES = 1 << 32


def open_file(path: str | os.PathLike[str]) -> int:
    """Return a descriptor for reading a regular file; a pipe or a device is refused without waiting for it.

    Raises:
        DataError: when it cannot be opened, or is no file. Links are followed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataError(f"{path}: cannot be read: it does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path}: cannot be read: it is not a file")
    return descriptor


def read_file(path: str | os.PathLike[str], start: int | None = None, most: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a regular file, or only `start` of them; a file of more than `most` is not read whole.

    Raises:
        DataError: when it cannot be read, is no file, or is too large.
    """
    with open(open_file(path), "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if start is None and size > most:
            raise DataError(f"{path}: has {size:,} bytes, more than the {most:,} that are read")
        try:
            return stream.readall() if start is None else stream.read(start)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
