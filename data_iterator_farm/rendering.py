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
from lffd.points import Points, flip
from lffd.records import Record


class CropWindow(NamedTuple):
    """Which part of a scaled image becomes a crop.

    Attributes:
        scale: crop pixels per image pixel.
        left, top: the window's corner in the scaled image, in crop pixels; what lies outside the image is black.
        width, height: of the window in crop pixels.
        mirror: whether the finished window is mirrored left to right.
        upside_down: whether it is mirrored top to bottom.
    """

    scale: float
    left: float
    top: float
    width: int
    height: int
    mirror: bool = False
    upside_down: bool = False

    def boxes(self, boxes: Boxes) -> Boxes:
        """Return boxes `(N, 4)` of the image in coordinates of the crop, not clipped."""
        corner = np.array([self.left, self.top, self.left, self.top])
        moved = (boxes.astype(np.float64) * self.scale - corner).astype(np.float32)
        if self.upside_down:
            moved[:, [1, 3]] = self.height - moved[:, [3, 1]]
        return flip_horizontal(moved, self.width) if self.mirror else moved

    def points(self, points: Points) -> Points:
        """Return points `(N, 5, 3)` of the image in coordinates of the crop; a mirror makes left ones right ones."""
        corner = np.array([self.left, self.top, 0])
        moved = (points.astype(np.float64) * (self.scale, self.scale, 1) - corner).astype(np.float32)
        for axis, (flipped, length) in enumerate(((self.mirror, self.width), (self.upside_down, self.height))):
            moved = flip(moved, axis, length) if flipped else moved
        return moved


class Origin(NamedTuple):
    """Where a crop's pixels come from: a window of a record's image, with its upper left corner at `x`, `y`."""

    name: str
    window: CropWindow
    x: int = 0
    y: int = 0


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
    """Decode a record's image and draw a window of it; `scratch` is memory to use again.

    Every pixel of `out`, `(window.height, window.width, 3)` uint8, BGR, is written, black outside the image.

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
    source = image[down.first : down.last, across.first : across.last]
    _draw(source, (across.offset, down.offset), out, scratch, scale=scale, flips=(window.mirror, window.upside_down))
    return window._replace(left=across.left, top=down.left)


def _draw(
    source: Image, offset: tuple[int, int], out: Image, scratch: Scratch, *, scale: float, flips: tuple[bool, bool]
) -> None:
    """Resize `source` into `out` at the offset `(x, y)`; `flips`: exchange left and right, top and bottom."""
    import cv2

    rows, columns = (round(length * scale) for length in source.shape[:2])
    (x, y), (height, width) = offset, out.shape[:2]
    x0, x1, y0, y1 = max(x, 0), min(x + columns, width), max(y, 0), min(y + rows, height)
    if x0 >= x1 or y0 >= y1:
        out[:] = 0
        return
    shown = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
    if flips[0]:
        x0, x1 = width - x1, width - x0
    if flips[1]:
        y0, y1 = height - y1, height - y0
    part = out[y0:y1, x0:x1]
    whole = part.shape[:2] == (rows, columns)
    space = part if whole else scratch.array("resized", rows, columns)
    # Without a target size, OpenCV keeps the exact factor instead of the ratio of the rounded sizes.
    resized = cv2.resize(source, None, space, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)[shown]
    axes = {(True, False): 1, (False, True): 0, (True, True): -1}.get(flips)  # as OpenCV numbers them
    if axes is not None:
        cv2.flip(resized, axes, part)
    elif not whole:
        part[:] = resized
    for border in (out[:y0], out[y1:], out[y0:y1, :x0], out[y0:y1, x1:]):
        border[...] = 0
