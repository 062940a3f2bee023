"""Which objects train which cells: the rule that a network declares, by name.

To add a rule, write a `LabelMaker`, made from network, crop side in pixels and policy, and list it in `ASSIGNMENTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.anchor_matching import AnchorAssignment
from data_iterator_farm.label_maps import IGNORED, POSITIVE, ClassMap, LabelMaker, Positives
from data_iterator_farm.policies import LabelPolicy
from lffd.boxes import Boxes, longer_sides
from lffd.errors import UsageError
from lffd.graphs.network import Network
from lffd.training.losses import BOX_ALONE

Exact = NDArray[np.float64]
Cells = NDArray[np.intp]
"""Rectangles of cells: left, top, right, bottom, the last two excluded."""


class RangeAssignment(LabelMaker):
    """LFFD's rule (arXiv 1904.10633, section 3.3), for all crops of a batch at once.

    The receptive field's centre decides, and the box's longer side says on which branch. Inside one box of the
    branch's range a cell is positive; inside a box of almost that size, or inside several, it takes no part in the
    score's loss; all else is background. One prediction per cell.
    """

    def __init__(self, network: Network, size: int, policy: LabelPolicy) -> None:
        super().__init__(network)
        shapes, branches, self._policy = network.map_sizes(size, size), network.branch_geometry, policy
        ranges = np.array([branch.object_range for branch in branches], np.float64)
        grays = np.array([branch.gray_range for branch in branches], np.float64)
        ranges[-1, 1] *= policy.last_range_factor
        if policy.last_range_factor != 1:
            grays[-1, 1] = np.ceil(round(1.1 * ranges[-1, 1], 6))
        if policy.ignore_larger:
            grays[-1, 1] = np.inf
        self._ranges, self._grays = ranges[:, :, None], grays[:, :, None]
        self._starts = np.array([branch.first_center for branch in branches], np.float64)[:, None]
        self._strides = np.array([branch.stride for branch in branches], np.float64)[:, None]
        self._limits = np.array([(width, height) for height, width in shapes], np.float64)
        self._areas = np.array([height * width for height, width in shapes])
        self._bases = np.cumsum([0, *self._areas])

    def claim(
        self, boxes: Boxes, ignored: NDArray[np.bool_], crops: NDArray[np.intp], classes: Sequence[ClassMap]
    ) -> list[Positives]:
        """Mark ignored cells, and return the positive ones of each branch; see `LabelMaker`."""
        sides = longer_sides(boxes).astype(np.float64)
        small = sides < self._policy.smallest
        faces = ~ignored & ~small
        hidden = (small & ~ignored) | (ignored & (self._policy.ignored_boxes == "ignore"))
        positive = faces & _within(sides, self._ranges)
        gray = faces & ~positive & _within(sides, self._grays)
        exact = boxes.astype(np.float64)
        self._ignore(exact, crops, gray | hidden, classes)
        if not positive.any():
            nothing = np.zeros(0, np.intp)
            return [Positives(nothing, nothing)] * len(classes)
        cells, owners, contested = self._settle(*self._claims(exact, crops, positive, classes[0].shape[0]))
        taught = np.full(cells.shape, POSITIVE, np.int8)
        if not self._policy.positive_over_ignored:
            kept = self._not_ignored(cells, classes)
            if self._policy.ignored_keep_box:
                taught[~kept] = BOX_ALONE
            else:
                cells, owners, taught = cells[kept], owners[kept], taught[kept]
        if self._policy.positive_region < 1:
            self._ignore(exact, crops, positive, classes)
        for maps, clash in zip(classes, self._split(contested, classes), strict=True):
            maps.reshape(-1)[clash] = IGNORED
        parts = self._split(cells, classes)
        ends = np.cumsum([part.size for part in parts])[:-1]
        return list(map(Positives, parts, np.split(owners, ends), np.split(taught, ends)))

    def _cells(self, boxes: Exact, branches: NDArray[np.intp]) -> Cells:
        """Return `(P, 4)`: the cells of a branch with centres in each box `(P, 4)`, borders included."""
        places = (boxes - self._starts[branches]) / self._strides[branches]
        corners = np.concatenate((np.ceil(places[:, :2]), np.floor(places[:, 2:]) + 1), axis=1)
        return np.minimum(np.maximum(corners, 0), np.tile(self._limits[branches], 2)).astype(np.intp)

    def _ignore(
        self, boxes: Exact, crops: NDArray[np.intp], chosen: NDArray[np.bool_], classes: Sequence[ClassMap]
    ) -> None:
        """Ignore every cell with its centre in the boxes `(N, 4)` chosen by `(branches, N)`."""
        branches, which = np.nonzero(chosen)
        cells = self._cells(boxes[which], branches)
        full = ~_empty(cells)
        places = np.column_stack((branches, crops[which], cells))[full]
        for k, crop, left, top, right, bottom in places.tolist():
            classes[k][crop, :, top:bottom, left:right] = IGNORED

    def _claims(
        self, boxes: Exact, crops: NDArray[np.intp], positive: NDArray[np.bool_], count: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """List the cells that boxes `(N, 4)` in `count` crops claim on the branches of `positive` `(branches, N)`.

        Returns:
            Numbers of cells, perhaps several times each; those of a branch follow each other, and so do those of a
            crop within it. The box that claims each; its centre's squared distance from the cell's, in cells.
        """
        branches, owners = np.nonzero(positive)
        boxes = boxes[owners]
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        middle_cell = (middle - self._starts[branches]) / self._strides[branches]
        if self._policy.positive_region < 1:
            half = (boxes[:, 2:] - boxes[:, :2]) * (self._policy.positive_region / 2)
            boxes = np.concatenate((middle - half, middle + half), axis=1)
        region = self._cells(boxes, branches)
        if self._policy.nearest_cell:
            empty = _empty(region)
            nearest = np.ceil(middle_cell[empty] - 0.5)  # halfway between two cells: the first
            nearest = np.minimum(np.maximum(nearest, 0), self._limits[branches[empty]] - 1)
            region[empty] = np.concatenate((nearest, nearest + 1), axis=1)
        which, columns, rows = _list_cells(region)
        start = self._bases[branches] * count + self._areas[branches] * crops[owners]
        widths = self._limits[branches, 0].astype(np.intp)
        cells = start[which] + rows * widths[which] + columns
        distances = (middle_cell[which, 0] - columns) ** 2 + (middle_cell[which, 1] - rows) ** 2
        return cells, owners[which], distances

    def _settle(
        self, cells: NDArray[np.intp], owners: NDArray[np.intp], distances: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return the positive ones among claimed cells, their boxes, and cells to ignore; cells in growing order."""
        if self._policy.overlap == "nearest":
            order = np.argsort(distances, kind="stable")
            cells, first = np.unique(cells[order], return_index=True)
            return cells, owners[order][first], cells[:0]
        cells, first, count = np.unique(cells, return_index=True, return_counts=True)
        alone = count == 1
        return cells[alone], owners[first[alone]], cells[~alone]

    def _not_ignored(self, cells: NDArray[np.intp], classes: Sequence[ClassMap]) -> NDArray[np.bool_]:
        """Return which of the cells are not ignored so far."""
        parts = zip(classes, self._split(cells, classes), strict=True)
        return np.concatenate([maps.reshape(-1)[mine] != IGNORED for maps, mine in parts])

    def _split(self, cells: NDArray[np.intp], classes: Sequence[ClassMap]) -> list[NDArray[np.intp]]:
        """Return growing cell numbers per branch, counted from the branch's first cell."""
        bases = self._bases * classes[0].shape[0]
        ends = np.searchsorted(cells, bases)
        return [cells[ends[k] : ends[k + 1]] - bases[k] for k in range(len(classes))]


