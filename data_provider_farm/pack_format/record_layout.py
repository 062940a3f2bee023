"""One record of a pack: how it is framed in the `.rec` file (RecordIO), and what is inside.

RecordIO is the format of dmlc-core and MXNet. A record is one part, or several when its bytes hold the magic number at
a multiple of four. A part is `magic (4) | kind and length (4) | bytes | zeros up to a multiple of four`, little-endian;
the upper three bits of the second word say whether the part is whole (0), first (1), middle (2) or last (3), the lower
29 its length. Where a record is cut, the magic number itself is left out, and put back when it is read.

Inside are an image header that MXNet reads, a detection label, and the image's bytes.

The record is what `mx.recordio.unpack` takes apart: `flag (uint32) | label (float32) | id (uint64) | id2 (uint64)`,
then `flag` float32 numbers, then the image. `label` and `id2` are 0, `id` is the record's number in the pack. The
numbers follow the convention of `mx.image.ImageDetIter` and GluonCV: `header width, object width, …header…, objects`.

| position | header field |
|---|---|
| 0, 1 | header width, object width (10) |
| 2, 3 | width and height of the image in pixels |
| 4 | version of this layout (1) |
| 5 | number of boxes |
| 6, 7 | lower and upper half of a CRC-32 over 4 × `flag` (uint32), the numbers (these two as 0) and the image |
| 8 | length of the name in bytes |
| 9 … | the name in UTF-8, three bytes per number, the first byte lowest |

| column | object field |
|---|---|
| 0 | class: 0, or -1 for an ignored box, which other readers skip as they skip padding |
| 1–4 | x0, y0, x1, y1 as fractions of width and height, for other readers |
| 5–8 | x0, y0, x1, y1 in pixels, exactly as given |
| 9 | 1 for an ignored box, else 0 |

A float32 holds every whole number here exactly. `ImageDetIter` stops with an error at an image without a box of some
area, and passes over one whose boxes all have class -1. So an image without any box of some area gets one more row
after its boxes, with class -1, that covers the image. Field 5 does not count it.

Where boxes have points, there is such a row in any case, its column 5 is 1, and behind the image's bytes stand 15
float32 numbers per box: x, y in pixels and what is known, of each of the five points (see `lffd.points`). Decoders stop
at an image's end, so that readers which know nothing of points, older releases among them, read such records all the
same.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError
from lffd.points import COUNT, HIDDEN, SEEN, UNKNOWN, Points
from lffd.records import Record

Buffer = bytes | bytearray

MAGIC_NUMBER = 0xCED7230A
MAGIC = struct.pack("<I", MAGIC_NUMBER)
MAX_LENGTH = (1 << 29) - 1
HEADER_BYTES = 8
MAX_AHEAD = 1 << 24
"""Longest record that is read at once, in bytes: a damaged index must not make us read much in vain."""
WHOLE, FIRST, MIDDLE, LAST = range(4)

IMAGE_HEADER = struct.Struct("<IfQQ")
KEY_OFFSET = 8
FIXED_FIELDS = 9
OBJECT_WIDTH = 10
VERSION = 1
CRC_FIELD = 6
MAX_SIDE = 1 << 16
MAX_NAME_BYTES = 4096

Floats = NDArray[np.float32]

FIXED = struct.Struct(f"<{FIXED_FIELDS}f")
CRC = struct.Struct("<ff")
NOTHING_VISIBLE = np.array([-1, 0, 0, 1, 1, 0, 0, 0, 0, 1], "<f4").tobytes()
"""The row after the boxes of an image that has none with area."""
POINTS_COLUMN = 5
POINTS_FOLLOW = np.array([-1, 0, 0, 1, 1, 1, 0, 0, 0, 1], "<f4").tobytes()
"""The row after the boxes of an image whose points stand behind it."""


class Encoded(NamedTuple):
    """A record ready to write: all before the image, of a length that four divides, and the image with its points."""

    head: bytearray
    image: bytes


def encode_record(record: Record) -> Encoded:
    """Return the bytes of a record that `validate_record` accepts, with number 0; `set_key` gives it its own."""
    name = record.name.encode()
    letters = np.frombuffer(name + bytes(-len(name) % 3), np.uint8).reshape(-1, 3).astype("<f4")
    table = np.zeros((len(record.boxes), OBJECT_WIDTH), "<f4")
    table[:, 1:5] = record.boxes / np.array([record.width, record.height] * 2, np.float32)
    table[:, 5:9] = record.boxes
    table[:, 9] = record.ignored
    table[:, 0] -= table[:, 9]
    visible = bool((table[:, 3:5] > table[:, 1:3]).all(axis=1).any())
    width = FIXED_FIELDS + len(letters)
    fixed = (width, OBJECT_WIDTH, record.width, record.height, VERSION, len(record.boxes), 0, 0, len(name))
    words = letters @ np.array([1, 1 << 8, 1 << 16], "<f4")
    last, image = b"" if visible else NOTHING_VISIBLE, record.image
    if record.landmarks is not None:
        last, image = POINTS_FOLLOW, image + record.landmarks.astype("<f4").tobytes()
    label = FIXED.pack(*fixed) + words.tobytes() + table.tobytes() + last
    crc = _checksum(label, image)
    head = bytearray(IMAGE_HEADER.pack(len(label) // 4, 0.0, 0, 0)) + label
    CRC.pack_into(head, IMAGE_HEADER.size + 4 * CRC_FIELD, crc & 0xFFFF, crc >> 16)
    return Encoded(head, image)


def set_key(data: Encoded, key: int) -> None:
    """Write the record's number into encoded bytes."""
    struct.pack_into("<Q", data.head, KEY_OFFSET, key)


