"""Faces made unknowable: the pixels of each are replaced by a few means, from which nothing more can be had.

A blur with a kernel can be undone in part where the kernel is known. Here a region keeps at most `CELLS` × `CELLS`
colours, however large it is; `pixelate` shows them as squares, `blur` runs them into each other. Pixels are replaced,
and no copy of the old ones is kept: what is written of the picture holds no thumbnail and no metadata.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes

Hiding = Literal["blur", "pixelate"]

CELLS = 6
"""Cells along the longer side of a region at most: some five across a face."""

SMALLEST_CELL = 8
"""Pixels; a face of 10 px becomes one or two cells and not six of the size of a pixel."""

MARGIN = 0.15
"""How much is hidden around a box on each side, in its sides: hair, chin and ears, and the error of a detection."""


def hide(image: NDArray[np.uint8], boxes: Boxes, how: Hiding) -> NDArray[np.uint8]:
    """Return a copy of an image `(H, W, 3)` uint8 in which what is in the boxes `(N, 4)` cannot be recognised."""
    import cv2

    hidden = image.copy()
    height, width = image.shape[:2]
    for x0, y0, x1, y1 in boxes.astype(float).tolist():
        across, down = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
        left, top = max(math.floor(x0 - across), 0), max(math.floor(y0 - down), 0)
        right, bottom = min(math.ceil(x1 + across), width), min(math.ceil(y1 + down), height)
        if right <= left or bottom <= top:
            continue
        cell = max((right - left) / CELLS, (bottom - top) / CELLS, SMALLEST_CELL)
        size = max(1, math.floor((right - left) / cell)), max(1, math.floor((bottom - top) / cell))
        means = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
        shape = cv2.INTER_NEAREST if how == "pixelate" else cv2.INTER_LINEAR
        hidden[top:bottom, left:right] = cv2.resize(means, (right - left, bottom - top), interpolation=shape)
    return hidden
