"""Areas shared by ellipses and rectangles, as FDDB compares them; exact for rectangles.

An affine map takes an ellipse to the unit circle and any polygon to a polygon, and scales all areas alike. What a
circle and a polygon share has a closed form: along each edge, a triangle where the edge is inside the circle and a
sector where it is outside.

Ellipses are `(N, 5)` float64 rows `major, minor, angle, x, y`: the two radii in pixels, the angle of the major axis in
radians from the x axis towards the y axis, the centre. Regions are polygons `(N, V, 2)`, x and y of their corners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ELLIPSE_CORNERS = 360


def rectangle_corners(rectangles: Floats) -> Floats:
    """Return the four corners `(N, 4, 2)` of rectangles `(N, 4)` `x0, y0, x1, y1`."""
    return rectangles[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def ellipse_corners(ellipses: Floats, count: int = _ELLIPSE_CORNERS) -> Floats:
    """Return polygons `(N, count, 2)` of the same area as the ellipses.

    With the default number of corners, what such a polygon shares with another region is off by less than 1e-4 of the
    ellipse's area.
    """
    major, minor, angle, x, y = ellipses[:, :, None].transpose(1, 0, 2)
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    growth = np.sqrt(2 * np.pi / count / np.sin(2 * np.pi / count))  # the inscribed polygon is a little smaller
    along, across = growth * major * np.cos(turn), growth * minor * np.sin(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], axis=-1)


def clip_polygons(polygons: Floats, width: float = np.inf, height: float = np.inf) -> Floats:
    """Return polygons with the part outside an image cut off.

    Every corner outside is moved to the image's border. The outline then runs along the border where it ran outside,
    which encloses the same area as the cut polygon: exactly for rectangles along the axes, and up to the length of one
    edge at each crossing for others.
    """
    return np.clip(polygons, 0, [width, height])


def polygon_areas(polygons: Floats) -> Floats:
    """Return the areas `(N,)` enclosed by polygons."""
    following = np.roll(polygons, -1, axis=1)
    return np.abs(_cross(polygons, following).sum(axis=1)) / 2


def shared_with_ellipse(ellipses: Floats, polygons: Floats) -> Floats:
    """Return the areas `(N,)` that each ellipse `(N, 5)` shares with the polygon `(N, V, 2)` of its row, in px²."""
    major, minor, angle, x, y = ellipses.T
    offset = polygons - np.stack([x, y], axis=-1)[:, None]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    along = (offset[..., 0] * cos + offset[..., 1] * sin) / major[:, None]
    across = (offset[..., 1] * cos - offset[..., 0] * sin) / minor[:, None]
    return _shared_with_unit_circle(np.stack([along, across], axis=-1)) * major * minor


def _shared_with_unit_circle(polygons: Floats) -> Floats:
    """Return the areas `(N,)` that polygons share with the unit circle around the origin."""
    start, end = polygons, np.roll(polygons, -1, axis=1)
    step = end - start
    squared = (step * step).sum(axis=-1)
    half = (start * step).sum(axis=-1)
    # |start + t·step| = 1 is a quadratic in t; its roots, cut to 0–1, bound the part of the edge inside the circle.
    discriminant = half * half - squared * ((start * start).sum(axis=-1) - 1)
    crosses = (discriminant > 0) & (squared > 0)
    root = np.sqrt(np.where(crosses, discriminant, 0))
    divisor = np.where(crosses, squared, 1)
    enter = np.where(crosses, np.clip((-half - root) / divisor, 0, 1), 1)[..., None]
    leave = np.where(crosses, np.clip((-half + root) / divisor, 0, 1), 1)[..., None]
    # An uncut end must stay the corner itself: rounded, it could lie on another side of the centre.
    first = np.where(enter < 1, start + enter * step, end)
    last = np.where(leave < 1, start + leave * step, end)
    return np.abs((_sector(start, first) + _cross(first, last) / 2 + _sector(last, end)).sum(axis=1))


def _sector(start: Floats, end: Floats) -> Floats:
    """Return the signed area of the circle's sector between the directions of two points."""
    return np.arctan2(_cross(start, end), (start * end).sum(axis=-1)) / 2


def _cross(first: Floats, second: Floats) -> Floats:
    """Return the cross product of vectors along the last axis."""
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
