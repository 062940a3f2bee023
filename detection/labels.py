"""Texts beside boxes, inside the picture and apart from each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes, intersections


def place_labels(
    boxes: Boxes, sizes: Sequence[tuple[int, int] | None], picture: tuple[int, int], everywhere: bool = False
) -> list[tuple[int, int] | None]:
    """Return the upper left corner of each text `(x, y)`, or None where it has no place.

    A text stands above its box, else below, beside or in it: at the first of these places that is inside the picture,
    apart from the texts of boxes before it, and, if there is such a place, off all other boxes.

    Args:
        boxes: `(N, 4)` xyxy in pixels, the more important first.
        sizes: width and height of each text in pixels, None for a box without one.
        picture: its width and height.
        everywhere: put a text without a free place over others, instead of leaving it out.
    """
    width, height = picture
    taken = np.zeros((len(sizes), 4), np.float32)
    count, places = 0, list[tuple[int, int] | None]()
    for index, size in enumerate(sizes):
        spots = np.zeros((0, 4), np.float32) if size is None else _spots(boxes[index], size, width)
        inside = (spots[:, 1] >= 0) & (spots[:, 3] <= height) & (spots[:, 0] >= 0) & (spots[:, 2] <= width)
        free = inside & ~(intersections(spots, taken[:count]) > 0).any(axis=1)
        hit = intersections(spots, boxes) > 0
        hit[:, index] = False
        clear = free & ~hit.any(axis=1)
        choice = next((int(np.argmax(found)) for found in (clear, free, inside & everywhere) if found.any()), None)
        if choice is None:
            places.append(None)
            continue
        taken[count] = spots[choice]
        count += 1
        places.append((int(spots[choice, 0]), int(spots[choice, 1])))
    return places


def _spots(box: NDArray[np.float32], size: tuple[int, int], width: int) -> NDArray[np.float32]:
    """Return the rectangles `(9, 4)` where a box's text may stand, the best first; moved in at the picture's sides."""
    x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
    across, down = size
    left, right = (max(0, min(x, width - across)) for x in (x0, x1 - across))
    rows = [
        *((left, y0 - down), (left, y1), (right, y0 - down), (right, y1)),
        *((x1, y0), (x0 - across, y0), (x1, y1 - down)),
        *((left, max(y0, 0)), (left, y1 - down)),
    ]
    return np.array([(x, y, x + across, y + down) for x, y in rows], np.float32)
