"""Axis-aligned boxes as `(N, 4)` float32 arrays of `x0, y0, x1, y1` in pixels.

Coordinates are continuous: a box covers `x1 - x0` by `y1 - y0` pixels. Protocols that count the border pixel
(WIDER FACE, the published suppression) pass `border=1`. Every function takes the empty `(0, 4)` array.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lffd.errors import UsageError

Boxes = NDArray[np.float32]

Overlap = Literal["iou", "own-area"]


def as_boxes(boxes: ArrayLike) -> Boxes:
    """Return `boxes` as a `(N, 4)` float32 array; an empty list becomes `(0, 4)`.

    Raises:
        ValueError: when the input cannot be read as rows of four.
    """
    array = np.asarray(boxes, dtype=np.float32)
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), not {array.shape}")
    return array


def longer_sides(boxes: Boxes) -> NDArray[np.float32]:
    """Return the longer side of each box, `(N,)` in pixels."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])


def areas(boxes: Boxes, border: float = 0) -> NDArray[np.float32]:
    """Return the area of each box, `(N,)`; inverted boxes have area 0."""
    width = np.maximum(boxes[:, 2] - boxes[:, 0] + border, 0)
    height = np.maximum(boxes[:, 3] - boxes[:, 1] + border, 0)
    return width * height


def clip(boxes: Boxes, width: float, height: float) -> Boxes:
    """Clip boxes to an image of `width` × `height`; a box outside becomes degenerate, not removed."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)


def shift(boxes: Boxes, dx: float, dy: float) -> Boxes:
    """Move boxes by `(dx, dy)` pixels."""
    return boxes + np.array([dx, dy, dx, dy], np.float32)


def scale(boxes: Boxes, x_factor: float, y_factor: float | None = None) -> Boxes:
    """Multiply coordinates by `x_factor` and `y_factor` (the same by default)."""
    y_factor = x_factor if y_factor is None else y_factor
    return boxes * np.array([x_factor, y_factor, x_factor, y_factor], np.float32)


def flip_horizontal(boxes: Boxes, width: float) -> Boxes:
    """Mirror boxes left to right inside an image of `width` pixels."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped


def intersections(first: Boxes, second: Boxes, border: float = 0) -> NDArray[np.float32]:
    """Return the `(N, M)` areas shared by each box of `first` `(N, 4)` and of `second` `(M, 4)`."""
    x0 = np.maximum(first[:, None, 0], second[None, :, 0])
    y0 = np.maximum(first[:, None, 1], second[None, :, 1])
    x1 = np.minimum(first[:, None, 2], second[None, :, 2])
    y1 = np.minimum(first[:, None, 3], second[None, :, 3])
    return np.maximum(x1 - x0 + border, 0) * np.maximum(y1 - y0 + border, 0)


def iou(first: Boxes, second: Boxes, border: float = 0) -> NDArray[np.float32]:
    """Return the `(N, M)` intersection over union; 0 where both areas are 0."""
    shared = intersections(first, second, border)
    union = areas(first, border)[:, None] + areas(second, border)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(
    boxes: Boxes, scores: NDArray[np.float32], threshold: float, overlap: Overlap = "iou", limit: int | None = None
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Args:
        boxes: `(N, 4)`.
        scores: `(N,)`; ties keep the earlier box.
        threshold: a box that overlaps a better kept one by more than this is dropped.
        overlap: `iou`, or `own-area`: the published LFFD rule, which divides the intersection (sides counted with
            one more pixel) by the lower-scored box's own area, without one more pixel.
        limit: stop after so many kept boxes.

    Returns:
        Indices of the kept boxes, best first.
    """
    if overlap not in ("iou", "own-area"):
        raise UsageError(f"unknown suppression {overlap!r}: choose iou or own-area")
    order = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = boxes[order].T
    own = (x1 - x0) * (y1 - y0)
    border = 1.0 if overlap == "own-area" else 0.0
    alive = np.arange(order.size)
    kept: list[int] = []
    while alive.size and (limit is None or len(kept) < limit):
        best, rest = alive[0], alive[1:]
        kept.append(int(best))
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + border
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + border
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        whole = own[rest] if overlap == "own-area" else own[best] + own[rest] - shared
        alive = rest[shared <= threshold * whole]
    return order[kept]
