"""RecordIO framing: how a byte string becomes one record of a `.rec` file.

The format is the one of dmlc-core and MXNet. A record is one part, or several when its bytes hold the magic number at
a multiple of four. A part is `magic (4) | kind and length (4) | bytes | zeros up to a multiple of four`, little-endian;
the upper three bits of the second word say whether the part is whole (0), first (1), middle (2) or last (3), the lower
29 its length. Where a record is cut, the magic number itself is left out, and put back when it is read.
"""

from __future__ import annotations

import os
import struct

import numpy as np

from lffd.errors import DataError

Buffer = bytes | bytearray

MAGIC_NUMBER = 0xCED7230A
MAGIC = struct.pack("<I", MAGIC_NUMBER)
MAX_LENGTH = (1 << 29) - 1
HEADER_BYTES = 8
MAX_AHEAD = 1 << 24
"""Longest record that is read at once, in bytes: a damaged index must not make us read much in vain."""
WHOLE, FIRST, MIDDLE, LAST = range(4)


def frame_record(head: Buffer, body: bytes) -> list[Buffer]:
    """Return one record, `head` followed by `body`, as the buffers to append to a `.rec` file.

    Nothing is copied unless the record holds the magic number.

    Args:
        head: its first bytes; their number is a multiple of four, and none of its words is the magic number.
        body: the rest.

    Raises:
        DataError: when the record is longer than a record can be.
    """
    length = len(head) + len(body)
    if length > MAX_LENGTH:
        raise DataError(f"a record of {length:,} bytes is over RecordIO's limit of {MAX_LENGTH:,}")
    cuts = [len(head) + cut for cut in _magic_positions(body)]
    padding = bytes(-length % 4)
    if not cuts:
        return [_part_header(WHOLE, length), head, body, padding]
    data, pieces, start = bytes(head) + body, list[Buffer](), 0
    for cut in cuts:
        pieces += [_part_header(MIDDLE if start else FIRST, cut - start), data[start:cut]]
        start = cut + len(MAGIC)
    return [b"".join([*pieces, _part_header(LAST, length - start), data[start:], padding])]


def _magic_positions(data: bytes) -> list[int]:
    """Return the multiples of four at which `data` holds the magic number."""
    words = np.frombuffer(data, "<u4", len(data) // 4)
    found = words == MAGIC_NUMBER
    return (4 * np.flatnonzero(found)).tolist() if found.any() else []


def _part_header(kind: int, length: int) -> bytes:
    return MAGIC + struct.pack("<I", kind << 29 | length)


class _FilePart:
    """Bytes of a file by position: those read ahead, or else from the disk.

    Args:
        descriptor: of the open file; its position is neither used nor moved.
        where: names the file and the record in errors.
        start, ahead: the bytes from `start` to just before `ahead` are read at once.
    """

    def __init__(self, descriptor: int, where: str, start: int, ahead: int) -> None:
        self._descriptor, self.where, self._start = descriptor, where, start
        self._data = _read_exactly(descriptor, ahead - start, start, where) if ahead > start else b""

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`."""
        first = offset - self._start
        if first + length <= len(self._data):
            return self._data[first : first + length]
        return _read_exactly(self._descriptor, length, offset, self.where)


def read_record(descriptor: int, offset: int, file_size: int, where: str, expected_end: int = 0) -> tuple[bytes, int]:
    """Read the record that starts at `offset`, without moving the file's position.

    Args:
        descriptor: of the open `.rec` file; many threads may share it.
        offset: first byte of the record.
        file_size: of the `.rec` file; nothing longer is ever allocated.
        where: names the file and the record in errors.
        expected_end: where the record seems to end: up to there it is read at once, which is faster. It need not be
            right.

    Returns:
        The record's bytes, and the offset just after it.

    Raises:
        DataError: when there is no whole record at `offset`.
    """
    pieces: list[bytes] = []
    near = 0 <= offset < expected_end <= min(file_size, offset + MAX_AHEAD)
    part = _FilePart(descriptor, where, offset, expected_end if near else offset)
    while True:
        kind, length = _read_part_header(part, offset, file_size)
        if kind not in ((MIDDLE, LAST) if pieces else (WHOLE, FIRST)):
            raise DataError(f"{where}: the file is damaged (parts out of order at byte {offset:,})")
        padded = length + -length % 4
        offset += HEADER_BYTES
        if padded > file_size - offset:
            raise DataError(
                f"{where}: the file is cut short or damaged (needs {padded:,} bytes from {offset:,}, "
                f"the file has {file_size:,})"
            )
        pieces.append(part.read(length, offset))
        offset += padded
        if kind in (WHOLE, LAST):
            return (MAGIC.join(pieces) if len(pieces) > 1 else pieces[0]), offset


def _read_part_header(part: _FilePart, offset: int, file_size: int) -> tuple[int, int]:
    """Return the kind and the length of the part at `offset`."""
    if offset % 4 or not 0 <= offset <= file_size - HEADER_BYTES:
        raise DataError(f"{part.where}: no record can start at byte {offset:,} of a file of {file_size:,}")
    header = part.read(HEADER_BYTES, offset)
    if not header.startswith(MAGIC):
        raise DataError(f"{part.where}: no record starts at byte {offset:,}; the file or its index is damaged")
    word: int = struct.unpack("<I", header[4:])[0]
    return word >> 29, word & MAX_LENGTH


def _read_exactly(descriptor: int, length: int, offset: int, where: str) -> bytes:
    """Return `length` bytes from `offset`; the file may have shrunk since it was opened."""
    try:
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                raise DataError(f"{where}: the file was cut short while it was open (at byte {offset + len(data):,})")
            data += more
    except OSError as error:
        raise DataError(f"{where}: cannot be read at byte {offset:,}: {error.strerror or error}") from error
    return data
