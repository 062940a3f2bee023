"""What the markers of a JPEG say: size, components, EXIF orientation, scans, end; and a JPEG of its upper rows alone.

A baseline JPEG is coded from top to bottom in rows of blocks. When the height in its frame header is lowered, the
decoder stops there, and the rows above come out the same to the bit. What is lost: libjpeg tells of a bit that flipped
inside the coded pixels only when it stumbles over the consequences further down, and these may now lie in the part that
is not read. Packs are guarded by a checksum; `lffd pack --verify full` finds what was damaged before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from lffd.errors import DataError

START, END, SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL = (0xC0, 0xC1)
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
START_OF_SCAN, RESTART_INTERVAL, APP1 = 0xDA, 0xDD, 0xE1
ORIENTATION_TAG, SHORT = 0x0112, 3

MAX_SCANS, MAX_SCANNED_PIXELS = 200, 3 << 29
"""A progressive JPEG has some ten scans; 5 ns for each pixel in each of them make eight seconds at most."""

BLOCK_ROWS = 16
"""Rows of one row of blocks with halved colour; one such row more is kept than is needed."""

STOPPED_EARLY = "extraneous bytes before marker 0xd9"
"""What libjpeg says when it finds the end marker further on than the lowered height made it expect."""


@dataclass(frozen=True)
class JpegHeader:
    """What the markers before a JPEG's first scan say.

    Attributes:
        width, height: as stored, in pixels.
        channels: 1 (gray), 3 (colour) or 4 (CMYK).
        orientation: EXIF orientation, 1 (upright) to 8.
        orientation_at: byte of the low half of that number, where the tag is there.
        scan_at: byte of the first scan's marker.
        one_scan: all pixels lie in one scan, coded from top to bottom.
        height_at: byte of the height, if it can be lowered: one scan, without restart markers, which the decoder cannot
            tell from a fault at the end.
    """

    width: int
    height: int
    channels: int
    orientation: int
    orientation_at: int | None
    scan_at: int
    one_scan: bool
    height_at: int | None


def is_jpeg(data: bytes) -> bool:
    """Return whether `data` begins like a JPEG."""
    return data.startswith(START + b"\xff")


def parse_jpeg(data: bytes, where: str | Path, mend: bool = False) -> JpegHeader:
    """Read a JPEG's header; `data` may stop after it. With `mend`, bytes between markers are passed over.

    Raises:
        DataError: when the header is cut short or impossible; `where` names the image.
    """
    position, frame_at, restarts = 2, None, False
    exif: tuple[int, int | None] = (1, None)
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            if not mend:
                raise DataError(f"{where}: the JPEG is damaged: a marker is missing at byte {position}")
            position = (data.find(b"\xff", position) + 1 or len(data) + 1) - 1
            continue
        if marker == 0xFF or marker in BARE_MARKERS:  # fill bytes, markers without a body
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in FRAME_MARKERS and min(length, len(data) - position - 2) >= 8:
            frame_at = position
        elif marker == APP1 and data.startswith(b"Exif\0\0", position + 4):
            found = _find_orientation(data[position + 10 : position + 2 + length])
            exif = exif if found is None else (found[0], position + 10 + found[1])
        elif marker == START_OF_SCAN and frame_at is not None:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, frame_at + 4)
            if bits != 8 or not width or not height or channels not in (1, 3, 4):
                kind = f"{width}x{height}, {channels} channels of {bits} bits"
                raise DataError(f"{where}: a JPEG of {kind} is not supported")
            one_scan = data[frame_at + 1] in SEQUENTIAL and data[position + 4 : position + 5] == bytes([channels])
            height_at = frame_at + 5 if one_scan and not restarts else None
            return JpegHeader(width, height, channels, *exif, position, one_scan, height_at)
        restarts = restarts or marker == RESTART_INTERVAL
        position += 2 + max(length, 2)
    raise DataError(f"{where}: the JPEG is damaged: it is cut short inside its header")


def _find_orientation(tiff: bytes) -> tuple[int, int] | None:
    """Return the orientation in an EXIF block and the byte of its low half, if it is there and valid."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    directory = struct.unpack_from(order + "I", tiff, 4)[0]
    if directory + 2 > len(tiff):
        return None
    for entry in range(struct.unpack_from(order + "H", tiff, directory)[0]):
        start = directory + 2 + 12 * entry
        if start + 12 > len(tiff):
            return None
        tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, start)
        if tag == ORIENTATION_TAG:
            valid = kind == SHORT and count == 1 and 1 <= value <= 8
            return (value, start + (8 if order == "<" else 9)) if valid else None
    return None


def check_whole(data: bytes, header: JpegHeader, where: str | Path) -> None:
    """Refuse, with a DataError, a JPEG without its end marker; what comes after it is nobody's business."""
    if data.rfind(END) < header.scan_at:
        raise DataError(f"{where}: the JPEG file is truncated: cut short before its end marker")


def check_scans(data: bytes, header: JpegHeader, where: str | Path) -> None:
    """Refuse, with a DataError, a JPEG that would take minutes to decode: each scan may visit every pixel."""
    # Inside coded pixels a byte of 255 is never followed by this one, so markers can be counted without a walk.
    scans = 1 if header.one_scan else data.count(SCAN, header.scan_at)
    if scans > MAX_SCANS or scans * header.width * header.height > MAX_SCANNED_PIXELS:
        raise DataError(f"{where}: the JPEG of {header.width}x{header.height} has {scans:,} scans, too many to decode")


def upright(data: bytes, header: JpegHeader) -> bytes:
    """Return the JPEG with its EXIF orientation set to 1; the picture's own bytes stay as they are."""
    if header.orientation_at is None or header.orientation == 1:
        return data
    return data[: header.orientation_at] + b"\x01" + data[header.orientation_at + 1 :]


def lower_height(data: bytes, header: JpegHeader, rows: int) -> tuple[bytearray, int] | None:
    """Return a JPEG that ends early and its height, at least `rows`; None when it cannot, or would not be shorter."""
    kept = (-(-rows // BLOCK_ROWS) + 1) * BLOCK_ROWS
    if header.height_at is None or kept >= header.height:
        return None
    shortened = bytearray(data)
    shortened[header.height_at : header.height_at + 2] = kept.to_bytes(2, "big")
    return shortened, kept