def _within(sides: NDArray[np.float64], ranges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return `(branches, N)`: whether each side lies within each range `(branches, 2, 1)`, ends included."""
    return (ranges[:, 0] <= sides) & (sides <= ranges[:, 1])


def _empty(cells: Cells) -> NDArray[np.bool_]:
    """Return which rectangles of cells hold none."""
    return (cells[:, 2] <= cells[:, 0]) | (cells[:, 3] <= cells[:, 1])


def _list_cells(rectangles: Cells) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """List the cells of rectangles `(P, 4)` one after the other; `(M,)` each: which rectangle, column, row."""
    width = np.maximum(rectangles[:, 2] - rectangles[:, 0], 0)
    counts = width * np.maximum(rectangles[:, 3] - rectangles[:, 1], 0)
    which = np.repeat(np.arange(len(rectangles)), counts)
    within = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(within, width[which])
    return which, rectangles[which, 0] + column, rectangles[which, 1] + row


ASSIGNMENTS: dict[str, Callable[[Network, int, LabelPolicy], LabelMaker]] = {
    "ranges": RangeAssignment,
    "anchors": AnchorAssignment,
}
"""Every rule by the name under which a network declares it."""


def label_maker(network: Network, size: int, policy: LabelPolicy) -> LabelMaker:
    """Return what labels crops of `size` pixels by the network's rule; raises `UsageError` for an unknown one."""
    if network.assignment not in ASSIGNMENTS:
        known = ", ".join(ASSIGNMENTS)
        raise UsageError(f"{network.name}: assignment {network.assignment!r} is not one of {known}")
    return ASSIGNMENTS[network.assignment](network, size, policy)
