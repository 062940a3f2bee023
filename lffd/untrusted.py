"""Files that come from outside: only regular ones are opened, and never more is read than was agreed."""

from __future__ import annotations

import os
import stat

from lffd.errors import DataError

MAX_FILE_BYTES = 1 << 32


def read_file(path: str | os.PathLike[str], start: int | None = None, most: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a regular file; a pipe or a device is refused without waiting for it.

    Args:
        path: the file; links are followed.
        start: only so many bytes from its start.
        most: the largest file that is read whole.

    Raises:
        DataError: when it cannot be read, is no file, or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise DataError(f"{path}: cannot be read: it is not a file")
        with open(descriptor, "rb", buffering=0) as stream:
            if start is not None:
                return stream.read(start)
            if found.st_size > most:
                raise DataError(f"{path}: has {found.st_size:,} bytes, more than the {most:,} that are read")
            return stream.readall()
    except FileNotFoundError:
        raise DataError(f"{path}: cannot be read: it does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
