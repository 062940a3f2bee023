"""From a record's encoded image to pixels, at full or reduced size."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError
from lffd.images.jpeg_rows import STOPPED_EARLY, frame_size, lower_height
from lffd.records import Record, RecordSource

Image = NDArray[np.uint8]

REDUCTIONS = (8, 4, 2, 1)
MIN_REDUCED_SIDE = 32
MAX_PIXELS = 1 << 28


class BadRecordError(DataError):
    """A record that cannot be used; `record` is the one, and the message names it."""

    def __init__(self, record: Record, fault: str) -> None:
        super().__init__(f"record {record.name!r}: {fault}")
        self.record = record


class Scratch:
    """Memory that one thread uses again and again: fresh pages cost as much as half a resize."""

    def __init__(self) -> None:
        self._buffers: dict[str, Image] = {}

    def array(self, name: str, height: int, width: int) -> Image:
        """Return `(height, width, 3)` uint8 with undefined content, valid until `name` is asked for again."""
        needed = height * width * 3
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < needed:
            buffer = self._buffers[name] = np.empty(needed, np.uint8)
        return buffer[:needed].reshape(height, width, 3)


@dataclass(frozen=True)
class CachedRecord(Record):
    """A record that knows where its decoded pixels are kept."""

    index: int = field(kw_only=True)
    source: CachedSource = field(kw_only=True, repr=False)


class CachedSource:
    """A record source that keeps decoded images in memory until `byte_limit` is used up; the pixels stay the same.

    Which records are kept depends on which come first. Dropping old ones for new ones would gain nothing: every
    record is equally likely to be next. Safe from many threads.

    Args:
        source: where the records come from.
        byte_limit: memory for encoded and decoded images together, in bytes.
    """

    def __init__(self, source: RecordSource, byte_limit: int) -> None:
        self._source = source
        self._left = int(byte_limit)
        self._records: dict[int, CachedRecord] = {}
        self._images: dict[tuple[int, int], Image] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> CachedRecord:
        kept = self._records.get(index)
        if kept is not None:
            return kept
        record = self._source[index]
        values = {item.name: getattr(record, item.name) for item in fields(Record)}
        cached = CachedRecord(**values, index=index, source=self)
        if self._reserve(len(record.image)):
            self._records[index] = cached
        return cached

    def decoded(self, record: CachedRecord, reduction: int, scratch: Scratch) -> Image:
        """Return what `decode_image` returns, from memory where it is kept; do not write to it."""
        key = (record.index, reduction)
        kept = self._images.get(key)
        if kept is not None:
            return kept
        image = _decode(record, reduction, scratch)
        if self._reserve(image.nbytes):
            self._images[key] = image = image.copy()
        return image

    def _reserve(self, count: int) -> bool:
        """Take `count` bytes of what is left, if that is enough."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True


def reduction_for(scale: float, width: int, height: int) -> int:
    """Return the largest factor of 1, 2, 4, 8 by which an image may be decoded smaller before it is scaled.

    Args:
        scale: how the full image is to be scaled; the reduced one still shrinks after decoding, by less than two.
        width: of the full image in pixels.
        height: of the full image in pixels; very small ones are never reduced.
    """
    if min(width, height) < MIN_REDUCED_SIDE:
        return 1
    return next((factor for factor in REDUCTIONS if scale * factor <= 1), 1)


def decode_image(record: Record, reduction: int = 1, scratch: Scratch | None = None, rows: int | None = None) -> Image:
    """Decode a record's image; EXIF orientation is not applied, as the boxes are those of the stored pixels.

    Args:
        record: JPEG, or anything else that OpenCV reads.
        reduction: 1, 2, 4 or 8: pixel (x, y) of the result covers the square of that side at `reduction` × (x, y).
        scratch: where to put the pixels; the result is then valid until the next decoding with it.
        rows: how many rows of the result are needed, from the top; all by default.

    Returns:
        `(ceil(height / reduction), ceil(width / reduction), 3)` uint8, BGR; with `rows`, perhaps without some below
        them. Treat it as read-only.

    Raises:
        BadRecordError: when its image is seen to be damaged (with `rows`, see `jpeg_rows`), too large, or has another
            size than the record says.
    """
    scratch = scratch or Scratch()
    if isinstance(record, CachedRecord):
        return record.source.decoded(record, reduction, scratch)
    return _decode(record, reduction, scratch, rows)


