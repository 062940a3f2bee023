"""A branch of a network, elsewhere called a level: which objects it finds, and where its cells lie in the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.graphs.codes import CODES, CORNERS

CHANNELS = {"score": 1, "box": 4, "landmarks": 10}
"""What a branch may say of each prediction, and in how many channels of the deployed graph: the object's probability;
its box; five points as x and y of left eye, right eye, nose, left and right mouth corner."""


Grid = tuple[tuple[float, float], tuple[float, float]]
"""Of x and of y: first centre and step in pixels."""


def square_grid(first: float, step: float) -> Grid:
    """Return a grid that is the same along x and y."""
    return (first, step), (first, step)


@dataclass(frozen=True)
class Branch:
    """Where a detection branch hangs, and what it is responsible for.

    Attributes:
        layer: name of the layer that it reads, such as `conv8`; for people.
        object_range: lower and upper longer side of its objects in pixels, both included.
        anchors: width and height in pixels of each prediction of a cell, which its box code is relative to; one of
            half the range's upper end both ways when empty, as LFFD has it.
        grid: along x and along y, the input pixel under the middle of the first cell's predictions, and pixels from one
            cell's to the next; where the cells' receptive fields have their middles when None, as LFFD has it.
    """

    layer: str
    object_range: tuple[float, float]
    anchors: tuple[tuple[float, float], ...] = ()
    grid: Grid | None = None

    @property
    def units(self) -> tuple[tuple[float, float], ...]:
        """Width and height in pixels that the code of each prediction of a cell is relative to."""
        return self.anchors or ((self.object_range[1] / 2,) * 2,)


@dataclass(frozen=True)
class BranchGeometry:
    """One branch's place in the input, and its box code.

    Attributes:
        index: position among the network's branches, shallowest first.
        layer: the layer it hangs on.
        object_range: longer sides in pixels, both ends included, that are positive here.
        gray_range: longer sides from `floor(0.9 low)` to `ceil(1.1 high)`; those outside `object_range` are
            ignored here.
        stride, receptive_field: of its cells, in input pixels.
        first_center: x of the first cell's predictions, in input pixels.
        units: see `Branch`.
        grid: where its predictions have their middles; see `Branch`.
        code: name of its box code in `codes.CODES`.
    """

    index: int
    layer: str
    object_range: tuple[float, float]
    gray_range: tuple[float, float]
    stride: int
    receptive_field: int
    first_center: float
    units: tuple[tuple[float, float], ...]
    grid: Grid
    code: str = CORNERS

    @property
    def normalizer(self) -> float:
        """Unit of the first prediction's code in pixels: in LFFD, half of the range's upper end."""
        return self.units[0][0]

    def centers(self, count: int, axis: int = 0) -> NDArray[np.float32]:
        """Return the input coordinate of `count` consecutive cells' predictions along x (0) or y (1), `(count,)`."""
        first, step = self.grid[axis]
        return (first + step * np.arange(count)).astype(np.float32)

    def places(self, columns: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return x and y `(N, 2)` of the middles of cells' predictions, by column and row `(N,)`, in input pixels."""
        (x, dx), (y, dy) = self.grid
        return np.stack((x + dx * columns, y + dy * rows), axis=1).astype(np.float32)

    def encode(
        self, boxes: NDArray[np.float32], centers: NDArray[np.float32], prediction: int = 0
    ) -> NDArray[np.float32]:
        """Return the box code of boxes.

        Args:
            boxes: `(N, 4)` xyxy in pixels.
            centers: `(N, 2)` x, y of the cell that predicts each box.
            prediction: which of the cell's predictions.
        """
        unit = np.asarray(self.units[prediction], np.float32)
        corners = (boxes - np.tile(centers, 2)) / np.tile(unit, 2)
        return CODES[self.code].encode(corners).astype(np.float32)

    def decode(
        self, codes: NDArray[np.float32], centers: NDArray[np.float32], prediction: int | NDArray[np.intp] = 0
    ) -> NDArray[np.float32]:
        """Return boxes `(N, 4)` xyxy in pixels from codes `(N, 4)` at centres `(N, 2)`; the inverse of `encode`."""
        units = np.asarray(self.units, np.float32)[prediction]
        corners = np.stack(CODES[self.code].corners(list(codes.T), np), axis=1)
        return (np.tile(centers, 2) + corners * np.tile(units, 2)).astype(np.float32)

    def encode_points(
        self, points: NDArray[np.float32], centers: NDArray[np.float32], prediction: int = 0
    ) -> NDArray[np.float32]:
        """Return what `landmarks` says `(N, 10)` of points `(N, 5, 2)` in pixels: offsets from the cell, in its units.

        Args:
            points: x, y of each.
            centers: `(N, 2)` x, y of the cell that predicts each face.
            prediction: which of the cell's predictions.
        """
        unit = CODES[self.code].point_unit * np.asarray(self.units[prediction], np.float32)
        return ((points - centers[:, None]) / unit).reshape(-1, CHANNELS["landmarks"]).astype(np.float32)

    def decode_points(
        self, codes: NDArray[np.float32], centers: NDArray[np.float32], prediction: int | NDArray[np.intp] = 0
    ) -> NDArray[np.float32]:
        """Return points `(N, 5, 2)` in pixels from codes `(N, 10)`; the inverse of `encode_points`."""
        units = CODES[self.code].point_unit * np.asarray(self.units, np.float32)[prediction].reshape(-1, 1, 2)
        return (centers[:, None] + codes.reshape(len(codes), -1, 2) * units).astype(np.float32)
