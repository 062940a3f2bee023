"""A window of an image, scaled, mirrored and drawn into a crop, with the exact place of every pixel.

Coordinates are continuous: pixel (0, 0) covers 0–1 both ways, and scaling by `s` moves a point to `s` times itself.
`cv2.resize` follows the same rule, and is three times as fast as a general affine warp; but it can only start at a
whole source pixel. So the window asked for moves by at most half a crop pixel, and says by how much.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.decoding import Image, Scratch, decode_image, reduction_for
from lffd.boxes import Boxes, flip_horizontal
from lffd.records import Record


class CropWindow(NamedTuple):
    """Which part of a scaled image becomes a crop.

    Attributes:
        scale: crop pixels per image pixel.
        left, top: the window's corner in the scaled image, in crop pixels; what lies outside the image is black.
        width, height: of the window in crop pixels.
        mirror: whether the finished window is mirrored left to right.
    """

    scale: float
    left: float
    top: float
    width: int
    height: int
    mirror: bool = False

    def boxes(self, boxes: Boxes) -> Boxes:
        """Return boxes `(N, 4)` of the image in coordinates of the crop, not clipped."""
        corner = np.array([self.left, self.top, self.left, self.top])
        moved = (boxes.astype(np.float64) * self.scale - corner).astype(np.float32)
        return flip_horizontal(moved, self.width) if self.mirror else moved


class _Span(NamedTuple):
    """One axis of a window, in whole pixels.

    Attributes:
        first, last: the source pixels that are resized.
        offset: where the first of them starts in the crop.
        left: the window's exact start in the scaled image.
    """

    first: int
    last: int
    offset: int
    left: float

    @classmethod
    def of(cls, left: float, length: int, scale: float, pixels: int) -> _Span:
        """Align a window of `length` crop pixels from `left` with `pixels` source pixels."""
        if scale > 1:
            # One more source pixel on each side keeps the interpolation at the window's edges right.
            first = min(max(math.floor(left / scale) - 1, 0), pixels)
            last = max(min(math.ceil((left + length) / scale) + 1, pixels), first)
            offset = round(first * scale - left)
        else:
            # Source pixels are finer than the crop's: the window can start at one of them and end with another.
            first = min(max(round(left / scale), 0), pixels)
            offset = max(round(first * scale - left), 0)
            count = min(math.ceil((length - offset + 0.5) / scale), pixels - first)
            while count > 0 and round(count * scale) > length - offset:
                count -= 1
            last = first + max(count, 0)
        return cls(first, last, offset, first * scale - offset)


def draw_window(
    record: Record, window: CropWindow, out: NDArray[np.uint8], scratch: Scratch | None = None
) -> CropWindow:
    """Decode a record's image and draw a window of it.

    Args:
        record: the encoded image.
        window: which part.
        out: `(window.height, window.width, 3)` uint8, BGR; every pixel is written, black outside the image.
        scratch: memory to use again.

    Returns:
        The window as drawn, moved by at most half a crop pixel: the boxes that fit the pixels are its `boxes`.

    Raises:
        BadRecordError: when the image cannot be decoded.
    """
    scratch = scratch or Scratch()
    reduction = reduction_for(window.scale, record.width, record.height)
    scale = window.scale * reduction
    across = _Span.of(window.left, window.width, scale, -(-record.width // reduction))
    down = _Span.of(window.top, window.height, scale, -(-record.height // reduction))
    image = decode_image(record, reduction, scratch, rows=down.last)
    _draw(image, across, down, out, scratch, scale=scale, mirror=window.mirror)
    return window._replace(left=across.left, top=down.left)


def _draw(
    image: Image, across: _Span, down: _Span, out: Image, scratch: Scratch, *, scale: float, mirror: bool
) -> None:
    """Resize the part of a decoded image between two spans into `out`; `scale` is crop pixels per pixel of it."""
    import cv2

    columns, rows = round((across.last - across.first) * scale), round((down.last - down.first) * scale)
    x0, x1 = max(across.offset, 0), min(across.offset + columns, out.shape[1])
    y0, y1 = max(down.offset, 0), min(down.offset + rows, out.shape[0])
    if x0 >= x1 or y0 >= y1:
        out[:] = 0
        return
    source = image[down.first : down.last, across.first : across.last]
    left, top = x0 - across.offset, y0 - down.offset
    if mirror:
        x0, x1 = out.shape[1] - x1, out.shape[1] - x0
    part = out[y0:y1, x0:x1]
    # Without a target size, OpenCV keeps the exact factor instead of the ratio of the rounded sizes.
    if part.shape[:2] == (rows, columns):
        cv2.resize(source, None, part, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        if mirror:
            cv2.flip(part, 1, part)
    else:
        space = scratch.array("resized", rows, columns)
        resized = cv2.resize(source, None, space, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        piece = resized[top : top + y1 - y0, left : left + x1 - x0]
        if mirror:
            cv2.flip(piece, 1, part)
        else:
            part[:] = piece
    for border in (out[:y0], out[y1:], out[y0:y1, :x0], out[y0:y1, x1:]):
        if border.size:
            border.fill(0)