def _decode(record: Record, reduction: int, scratch: Scratch, rows: int | None = None) -> Image:
    if record.width * record.height > MAX_PIXELS:
        fault = f"{record.width}x{record.height} is more than {MAX_PIXELS:,} pixels; pack it smaller (--max-side)"
        raise BadRecordError(record, fault)
    if record.image[:2] == b"\xff\xd8":
        return _decode_jpeg(record, reduction, scratch, rows)
    return _decode_other(record, reduction)


def _decode_jpeg(record: Record, reduction: int, scratch: Scratch, rows: int | None) -> Image:
    """Decode a JPEG, letting the inverse transform do the reduction."""
    frame = frame_size(record.image)
    if frame is None:
        raise BadRecordError(record, "the JPEG is damaged: it has no frame header; make the pack again")
    height, width, place = frame
    _check_size(record, height, width)
    if rows is not None and place is not None:
        shortened = lower_height(record.image, place, rows * reduction, height)
        image = None if shortened is None else _decode_shortened(*shortened, width, reduction, scratch)
        if image is not None:
            return image
    try:
        return _decode_bytes(record.image, height, width, reduction, scratch)
    except ValueError as error:
        raise BadRecordError(record, f"the JPEG is damaged: {error}; make the pack again") from error


def _decode_bytes(data: bytes | bytearray, height: int, width: int, reduction: int, scratch: Scratch) -> Image:
    """Decode a JPEG of a known size; ValueError when it is damaged."""
    import simplejpeg

    rows, columns = -(-height // reduction), -(-width // reduction)
    buffer = scratch.array("decoded", rows, columns).reshape(-1)
    # The fast transform and the plain enlargement of the colours move a pixel by a third of a grey level on average,
    # far less than the jitter does, and save an eighth of the time.
    image: Image = simplejpeg.decode_jpeg(
        data,
        "BGR",
        fastdct=True,
        fastupsample=True,
        min_height=rows,
        min_width=columns,
        min_factor=reduction,
        buffer=buffer,
    )
    return image


def _decode_shortened(data: bytearray, height: int, width: int, reduction: int, scratch: Scratch) -> Image | None:
    """Decode a JPEG that `lower_height` shortened; None when anything but its early end was found wrong."""
    try:
        return _decode_bytes(data, height, width, reduction, scratch)
    except ValueError as error:
        if STOPPED_EARLY not in str(error):
            return None
    # Of several faults libjpeg tells the first one; this one comes after the last row.
    return scratch.array("decoded", -(-height // reduction), -(-width // reduction))


def _decode_other(record: Record, reduction: int) -> Image:
    """Decode any other format with OpenCV, then average squares of pixels."""
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(record.image, np.uint8), flags) if record.image else None
    except cv2.error as error:
        raise BadRecordError(record, f"OpenCV cannot decode the image: {error.err}") from error
    if image is None:
        raise BadRecordError(record, f"not an image, or damaged ({len(record.image):,} bytes)")
    _check_size(record, *image.shape[:2])
    if reduction > 1:
        below, right = -image.shape[0] % reduction, -image.shape[1] % reduction
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
        size = (image.shape[1] // reduction, image.shape[0] // reduction)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(image, np.uint8)


def _check_size(record: Record, height: int, width: int) -> None:
    """Refuse an image whose size differs from the record's."""
    if (width, height) != (record.width, record.height):
        said = f"{record.width}x{record.height}"
        raise BadRecordError(record, f"the record says {said} pixels, the image has {width}x{height}; make it again")