def decode_record(data: bytes, key: int, where: str) -> Record:
    """Return the record that `encode_record` and `set_key` made of its bytes; `where` names it in errors.

    Raises:
        DataError: when the bytes are damaged, belong to another record than number `key`, or have another layout.
    """
    label, image = _split(data, key, where)
    fixed: list[float] = label[:FIXED_FIELDS].tolist()
    if not all(0 <= number < 1 << 24 and number.is_integer() for number in fixed):  # false for NaN as well
        raise DataError(f"{where}: the label's header is not made of whole numbers; not written by this toolkit")
    header_width, object_width, width, height, _, boxes, _, _, name_bytes = map(int, fixed)
    rows, left = divmod(label.size - header_width, OBJECT_WIDTH)
    expected = (OBJECT_WIDTH, FIXED_FIELDS + -(-name_bytes // 3), 0)
    if (object_width, header_width, left) != expected or not rows - 1 <= boxes <= rows:
        raise DataError(f"{where}: the label contradicts itself; the pack was not written by this toolkit")
    objects = label[header_width:].reshape(rows, OBJECT_WIDTH)
    landmarks = None
    if (objects[boxes:, POINTS_COLUMN] == 1).any():
        image, landmarks = _split_points(image, boxes, where)
    objects = objects[:boxes]
    name = _unpack_name(label[FIXED_FIELDS:header_width], name_bytes, where)
    pixels = np.ascontiguousarray(objects[:, 5:9], np.float32)
    record = Record(name, image, width, height, pixels, objects[:, 9] != 0, landmarks)
    validate_record(record, where)
    return record


def _split_points(image: bytes, boxes: int, where: str) -> tuple[bytes, Points]:
    """Return the image, and the points `(boxes, 5, 3)` that stand behind it."""
    length = len(image) - 4 * 3 * COUNT * boxes
    if length <= 0:
        raise DataError(f"{where}: the label contradicts itself; the pack was not written by this toolkit")
    return image[:length], np.frombuffer(image, "<f4", offset=length).astype(np.float32).reshape(boxes, COUNT, 3)


def _split(data: bytes, key: int, where: str) -> tuple[Floats, bytes]:
    """Check the image header and the checksum; return the label's numbers and the image."""
    if len(data) < IMAGE_HEADER.size + 4 * FIXED_FIELDS:
        raise DataError(f"{where}: too short for a detection record ({len(data)} bytes)")
    count, _, number, number_high = IMAGE_HEADER.unpack_from(data)
    end = IMAGE_HEADER.size + 4 * count
    if not FIXED_FIELDS <= count <= (len(data) - IMAGE_HEADER.size) // 4:
        raise DataError(f"{where}: not a detection record of this toolkit, or damaged ({count} label numbers)")
    label = np.frombuffer(data, "<f4", count, IMAGE_HEADER.size)
    if label[4] != VERSION:
        layouts = f"label layout {label[4]:g}, expected {VERSION}"
        raise DataError(f"{where}: not written by this toolkit, by a newer release, or damaged ({layouts})")
    image = data[end:]
    blank = IMAGE_HEADER.size + 4 * CRC_FIELD
    crc = _checksum(data[IMAGE_HEADER.size : blank] + bytes(8) + data[blank + 8 : end], image)
    expected = np.array([crc & 0xFFFF, crc >> 16], "<f4").tobytes()
    if data[blank : blank + 8] != expected or data[4:8] != bytes(4) or number_high:
        raise DataError(f"{where}: damaged (its checksum does not fit); make the pack again")
    if number != key:
        hint = "rebuild it (lffd edit reindex)"
        raise DataError(f"{where}: the index leads to record {number} instead; {hint}")
    return label, image


def _checksum(label: bytes, image: bytes) -> int:
    """Return the CRC-32 over the number of label bytes, the label with blank checksum fields, and the image."""
    return zlib.crc32(image, zlib.crc32(label, zlib.crc32(struct.pack("<I", len(label)))))


def _unpack_name(words: Floats, length: int, where: str) -> str:
    """Return the name that `encode_record` packed."""
    if not ((words >= 0) & (words < 1 << 24)).all():  # false for NaN as well
        raise DataError(f"{where}: the name is not text; not written by this toolkit")
    data = words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()[:length]
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: the name is not UTF-8; not written by this toolkit") from error


def validate_record(record: Record, where: str) -> None:
    """Refuse a record that breaks a promise of `Record` or of this layout. Raises DataError, naming the fault."""
    check_frame(record.name, record.width, record.height, where)
    if not record.image:
        raise DataError(f"{where}: has no image bytes")
    boxes, ignored = record.boxes, record.ignored
    if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{where}: boxes must be float32 (N, 4), not {boxes.dtype} {boxes.shape}")
    if ignored.dtype != np.bool_ or ignored.shape != (len(boxes),):
        raise DataError(f"{where}: ignored must be bool ({len(boxes)},), not {ignored.dtype} {ignored.shape}")
    size = np.array([record.width, record.height] * 2, np.float32)
    # A comparison with NaN is false, so this also refuses boxes that are not numbers.
    good = ((boxes >= 0) & (boxes <= size)).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    if not good.all():
        bad, image = int(np.argmin(good)), f"the image of {record.width}x{record.height}"
        raise DataError(f"{where}: box {bad} {boxes[bad].tolist()} is not x0 <= x1, y0 <= y1 inside {image}")
    if record.landmarks is not None:
        _validate_points(record.landmarks, len(boxes), where)


def _validate_points(points: Points, boxes: int, where: str) -> None:
    """Refuse points that are not those of so many boxes."""
    if points.dtype != np.float32 or points.shape != (boxes, COUNT, 3):
        raise DataError(f"{where}: landmarks must be float32 ({boxes}, {COUNT}, 3), not {points.dtype} {points.shape}")
    if not np.isfinite(points).all() or not np.isin(points[:, :, 2], (UNKNOWN, HIDDEN, SEEN)).all():
        raise DataError(f"{where}: landmarks must be finite numbers, with 0 (unknown), 1 (hidden) or 2 (seen) as third")


def check_frame(name: str, width: int, height: int, where: str | Path) -> None:
    """Refuse a name or an image size that this layout cannot hold. Raises DataError, naming the fault."""
    # Text that is not Unicode, such as a file name of unknown encoding, is never printable.
    if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise DataError(f"{where}: a name needs 1 to {MAX_NAME_BYTES} bytes of printable text, not {name[:80]!r}")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise DataError(f"{where}: size {width}x{height} is outside 1–{MAX_SIDE} px")


def frame_record(head: Buffer, body: bytes) -> list[Buffer]:
    """Return the record `head + body` as the buffers to append to a `.rec` file; DataError when it is too long.

    The length of `head` is a multiple of four, and none of its words is the magic number. Nothing is copied unless the
    record holds that number.
    """
    length = len(head) + len(body)
    if length > MAX_LENGTH:
        raise DataError(f"a record of {length:,} bytes is over RecordIO's limit of {MAX_LENGTH:,}")
    words = np.frombuffer(body, "<u4", len(body) // 4) == MAGIC_NUMBER
    cuts: list[int] = (len(head) + 4 * np.flatnonzero(words)).tolist() if words.any() else []
    padding = bytes(-length % 4)
    if not cuts:
        return [_part_header(WHOLE, length), head, body, padding]
    data, pieces, start = bytes(head) + body, list[Buffer](), 0
    for cut in cuts:
        pieces += [_part_header(MIDDLE if start else FIRST, cut - start), data[start:cut]]
        start = cut + len(MAGIC)
    return [b"".join([*pieces, _part_header(LAST, length - start), data[start:], padding])]


def _part_header(kind: int, length: int) -> bytes:
    return MAGIC + struct.pack("<I", kind << 29 | length)


def read_record(descriptor: int, offset: int, file_size: int, where: str, expected_end: int = 0) -> tuple[bytes, int]:
    """Return the bytes of the record that starts at `offset`, and the offset just after it.

    Args:
        descriptor: of the open `.rec` file; its position is not moved, so many threads may share it.
        offset: first byte of the record.
        file_size: of the `.rec` file; nothing longer is ever allocated.
        where: names the file and the record in errors.
        expected_end: where the record seems to end, right or wrong: up to there it is read at once, which is faster.

    Raises:
        DataError: when there is no whole record at `offset`.
    """
    pieces: list[bytes] = []
    start, near = offset, 0 <= offset < expected_end <= min(file_size, offset + MAX_AHEAD)
    ahead = _read_exactly(descriptor, expected_end - offset, offset, where) if near else b""

    def read(length: int, offset: int) -> bytes:
        if offset + length <= start + len(ahead):
            return ahead[offset - start : offset - start + length]
        return _read_exactly(descriptor, length, offset, where)

    while True:
        if offset % 4 or not 0 <= offset <= file_size - HEADER_BYTES:
            raise DataError(f"{where}: no record can start at byte {offset:,} of a file of {file_size:,}")
        magic, word = struct.unpack("<II", read(HEADER_BYTES, offset))
        kind, length = word >> 29, word & MAX_LENGTH
        if magic != MAGIC_NUMBER:
            raise DataError(f"{where}: no record starts at byte {offset:,}; the file or its index is damaged")
        if kind not in ((MIDDLE, LAST) if pieces else (WHOLE, FIRST)):
            raise DataError(f"{where}: the file is damaged (parts out of order at byte {offset:,})")
        padded = length + -length % 4
        offset += HEADER_BYTES
        if padded > file_size - offset:
            needs = f"needs {padded:,} bytes from {offset:,}, the file has {file_size:,}"
            raise DataError(f"{where}: the file is cut short or damaged ({needs})")
        pieces.append(read(length, offset))
        offset += padded
        if kind in (WHOLE, LAST):
            return (MAGIC.join(pieces) if len(pieces) > 1 else pieces[0]), offset


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
