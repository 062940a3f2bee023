"""Five points of each face as `(N, 5, 3)` float32 arrays: x and y in pixels, and what is known of each point.

The points are, for an upright face, the eye on the image's left, the other eye, the nose, the mouth's corner on the
image's left, the other corner. The third number is COCO's: 0 for a point that is not known (its x and y mean nothing),
1 for one that is known but hidden, 2 for one that shows. Coordinates are continuous, as those of `lffd.boxes`; points
may lie outside of their box and image. Where no face of an image has points, `None` stands for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]

NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""What files call the points; left and right are the image's, for an upright face."""
COUNT = len(NAMES)
UNKNOWN, HIDDEN, SEEN = 0, 1, 2
MIRRORED = [1, 0, 2, 4, 3]
"""Which point each one becomes in a mirror: a mirrored left eye looks like a right one."""


def known(points: Points) -> NDArray[np.bool_]:
    """Return which faces `(N,)` have all five points."""
    flags: NDArray[np.bool_] = (points[:, :, 2] > UNKNOWN).all(axis=1)
    return flags


def shift(points: Points, dx: float, dy: float) -> Points:
    """Move points by `(dx, dy)` pixels."""
    return points + np.array([dx, dy, 0], np.float32)


def scale(points: Points, x_factor: float, y_factor: float) -> Points:
    """Multiply coordinates by `x_factor` and `y_factor`."""
    return points * np.array([x_factor, y_factor, 1], np.float32)


def flip(points: Points, axis: int, length: float) -> Points:
    """Mirror points along an axis (0 for x, 1 for y) inside an image of `length` pixels there; left becomes right."""
    mirrored = points[:, MIRRORED]
    mirrored[:, :, axis] = length - mirrored[:, :, axis]
    return mirrored


def forget_outside(points: Points, width: float, height: float) -> Points:
    """Return the points with those outside of an image of `width` × `height` pixels as not known."""
    kept = points.copy()
    kept[((points[:, :, :2] < 0) | (points[:, :, :2] > (width, height))).any(axis=2)] = UNKNOWN
    return kept


def join(parts: Iterable[tuple[Points | None, int]]) -> Points | None:
    """Return the points of several images, each with its number of faces, one after the other."""
    listed = list(parts)
    if all(points is None for points, _ in listed):
        return None
    return np.concatenate(
        [np.zeros((count, COUNT, 3), np.float32) if points is None else points for points, count in listed]
    )
