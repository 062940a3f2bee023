"""The same object in one frame after the other: ids that stay, by overlap with where each object should be by now.

After SORT (Bewley et al., arXiv 1602.00763): a Kalman filter of constant velocity per object, and the assignment of
detections to predicted boxes that has the largest sum of IoUs. Changed: noise grows with an object's size and with the
time between frames, so that frames may be left out; an object may be hidden for a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes, iou

LEAST_OVERLAP = 0.2
"""A detection that overlaps less with where an object should be is another object."""

HIDDEN_S = 1.0
"""An object that is not seen for so long is gone; if it comes back, it gets a new id."""

MEASURED_STD, SPEED_STD, UNREST = 0.05, 2.0, 4.0
"""In sides of the object: error of a detection, speed per second of a new object, variance of the speed's change."""


class Tracker:
    """Gives the objects of one video ids, counted from 1; feed it every frame that is looked at, in order."""

    def __init__(self) -> None:
        self._next, self._time = 1, 0.0
        self._ids = np.zeros(0, np.int64)
        self._seen = np.zeros(0)
        # Centre x and y, width, height of each object, and how fast each of the four changes per second.
        self._place, self._speed = np.zeros((0, 4)), np.zeros((0, 4))
        # One covariance of place and speed for all four, in squares of the object's side.
        self._spread = np.zeros((0, 2, 2))

    @property
    def count(self) -> int:
        """How many objects there were so far."""
        return self._next - 1

    def update(self, boxes: Boxes, time: float) -> NDArray[np.int64]:
        """Return the ids `(N,)` of the objects found in a frame.

        Args:
            boxes: `(N, 4)` xyxy in pixels.
            time: of the frame in seconds; never falls.
        """
        self._keep(time - self._seen <= HIDDEN_S)
        self._predict(max(time - self._time, 0.0))
        self._time = time
        found = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
        rows, columns = self._assign(boxes)
        self._correct(rows, found[columns])
        self._seen[rows] = time
        ids = np.zeros(len(boxes), np.int64)
        ids[columns] = self._ids[rows]
        new = np.flatnonzero(ids == 0)
        ids[new] = np.arange(self._next, self._next + new.size)
        self._add(ids[new], found[new], time)
        return ids

    def _assign(self, boxes: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return which objects are which boxes."""
        from scipy.optimize import linear_sum_assignment

        half = np.maximum(self._place[:, 2:], 0) / 2
        expected = np.concatenate([self._place[:, :2] - half, self._place[:, :2] + half], axis=1).astype(np.float32)
        overlaps = iou(expected, boxes)
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        good = overlaps[rows, columns] >= LEAST_OVERLAP
        return rows[good], columns[good]

    def _predict(self, step: float) -> None:
        """Move the objects on by a time in seconds."""
        self._place = self._place + step * self._speed
        move = np.array([[1.0, step], [0.0, 1.0]])
        noise = UNREST * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
        self._spread = move @ self._spread @ move.T + noise

    def _correct(self, rows: NDArray[np.intp], found: NDArray[np.float64]) -> None:
        """Take in where objects were found, `(K, 4)`."""
        spread = self._spread[rows]
        gain = spread[:, :, 0] / (spread[:, 0, 0] + MEASURED_STD**2)[:, None]
        error = found - self._place[rows]
        self._place[rows] += gain[:, :1] * error
        self._speed[rows] += gain[:, 1:] * error
        self._spread[rows] = spread - gain[:, :, None] * spread[:, None, 0]

    def _add(self, ids: NDArray[np.int64], found: NDArray[np.float64], time: float) -> None:
        """Begin with objects that were not there before; how fast they move is not known yet."""
        count = ids.size
        self._next += count
        self._ids, self._seen = np.append(self._ids, ids), np.append(self._seen, np.full(count, time))
        self._place, self._speed = np.concatenate([self._place, found]), np.concatenate([self._speed, 0 * found])
        start = np.diag([MEASURED_STD**2, SPEED_STD**2])
        self._spread = np.concatenate([self._spread, np.broadcast_to(start, (count, 2, 2))])

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget the objects that have gone."""
        self._ids, self._seen = self._ids[kept], self._seen[kept]
        self._place, self._speed, self._spread = self._place[kept], self._speed[kept], self._spread[kept]
