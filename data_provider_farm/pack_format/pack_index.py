"""The index of a pack, `NAME.idx`: one line per record, with its number and where it starts in `NAME.rec`."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

from data_provider_farm.pack_format.record_layout import decode_record
from data_provider_farm.pack_format.recordio import read_record
from lffd.errors import DataError, UsageError

KEY_DIGITS, OFFSET_DIGITS = 10, 15
LINE_BYTES = KEY_DIGITS + OFFSET_DIGITS + 2


def index_path(path: str | os.PathLike[str]) -> Path:
    """Return the index that belongs to a `.rec` file.

    Raises:
        UsageError: when `path` does not end in `.rec`.
    """
    pack = Path(path)
    if pack.suffix != ".rec":
        raise UsageError(f"{pack}: the name of a pack must end in .rec")
    return pack.with_suffix(".idx")


def rebuild_hint(path: Path) -> str:
    """Return what to do about a damaged index."""
    return f"rebuild it with: python -m data_provider_farm.edit reindex {path.with_suffix('.rec')}"


def index_line(key: int, offset: int) -> bytes:
    """Return one line of the index."""
    return b"%010d\t%015d\n" % (key, offset)


def parse_line(line: bytes, key: int, path: Path) -> int:
    """Return the start of record `key` from its line of the index at `path`.

    Raises:
        DataError: when the line is not that record's.
    """
    offset = line[KEY_DIGITS + 1 : -1]
    # Comparing with the line as we would write it refuses every other spelling of a number at once.
    if not offset.isdigit() or line != index_line(key, int(offset)):
        raise DataError(f"{path}: line {key + 1} is damaged: {line!r}; {rebuild_hint(path)}")
    return int(offset)


def hinted_offset(line: bytes) -> int:
    """Return the start of a record from its line of the index, unchecked; 0 when there is none to be seen."""
    digits = line[KEY_DIGITS + 1 : -1]
    return int(digits) if digits.isdigit() else 0


def write_index(path: Path, offsets: array[int]) -> None:
    """Write the index of records that start at `offsets`, whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("wb") as stream:
        stream.writelines(index_line(key, offset) for key, offset in enumerate(offsets))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def scan_records(descriptor: int, path: Path) -> tuple[array[int], int]:
    """Read records from the start until one is damaged or the file ends.

    Returns:
        Where each whole record starts, and where the last one ends.
    """
    offsets, end = array("Q"), 0
    size = os.fstat(descriptor).st_size
    while end < size:
        where = f"{path}: record {len(offsets)}"
        try:
            data, after = read_record(descriptor, end, size, where)
            decode_record(data, len(offsets), where)
        except DataError:
            break
        offsets.append(end)
        end = after
    return offsets, end
