"""Axis-aligned boxes as `(N, 4)` float32 arrays of `x0, y0, x1, y1` in pixels.

Coordinates are continuous: a box covers `x1 - x0` by `y1 - y0` pixels. Protocols that count the border pixel
(WIDER FACE, the published suppression) pass `border=1`. Every function takes the empty `(0, 4)` array.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lffd.errors import UsageError

Boxes = NDArray[np.float32]

Overlap = Literal["iou", "own-area"]


def as_boxes(boxes: ArrayLike) -> Boxes:
    """Return `boxes` as a `(N, 4)` float32 array; an empty list becomes `(0, 4)`; ValueError for other shapes."""
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
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def intersections(first: Boxes, second: Boxes, border: float = 0) -> NDArray[np.float32]:
    """Return the `(N, M)` areas shared by each box of `first` `(N, 4)` and of `second` `(M, 4)`."""
    x0, y0 = (np.maximum(first[:, None, axis], second[None, :, axis]) for axis in (0, 1))
    x1, y1 = (np.minimum(first[:, None, axis], second[None, :, axis]) for axis in (2, 3))
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
        threshold: a box that overlaps a better kept one by more than this is dropped, 0–1.
        overlap: `iou`, or `own-area`: the published LFFD rule, which divides the intersection (sides counted with
            one more pixel) by the lower-scored box's own area, without one more pixel.
        limit: stop after so many kept boxes.

    Returns:
        Indices of the kept boxes, best first.

    Raises:
        UsageError: for an unknown overlap or a threshold outside 0–1.
    """
    if overlap not in ("iou", "own-area"):
        raise UsageError(f"unknown suppression {overlap!r}: choose iou or own-area")
    if not 0 <= threshold <= 1:
        raise UsageError(f"the suppression threshold must lie between 0 and 1, not {threshold}")
    order = np.argsort(-scores, kind="stable")
    table = _table(boxes[order])
    first, second, slack = _proximity_factors(table, threshold, overlap)
    alive = np.arange(order.size)
    kept = [np.zeros(0, np.intp)]
    missing = order.size if limit is None else limit
    block = _MIN_BLOCK
    while alive.size and missing > 0:
        count = min(alive.size, max(_PAIRS // alive.size, block))
        if count > 4 * _MIN_BLOCK and alive.size > _MANY:
            pairs = _near_in_lanes(table[:, alive], first[alive[:count]], second, slack)
        else:
            pairs = _near_pairs(first[alive[:count]], second, slack)
        if pairs is None:
            block = _MIN_BLOCK
            continue
        better, worse = pairs
        # Where few are near each other, more are decided together next time.
        block = 4 * count if alive.size > _MANY and better.size < _PAIRS else _MIN_BLOCK
        drops = np.flatnonzero(_drops(table[:, alive[better]], table[:, alive[worse]], threshold, overlap))
        better, worse = better[drops], worse[drops]
        wins = _greedy(better, worse, count)
        kept.append(order[alive[:count][wins]][:missing])
        missing -= kept[-1].size
        undecided = np.ones(alive.size, np.bool_)
        undecided[:count] = False
        undecided[worse[wins[better]]] = False
        left = np.flatnonzero(undecided)
        alive, second = alive[left], second[:, left]
    return np.concatenate(kept)


_PAIRS = 1 << 18
"""How many pairs of boxes are decided together: enough to keep the calls few, at some 20 MB when all overlap."""

_MIN_BLOCK = 16
"""How many boxes are decided together at least."""

_MANY = 1 << 14
"""From so many boxes on, only boxes that are neighbours in x are multiplied out."""

_PRODUCT = (1 << 18) // 6
"""How many pairs are multiplied out at once. The product stays in the processor's cache, and BLAS on one thread: its
others would have to wait for those of an engine, which spin for a while after a forward pass."""


def _table(boxes: Boxes) -> NDArray[np.float32]:
    """Return rows x0, y0, x1, y1, area `(5, N)`: operations on rows are faster than on columns."""
    table = np.empty((5, len(boxes)), np.float32)
    table[:4] = boxes.T
    table[4] = np.maximum(table[2] - table[0], 0) * np.maximum(table[3] - table[1], 0)
    return table


def _proximity_factors(
    table: NDArray[np.float32], threshold: float, overlap: Overlap
) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32]:
    """Return thin matrices `(N, 6)` and `(6, N)` whose product is under a bound for pairs that may drop each other.

    An IoU over t needs centres nearer than (1 - t) / (1 + t) of half the sum of the sides, in x and in y; an overlap
    by the other rule needs less than half the sum. The sum of both squares is a sum of products of one factor per
    box, so that one matrix product sorts out nearly all pairs.
    """
    border, share = (0, (1 - threshold) / (1 + threshold)) if overlap == "iou" else (1, 1)
    low, high = table[:2].astype(np.float64), table[2:4].astype(np.float64)
    centers = (low + high) / 2
    sides = (high - low + border) * (share / math.sqrt(2))
    if centers.size:
        centers -= centers.mean(axis=1, keepdims=True)
    squares, reach = (centers * centers).sum(axis=0), (sides * sides).sum(axis=0)
    factors = np.ones((6, squares.size), np.float32)
    factors[:2], factors[2:4], factors[4] = centers, sides, squares - reach / 2
    mirror = factors[[0, 1, 2, 3, 5, 4]]
    mirror[:2] *= -2
    mirror[2:4] *= -1
    # Single precision is wrong by less than 40 roundings of the largest square.
    return np.ascontiguousarray(mirror.T), factors, np.float32(40 * 2**-24 * (squares + reach).max(initial=0))


def _near_pairs(
    first: NDArray[np.float32], second: NDArray[np.float32], slack: np.float32
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of `first @ second` under `slack`, where the column is greater than the row."""
    rows, columns = len(first), second.shape[1]
    step = max(1, _PRODUCT // columns)
    product = np.empty((min(step, rows), columns), np.float32)
    found = []
    for start in range(0, rows, step):
        part = first[start : start + step]
        near = np.flatnonzero(np.matmul(part, second, out=product[: len(part)]) < slack)
        found.append(near + start * columns)
    pairs = np.concatenate(found)
    better = pairs // columns
    worse = pairs - better * columns
    later = np.flatnonzero(worse > better)
    return better[later], worse[later]


def _near_in_lanes(
    table: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32], slack: np.float32
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return what `_near_pairs` does, but for pairs apart in x, in less time for sparse boxes; None for a crowd.

    Boxes of like width lie in a lane, sorted by their left side; rows go through in groups that are neighbours in x.
    """
    margin = np.float32(1 + 1e-6 * np.abs(table[:4]).max())  # a border pixel, and roundings
    low, high = np.minimum(table[0], table[2]) - margin, np.maximum(table[0], table[2]) + margin
    rows = np.argsort(low[: len(first)])
    lanes = []
    widths = np.frexp(high - low)[1]
    for width in np.unique(widths):
        lane = np.flatnonzero(widths == width)
        lane = lane[np.argsort(low[lane])]
        lanes.append((lane, low[lane], np.ascontiguousarray(second[:, lane]), (high - low)[lane].max()))
    found, pairs = [np.zeros((2, 0), np.intp)], 0
    for start in range(0, rows.size, _GROUP):
        group = rows[start : start + _GROUP]
        reach = high[group].max()
        for lane, lefts, factors, widest in lanes:
            begin, end = np.searchsorted(lefts, (low[group[0]] - widest, reach))
            near = np.flatnonzero(first[group] @ factors[:, begin:end] < slack)
            row, column = np.divmod(near, max(end - begin, 1))
            found.append(np.stack([group[row], lane[begin:end][column]]))
            pairs += near.size
        if pairs > _CROWD:
            return None
    better, worse = np.concatenate(found, axis=1)
    later = np.flatnonzero(worse > better)
    return better[later], worse[later]


_GROUP = 64
"""Rows that go through the lanes together."""

_CROWD = 1 << 21
"""Pairs that are held at once at most, some 30 MB."""


def _drops(
    better: NDArray[np.float32], worse: NDArray[np.float32], threshold: float, overlap: Overlap
) -> NDArray[np.bool_]:
    """Return whether each box of the table `better` `(5, P)` would drop its partner in `worse` `(5, P)`."""
    common = np.minimum(better[2:4], worse[2:4])
    common -= np.maximum(better[:2], worse[:2])
    if overlap == "own-area":
        common += 1
    np.maximum(common, 0, out=common)
    shared = common[0] * common[1]
    whole = worse[4] if overlap == "own-area" else better[4] + worse[4] - shared
    return np.greater(shared, np.float32(threshold) * whole)


def _greedy(better: NDArray[np.intp], worse: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    """Return which of the best `count` boxes greedy suppression keeps.

    `better` and `worse` are the indices, 0 the best, of each pair in which one would drop the other; pairs whose worse
    box is beyond the `count` that are decided do not matter.
    """
    inside = np.flatnonzero(worse < count)
    better, worse = better[inside], worse[inside]
    open_, kept = np.ones(count, np.bool_), np.zeros(count, np.bool_)
    while open_.any():
        # Who is dropped by nobody still open is kept, and drops its own.
        free = open_.copy()
        free[worse] = False
        kept |= free
        open_ &= ~free
        open_[worse[free[better]]] = False
        left = np.flatnonzero(open_[better] & open_[worse])
        better, worse = better[left], worse[left]
    return kept
