"""From a record's encoded image to pixels, at full or reduced size, as fast as the data loader needs it.

What is read from headers, the limits and every format but JPEG are those of `lffd.images`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError
from lffd.images.encoded import PACKED_PIXELS, check_size, decode, shrink
from lffd.images.jpeg import STOPPED_EARLY, check_scans, is_jpeg, lower_height, parse_jpeg
from lffd.records import Record, RecordSource

Image = NDArray[np.uint8]

REDUCTIONS = (8, 4, 2, 1)
MIN_REDUCED_SIDE = 32


class BadRecordError(DataError):
    """A record that cannot be used; `record` is the one, and the message names it."""

    def __init__(self, record: Record, fault: str) -> None:
        super().__init__(f"record {record.name!r}: {fault}")
        self.record = record


class Scratch(threading.local):
    """Memory that each thread uses again and again, its own: fresh pages cost as much as half a resize."""

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

    That counts encoded and decoded images. Which records are kept depends on which come first: dropping old ones for
    new ones would gain nothing, as every record is equally likely to be next. Safe from many threads.
    """

    def __init__(self, source: RecordSource, byte_limit: int) -> None:
        self._source, self._left = source, int(byte_limit)
        self._records: dict[int, CachedRecord] = {}
        self._images: dict[tuple[int, int], Image] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> CachedRecord:
        if index in self._records:
            return self._records[index]
        record = self._source[index]
        values = {item.name: getattr(record, item.name) for item in fields(Record)}
        cached = CachedRecord(**values, index=index, source=self)
        if self._reserve(len(record.image)):
            self._records[index] = cached
        return cached

    def decoded(self, record: CachedRecord, reduction: int, scratch: Scratch) -> Image:
        """Return what `decode_image` returns, from memory where it is kept; do not write to it."""
        key = (record.index, reduction)
        if key in self._images:
            return self._images[key]
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
    """Return the largest factor of 1, 2, 4, 8 by which an image of `width`×`height` may be decoded smaller.

    `scale` is that of the full image; the reduced one still shrinks after decoding, by less than two. Very small images
    are never reduced.
    """
    if min(width, height) < MIN_REDUCED_SIDE:
        return 1
    return next((factor for factor in REDUCTIONS if scale * factor <= 1), 1)


def decode_image(record: Record, reduction: int = 1, scratch: Scratch | None = None, rows: int | None = None) -> Image:
    """Decode a record's image; EXIF orientation is not applied, as the boxes are those of the stored pixels.

    Args:
        record: JPEG, or any other format of `lffd.images.encoded`.
        reduction: 1, 2, 4 or 8: pixel (x, y) of the result covers the square of that side at `reduction` × (x, y).
        scratch: where to put the pixels; the result is then valid until the next decoding with it.
        rows: how many rows of the result are needed, from the top; all by default.

    Returns:
        `(ceil(height / reduction), ceil(width / reduction), 3)` uint8, BGR; with `rows`, perhaps without some below
        them. Treat it as read-only.

    Raises:
        BadRecordError: when its image is seen to be damaged (with `rows`, see `lffd.images.jpeg`), too large, or has
            another size than the record says.
    """
    scratch = scratch or Scratch()
    if isinstance(record, CachedRecord):
        return record.source.decoded(record, reduction, scratch)
    return _decode(record, reduction, scratch, rows)


def _decode(record: Record, reduction: int, scratch: Scratch, rows: int | None = None) -> Image:
    """Decode without looking into a cache."""
    try:
        if record.width * record.height > PACKED_PIXELS:
            raise DataError(f"{record.width}x{record.height} is more than {PACKED_PIXELS:,} pixels (--max-side)")
        if not is_jpeg(record.image):
            return _reduce(decode(record.image, "its image", size=(record.width, record.height)), reduction)
        header = parse_jpeg(record.image, "its image")
        check_size((header.width, header.height), (record.width, record.height), "its image")
        check_scans(record.image, header, "its image")
        shortened = None if rows is None else lower_height(record.image, header, rows * reduction)
        if shortened is not None:
            try:
                return _decode_jpeg(*shortened, header.width, reduction, scratch)
            except DataError as error:
                # Of several faults libjpeg tells the first one; this one comes after the last row.
                if STOPPED_EARLY in str(error):
                    return scratch.array("decoded", -(-shortened[1] // reduction), -(-header.width // reduction))
        return _decode_jpeg(record.image, header.height, header.width, reduction, scratch)
    except DataError as error:
        raise BadRecordError(record, f"{error}; make the pack again") from error


def _decode_jpeg(data: bytes | bytearray, height: int, width: int, reduction: int, scratch: Scratch) -> Image:
    """Decode a JPEG of a known size, letting the inverse transform do the reduction."""
    import simplejpeg

    rows, columns = -(-height // reduction), -(-width // reduction)
    buffer = scratch.array("decoded", rows, columns).reshape(-1)
    # The fast transform and the plain enlargement of the colours move a pixel by a third of a grey level on average,
    # far less than the jitter does, and save an eighth of the time.
    speed = {"fastdct": True, "fastupsample": True, "min_factor": reduction}
    try:
        image = simplejpeg.decode_jpeg(data, "BGR", min_height=rows, min_width=columns, buffer=buffer, **speed)
        return np.asarray(image, np.uint8)
    except ValueError as error:
        raise DataError(f"the JPEG is damaged: {error}") from error


def _reduce(image: Image, reduction: int) -> Image:
    """Return a whole image with squares of `reduction` pixels averaged."""
    import cv2

    if reduction == 1:
        return image
    below, right = -image.shape[0] % reduction, -image.shape[1] % reduction
    image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
    return shrink(image, image.shape[1] // reduction, image.shape[0] // reduction)
